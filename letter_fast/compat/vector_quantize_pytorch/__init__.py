"""ResidualVQ and GroupedResidualVQ of vector-quantize-pytorch (lucidrains).

    from letter_fast.compat.vector_quantize_pytorch import ResidualVQ

State dicts are theirs, in both directions; from one seed so are the weights.
docs/migration/vector-quantize-pytorch.md lists what differs on purpose; options that aren't here
raise NotImplementedError by name.

residual_vq       the walk over levels, by the kernels wherever they can see several at once
vector_quantize   one level, `layers[i]`
codebook          its codewords: moving averages, their start, dead ones
rows              what goes in and comes out: checks, padding
gradient          ways for an output's gradient to the input
neural            codewords that depend on the levels before (QINCo)
summed_beam       beam search with the package's score
grouped           a ResidualVQ for each part of the columns
options           what is refused, and in which words
"""

from .grouped import GroupedResidualVQ
from .residual_vq import ResidualVQ

__all__ = ["GroupedResidualVQ", "ResidualVQ"]
