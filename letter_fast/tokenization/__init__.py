"""From a model and a catalog to a table of unique semantic IDs."""

from .collisions import (
    POLICIES,
    CollisionStatistics,
    ResolutionReport,
    collision_statistics,
    resolve,
)
from .encode import tokenize
from .semantic_ids import SemanticIds
from .trie import PrefixTrie

__all__ = [
    "POLICIES",
    "CollisionStatistics",
    "PrefixTrie",
    "ResolutionReport",
    "SemanticIds",
    "collision_statistics",
    "resolve",
    "tokenize",
]
