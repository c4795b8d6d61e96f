"""From who had what and what the items are called to Recall@10 of a generator that writes IDs.

python examples/interactions_to_recall.py --items items.csv --interactions had.csv --epochs 20

items.csv: item,text. had.csv: user,item,time. Without them a small shop is made up. The last item
of each user is the test; nothing else here sees it. `python -m bench.recommend` does the
same with care: validation, seeds, other IDs to compare with.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import T5Config, T5ForConditionalGeneration

import letter_fast as lf
from letter_fast.demo.cooccurrence import cooccurrence_vectors
from letter_fast.tokenization import IdConstraint

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--items", type=Path)
options.add_argument("--interactions", type=Path)
options.add_argument("--codes", type=int, nargs="+", default=[16, 16, 16])
options.add_argument("--epochs", type=int, default=3, help="of the generator")
chosen = options.parse_args()
PAD, END, FIRST = 0, 1, 2  # token ids; codes begin at 2
HISTORY, BEAMS = 5, 10
torch.manual_seed(0)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shop() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Users of one taste go through its things in turn."""
    things, colours = ("shirt", "chair", "lamp", "cup", "bag", "book"), ("red", "blue", "green")
    made = [(t, c, n) for t in things for c in colours for n in range(20)]
    items = [{"item": f"i{k}", "text": f"{c} {t} model{n}"} for k, (t, c, n) in enumerate(made)]
    draw, had = np.random.default_rng(0), []
    for user in range(300):
        first, start = 20 * draw.integers(len(made) // 20), draw.integers(20)
        for time in range(8):
            item = first + (start + time) % 20
            had.append({"user": f"u{user}", "item": f"i{item}", "time": str(time)})
    return items, had


items, had = shop() if chosen.items is None else (read(chosen.items), read(chosen.interactions))
row = {item["item"]: place for place, item in enumerate(items)}
of_user = defaultdict(list)
for one in sorted(had, key=lambda one: float(one["time"])):
    of_user[one["user"]].append(row[one["item"]])
sequences = [sequence for sequence in of_user.values() if len(sequence) > 2]
training = [sequence[:-1] for sequence in sequences]

# Item vectors: what is written about them (better: a language model), and who had them.
words = TfidfVectorizer().fit_transform([item["text"] for item in items])
width = min(64, min(words.shape) - 1)
text = TruncatedSVD(width, random_state=0).fit_transform(words).astype(np.float32)
cf = cooccurrence_vectors(training, len(items), width=16)

config = lf.LetterConfig(
    input_dim=width, hidden=(64, 32), latent_dim=16, codebook_size=tuple(chosen.codes),
    diversity_clusters=4,
)  # fmt: skip
letter = lf.Letter(config)
lf.train(letter, text, cf, settings=lf.TrainSettings(epochs=50, batch_size=64, revive_after=5))
ids = lf.tokenize(letter, text, item_ids=list(row))
tokens = torch.from_numpy(ids.token_ids(FIRST))  # [items, levels]

generator = T5ForConditionalGeneration(
    T5Config(
        vocab_size=FIRST + len(ids.vocabulary()), d_model=48, d_kv=12, d_ff=96, num_layers=2,
        num_heads=4, dropout_rate=0.0, pad_token_id=PAD, eos_token_id=END,
        decoder_start_token_id=PAD,
    )
)  # fmt: skip
optimizer = torch.optim.AdamW(generator.parameters(), 3e-3)


def histories(before: list[list[int]]) -> torch.Tensor:
    """The tokens of the latest items of each history, padded on the right."""
    parts = [tokens[history[-HISTORY:]].flatten() for history in before]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=PAD)


steps = [(s[:end], s[end]) for s in training for end in range(1, len(s))]
for epoch in range(chosen.epochs):
    order = torch.randperm(len(steps)).split(128)
    for batch in order:
        before = histories([steps[k][0] for k in batch])
        target = tokens[[steps[k][1] for k in batch]]
        target = torch.nn.functional.pad(target, (0, 1), value=END)
        mask = before.ne(PAD).long()
        loss = generator(input_ids=before, attention_mask=mask, labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

generator.eval()
hits = 0
for begin in range(0, len(sequences), 64):
    part = sequences[begin : begin + 64]
    before = histories([sequence[:-1] for sequence in part])
    written = generator.generate(
        before,
        attention_mask=before.ne(PAD).long(),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=len(ids.sizes) + 1,
        logits_processor=[IdConstraint(ids.trie(), FIRST, eos_token_id=END)],
    )
    found = ids.decode(written, FIRST, prompt_length=1, beams=BEAMS)
    wanted = [items[sequence[-1]]["item"] for sequence in part]
    hits += sum(item in best for item, best in zip(wanted, found, strict=True))
recall, chance = hits / len(sequences), 10 / len(ids)
print(f"Recall@10 {recall:.3f} of {len(sequences)} users; by chance {chance:.3f}")
