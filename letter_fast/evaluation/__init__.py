"""The quality of a tokenizer: measures, tables and plots."""

from .measures import Evaluation, evaluate
from .tables import comparison_table

__all__ = ["Evaluation", "comparison_table", "evaluate"]
