"""A T5 that recommends: trained on sequences of semantic IDs, it writes only IDs that exist.

python examples/t5_constrained_decoding.py [--steps 500]

The T5 is small and starts at random; nothing is downloaded. Its vocabulary is <pad>, </s> and one
token for each code of each level. With a tokenizer: `ids.vocabulary().add_to(tokenizer)`.
"""

import argparse

import torch
from transformers import T5Config, T5ForConditionalGeneration

import letter_fast as lf
from letter_fast.tokenization import IdConstraint

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--steps", type=int, default=10)
options.add_argument("--beams", type=int, default=5)
chosen = options.parse_args()

torch.manual_seed(0)
PAD, END, FIRST = 0, 1, 2  # token ids; codes begin at 2

# A catalog of 200 items and users who go from an item to the next one.
embeddings = torch.randn(20, 16).repeat_interleave(10, dim=0) + 0.3 * torch.randn(200, 16)
config = lf.ResidualKMeansConfig(input_dim=16, codebook_size=(8, 8, 8))
ids = lf.tokenize(lf.ResidualKMeans(config).fit(embeddings), embeddings)
words = torch.from_numpy(ids.token_ids(FIRST))  # [items, 3]

model = T5ForConditionalGeneration(
    T5Config(
        vocab_size=FIRST + len(ids.vocabulary()),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
for step in range(chosen.steps):
    item = torch.randint(198, (64,))
    history = torch.cat([words[item], words[item + 1]], dim=1)
    ends = torch.full((64, 1), END)
    loss = model(input_ids=history, labels=torch.cat([words[item + 2], ends], dim=1)).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(chosen.steps // 4, 1) == 0:
        print(f"step {step:4d}  loss {loss.item():.3f}")

constraint = IdConstraint(ids.trie(), FIRST, eos_token_id=END)
model.eval()
seen = torch.tensor([[10, 11], [57, 58]])
written = model.generate(
    words[seen].flatten(1),
    num_beams=chosen.beams,
    num_return_sequences=chosen.beams,
    max_new_tokens=len(ids.sizes) + 1,
    logits_processor=[constraint],
)
# prompt_length is 1: the decoder begins with one token of its own.
found = ids.decode(written, FIRST, prompt_length=1, beams=chosen.beams)
for pair, items in zip(seen.tolist(), found, strict=True):
    assert len(items) == chosen.beams, "a beam wrote an ID that no item has"
    print(f"after items {pair}: {items}")
