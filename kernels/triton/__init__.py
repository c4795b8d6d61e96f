"""The kernels on GPUs: a search that is screened in fp16 and exact, clustering, losses.

    codebook.py           kernel  codewords scaled, split and laid out for the tensor cores
    tiles.py              data    tile per architecture
    score.py              device  split, score, error bound, best two
    queue.py              device  the rows one stage leaves to the next
    screen.py             kernel  D ≤ 128: all levels in one launch, the residual in registers
    screen_wide.py        kernel  D > 128: one level a launch, a tiled product ending in arg-min
    residual_at.py        device  r before a level, from x and codes
    exact.py, settle.py   kernel  rows no screen certifies: float64, then integer limbs
    gather.py             kernel  quantized = Σ codewords
    residuals.py          kernel  x − Σ codewords, between levels with and without Sinkhorn
    nearest.py, nearest_bounded.py, residual_search.py, residual_search_beam.py    the operations
    cluster_sums.py, within.py                                       two with kernels of their own
    ascent.py             kernel  prices of clusters of bounded size: counts and steps on the device
    balanced_lloyd.py     host    size-constrained k-means: all these, and a repair on the CPU
    mlp.py                kernel  encoder and decoder: few launches for many small layers
    contrastive.py, diversity.py, residual_losses.py                 the losses and their gradients
    weighted_total.py, joined_codes.py                              sums and codes in one launch
    sinkhorn_small.py     kernel  the uniform mapping, float64, of groups that fit in registers
    sinkhorn_large.py     kernel  the same of larger groups, all sweeps in one launch
    sinkhorn_codes.py, sinkhorn_distances.py      the mapping's operation, and what both kernels use

A search goes through an fp16 screen, fp16×3 for what that leaves, then float64, then exact sums.
Not measured on a GPU yet.
"""

from .balanced_lloyd import balanced_lloyd as balanced_lloyd
from .cluster_sums import cluster_sums as cluster_sums
from .contrastive import contrastive as contrastive
from .contrastive import contrastive_gradient_h as contrastive_gradient_h
from .diversity import diversity as diversity
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
