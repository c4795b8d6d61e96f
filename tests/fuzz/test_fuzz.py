"""A few damaged inputs for every reader; many more: python -m tests.fuzz --inputs 10000."""

from __future__ import annotations

import pytest

from tests.fuzz.runner import faults
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_read_or_refused_in_one_line(name: str) -> None:
    assert not list(faults(name, range(10)))
