"""From a model and a catalog to a table of unique semantic IDs, and from it to recommenders."""

from .decoding import IdConstraint
from .diff import TableDiff, diff
from .exchange import export_ids, import_ids
from .formats import FORMATS
from .policies import POLICIES, Resolution, ResolutionReport, resolve
from .semantic_ids import SemanticIds
from .statistics import CollisionStatistics, collision_statistics
from .tokenizing import tokenize
from .trie import PrefixTrie
from .vocabulary import AddedTokens, Vocabulary

__all__ = [
    "FORMATS",
    "POLICIES",
    "AddedTokens",
    "CollisionStatistics",
    "IdConstraint",
    "PrefixTrie",
    "Resolution",
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
