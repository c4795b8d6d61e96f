"""From a model and a catalog to a table of unique semantic IDs, and on to whoever uses them."""

from .collisions import (
    POLICIES,
    CollisionStatistics,
    ResolutionReport,
    collision_statistics,
    resolve,
)
from .decoding import IdConstraint
from .diff import TableDiff, diff
from .encode import tokenize
from .formats import FORMATS, export_ids, import_ids
from .semantic_ids import SemanticIds
from .trie import PrefixTrie
from .vocabulary import AddedTokens, Vocabulary

__all__ = [
    "FORMATS",
    "POLICIES",
    "AddedTokens",
    "CollisionStatistics",
    "IdConstraint",
    "PrefixTrie",
    "ResolutionReport",
    "SemanticIds",
    "TableDiff",
    "Vocabulary",
    "collision_statistics",
    "diff",
    "export_ids",
    "import_ids",
    "resolve",
    "tokenize",
]
