"""The counts of the house rules hold; `python tests/census.py` prints them all."""

import pytest

from tests.census import census


@pytest.mark.parametrize(("name", "value", "bound", "holds"), census(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_count_is_within_its_bound(name, value, bound, holds):
    assert holds, f"{name}: {value}, not {bound}"
