"""A few damaged inputs for every reader; many more: python -m tests.fuzz --inputs 10000."""

from __future__ import annotations

import pytest
from fuzz.runner import faults
from fuzz.targets import TARGETS

# Their readers are being mended.
OPEN = [name for name in TARGETS if name.endswith("s checkpoint")]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xfail if name in OPEN else ()) for name in TARGETS],
)
def test_damaged_input_is_read_or_refused_in_one_line(name: str) -> None:
    assert not list(faults(name, range(10)))
