"""Do these IDs recommend better? IDs × data set × seed → a small T5 → Recall and NDCG.

The data's way is that of the files: `data` (and `interactions`) → `ids` → `generator` → `beam` →
`metrics`; `runs` does one run and keeps it, `report` makes table and chart of all.

What was chosen, so that nothing leaks and every kind of IDs has the same chances:

- Tokenizers and generator learn from training interactions only; CF vectors are made of those alone
  and text embeddings of titles and descriptions alone. Validation picks the epoch of the generator
  (NDCG@10) and every setting; test is read once a run, after that.
- The test history of a user holds what came before the target, validation's target included. Items
  of the history may be recommended again. The catalog is all items, also those nobody had in
  training.
- All kinds have one shape (levels × codewords), unique IDs (`tokenize`, unique="optimal"), one
  generator and budget. A seed seeds tokenizer and generator alike.
- Published IDs are taken as they are: of the few that name two items, either counts as a hit.
- Each epoch trains on a fresh draw of at most `samples` (history, next item) pairs of all users.
"""
