"""Files that other projects read and write semantic IDs in, and one way out and in for all.

A format is a file of this folder: how it is written, how it is read, and the facts that hold of it.
"""

from .exchange import FORMATS, FormatName, export_parts, import_parts
from .facts import Facts
from .sidecar import items_path, read_items, sidecar_path

__all__ = [
    "FORMATS",
    "Facts",
    "FormatName",
    "export_parts",
    "import_parts",
    "items_path",
    "read_items",
    "sidecar_path",
]
