"""Residual k-means on any vectors: fit, encode, decode, and how much each level explains."""

import torch

import letter_fast as lf

torch.manual_seed(0)
centres = torch.randn(50, 16)
vectors = centres[torch.randint(50, (2000,))] + 0.2 * torch.randn(2000, 16)

quantizer = lf.ResidualQuantizer(dim=16, codebook_size=[32, 32, 32]).eval()
quantizer.fit(vectors, method="balanced_kmeans")
codes = quantizer.encode(vectors)
for depth in (1, 2, 3):
    error = (vectors - quantizer.decode(codes[:, :depth])).square().sum() / vectors.square().sum()
    print(f"{depth} levels leave {error:.1%}; the first item is {codes[0, :depth].tolist()}")
