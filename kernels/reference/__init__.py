"""The specification: plain PyTorch; float64 decides a code, exact sums where float64 can't.

The docstring of an operation here is its contract with every backend, which has a function of the
same name and parameters. Inputs are trusted to have the shapes and dtypes named there
(letter_fast/ops/checks.py). Codes outside their codebook and groups that are none raise ValueError
on the CPU (refusals.py); on a GPU, which the host does not wait for, they are trusted.

x is float32, float16 or bfloat16 with any strides and is compared as float32; codebooks and offsets
are contiguous. A row with NaN or Inf gets code −1, quantized 0, and NaN for every other number. A
codeword with NaN or Inf is never chosen.

Losses take contiguous float32 (here also float64) and return the same. The other backends give the
same bits from run to run, whatever the number of threads.
"""

from .balanced_lloyd import balanced_lloyd as balanced_lloyd
from .cluster_sums import cluster_sums as cluster_sums
from .contrastive import contrastive as contrastive
from .contrastive import contrastive_gradient_h as contrastive_gradient_h
from .distinct_codes import distinct_codes as distinct_codes
from .diversity import diversity as diversity
from .evict_codes import evict_codes as evict_codes
from .joined_codes import joined_codes as joined_codes
from .kmeans_plusplus import kmeans_plusplus as kmeans_plusplus
from .mlp import mlp as mlp
from .mlp import mlp_backward as mlp_backward
from .nearest import nearest as nearest
from .nearest_bounded import nearest_bounded as nearest_bounded
from .residual_losses import residual_losses as residual_losses
from .residual_losses import residual_losses_backward as residual_losses_backward
from .residual_losses import residual_terms as residual_terms
from .residual_losses import residual_weights as residual_weights
from .residual_search import residual_search as residual_search
from .residual_search_beam import residual_search_beam as residual_search_beam
from .residuals import residuals as residuals
from .sinkhorn_codes import sinkhorn_codes as sinkhorn_codes
from .weighted_total import weighted_total as weighted_total
from .weighted_total import weighted_total_backward as weighted_total_backward
from .within import within as within
