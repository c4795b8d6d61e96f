"""A decoder-only model that recommends: prompts of any length, beams of IDs that exist.

python examples/decoder_only_recommender.py [--steps 500]

A small Llama from scratch, so that nothing is downloaded. With a pretrained model and tokenizer:
`added = ids.vocabulary().add_to(tokenizer)`, `model.resize_token_embeddings(len(tokenizer))`, and
`added.start` in place of FIRST.
"""

import argparse

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import letter_fast as lf
from letter_fast.tokenization import IdConstraint

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--steps", type=int, default=10)
options.add_argument("--beams", type=int, default=5)
chosen = options.parse_args()

torch.manual_seed(0)
PAD, END, ASK, FIRST = 0, 1, 2, 3  # token ids; ASK stands between history and answer

# A catalog of 200 items and users who go from an item to the next one.
embeddings = torch.randn(20, 16).repeat_interleave(10, dim=0) + 0.3 * torch.randn(200, 16)
config = lf.ResidualKMeansConfig(input_dim=16, codebook_size=(8, 8, 8), balanced=True)
ids = lf.tokenize(lf.ResidualKMeans(config).fit(embeddings), embeddings)
tokens = torch.from_numpy(ids.token_ids(FIRST))  # [items, 3]

model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=FIRST + len(ids.vocabulary()),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
        tie_word_embeddings=True,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)


def prompts(histories: list[list[int]]) -> torch.Tensor:
    """Histories and ASK, padded on the left, so that all answers begin at one place."""
    rows = [[*tokens[history].flatten().tolist(), ASK] for history in histories]
    longest = max(map(len, rows))
    return torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])


for step in range(chosen.steps):
    first = torch.randint(190, (64,)).tolist()
    length = torch.randint(1, 5, (64,)).tolist()
    before = prompts([list(range(item, item + n)) for item, n in zip(first, length)])
    target = tokens[[item + n for item, n in zip(first, length)]]
    answer = torch.nn.functional.pad(target, (0, 1), value=END)
    whole = torch.cat([before, answer], dim=1)
    labels = torch.cat([torch.full_like(before, -100), answer], dim=1)  # learn the answer only
    loss = model(input_ids=whole, attention_mask=whole.ne(PAD).long(), labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(chosen.steps // 4, 1) == 0:
        print(f"step {step:4d}  loss {loss.item():.3f}")

model.eval()
seen = [[10, 11], [57, 58, 59, 60]]
before = prompts(seen)
written = model.generate(
    before,
    attention_mask=before.ne(PAD).long(),
    num_beams=chosen.beams,
    num_return_sequences=chosen.beams,
    max_new_tokens=len(ids.sizes) + 1,
    logits_processor=[IdConstraint(ids.trie(), FIRST, eos_token_id=END)],
)
found = ids.decode(written, FIRST, prompt_length=before.shape[1], beams=chosen.beams)
for history, items in zip(seen, found, strict=True):
    assert len(items) == chosen.beams, "a beam wrote an ID that no item has"
    print(f"after items {history}: {items}")
