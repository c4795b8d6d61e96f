"""The kernels as operators of PyTorch: schema, shape rules and dispatch, one file an op."""

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
from .mlp import mlp_has_kernels as mlp_has_kernels
from .nearest import nearest as nearest
from .nearest_bounded import nearest_bounded as nearest_bounded
from .residual_losses import residual_losses as residual_losses
from .residual_losses import residual_losses_backward as residual_losses_backward
from .residual_search import residual_search as residual_search
from .residual_search_beam import residual_search_beam as residual_search_beam
from .residuals import residuals as residuals
from .sinkhorn_codes import sinkhorn_codes as sinkhorn_codes
from .weighted_total import weighted_total as weighted_total
from .weighted_total import weighted_total_backward as weighted_total_backward
