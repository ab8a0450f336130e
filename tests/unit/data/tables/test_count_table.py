"""What must hold for counts and places of cells."""

from pathlib import Path

import numpy as np
import pytest

from nuclass_pipeline.data.tables.count_table import CONTROL, first_wrong, place_warnings
from nuclass_pipeline.errors import UserError


@pytest.mark.parametrize(
    "name", ["NegPrb1", "NegControlProbe_00042", "SystemControl10", "Blank-12", "BLANK_0001", "antisense_PROKR2", "UnassignedCodeword_0001"]
)
def test_controls_are_known_by_name(name):
    assert CONTROL.fullmatch(name)


@pytest.mark.parametrize("name", ["NEGR1", "BLNK", "SYS1", "CD3E", "DEPDC1"])
def test_genes_are_no_controls(name):
    assert not CONTROL.fullmatch(name)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [([0, 1, 2.0], ""), ([0.5, 1], "0.5"), ([-1.0], "-1"), ([np.nan], "nan"), ([np.inf], "inf"), ([2.0**25], "3.35544e+07")],
)
def test_the_first_value_that_is_not_a_count_is_named(values, wrong):
    assert first_wrong(np.array(values)) == wrong


def test_the_unit_of_coordinates_is_checked():
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
    assert place_warnings(Path("a"), 10 * grid) == []
    assert place_warnings(Path("a"), 47 * grid) == [
        "the next cell is 47 µm away (median), which is far: the coordinates may be in another unit than µm"
    ]
    with pytest.raises(
        UserError, match=r"a: coordinates: the next cell is 0\.01 µm away \(median\), nearer than cells can lie\. Convert them"
    ):
        place_warnings(Path("a"), 0.01 * grid)
    assert place_warnings(Path("a"), grid[:9] * 0.01) == []
