"""An existing training loop with its quantizer swapped: the import is all that changed.

python examples/swap_quantizer.py [--steps 2000]
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

# was: from vector_quantize_pytorch import ResidualVQ
from letter_fast.compat.vector_quantize_pytorch import ResidualVQ

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--steps", type=int, default=60)
steps = options.parse_args().steps

torch.manual_seed(0)
centres = torch.randn(200, 64)
items = centres[torch.randint(200, (5000,))] + 0.3 * torch.randn(5000, 64)

encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
decoder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64))
quantizer = ResidualVQ(
    dim=16,
    num_quantizers=3,
    codebook_size=64,
    kmeans_init=True,
    decay=0.9,
    commitment_weight=0.25,
    threshold_ema_dead_code=2,
)
optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], 1e-3)
for step in range(steps):
    batch = items[torch.randint(len(items), (512,))]
    quantized, _, commitment = quantizer(encoder(batch))
    reconstruction = F.mse_loss(decoder(quantized), batch)
    loss = reconstruction + commitment.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(steps // 4, 1) == 0:
        print(f"step {step:4d}  reconstruction {reconstruction.item():.4f}")

with torch.no_grad():
    codes = quantizer.eval()(encoder(items))[1]
print(
    f"{len(codes.unique(dim=0))} distinct IDs of {len(items)} items; item 0 is {codes[0].tolist()}"
)
