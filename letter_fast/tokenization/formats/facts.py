"""Seven facts that a file of semantic IDs doesn't hold, and its reader must know.

No format here holds more than two of them, so each export writes all into a sidecar beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from letter_fast import validation
from letter_fast.options import check_types

# (c) Which rows have a last token that only tells colliding items apart.
NO_ROW, EVERY_ROW, COLLIDING_ROWS = "no row", "every row", "colliding rows"
# (f) Where the id of a row's item stands.
ROW_NUMBER, IN_FILE, IN_ITEMS_FILE = "row number", "file", "items file"


@dataclass(frozen=True)
class Facts:
    """Of one file. `sizes` is no fact of its own, but no reader is sure of itself without it."""

    sizes: tuple[int, ...] | None = None
    """Codewords of each token; None if not known."""
    base: int = 0
    """(a) The file's number for the first code of a level."""
    layout: str = "NT"
    """(b) NT: a row an item. TN: a row a token."""
    extra_token: str = NO_ROW
    """(c) Rows with a last token that only tells colliding items apart."""
    level_offset: int | None = None
    """(d) The first token id, if levels are numbered one after the other; None: each by itself."""
    radix: int | None = None
    """(e) Of packed IDs, the same for all tokens; None: nothing is packed."""
    item_ids: str = ROW_NUMBER
    """(f) Where the id of a row's item stands."""
    duplicates: int = 0
    """(g) Items whose ID an earlier row has: 0 if IDs are unique."""

    def __post_init__(self) -> None:
        check_types(self)
        validation.choice(self.layout, ("NT", "TN"), "layout")
        validation.choice(self.extra_token, (NO_ROW, EVERY_ROW, COLLIDING_ROWS), "extra_token")
        validation.choice(self.item_ids, (ROW_NUMBER, IN_FILE, IN_ITEMS_FILE), "item_ids")
        if self.sizes is not None and (not self.sizes or min(self.sizes) < 1):
            raise ValueError(f"sizes must be positive, got {list(self.sizes)}")
        for name, value, least in (
            ("base", self.base, 0),
            ("level_offset", self.level_offset, 0),
            ("radix", self.radix, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def known_sizes(self) -> tuple[int, ...]:
        """The sizes, for a reader that can't do without; ValueError if they aren't known."""
        if self.sizes is None:
            raise ValueError("it doesn't say how many codewords each token has: give the sizes")
        return self.sizes
