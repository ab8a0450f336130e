from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Wedge

from nuclass_pipeline.figures import composition
from tests.unit.figures import fakes


def _wedges(axes: Axes, kind: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for patch in axes.patches:
        if isinstance(patch, Wedge) and str(patch.get_gid()).startswith(kind):
            found.setdefault(patch.get_gid().split(":")[1], []).append(patch.theta2 - patch.theta1)
    return found


def _draw(tmp_path: Path) -> list[Axes]:
    return composition.draw(cohort=fakes.write_cohort(tmp_path / "cohort.parquet")).axes


def test_every_angle_is_the_share_of_its_cells(tmp_path: Path) -> None:
    for axes, (role, table) in zip(_draw(tmp_path), (("train", fakes.TRAINING), ("heldout", fakes.HELDOUT)), strict=True):
        cells = {(o, c): round(1000 * n * s / 100) for o, n in fakes.ORGAN_CELLS[role].items() for c, s in table[o].items()}
        total = sum(cells.values())
        inner = {organ: arcs[0] for organ, arcs in _wedges(axes, "organ").items()}
        expected = {organ: 360 * sum(n for (o, _), n in cells.items() if o == organ) / total for organ in table}
        assert inner == pytest.approx(expected)
        outer = _wedges(axes, "class")
        # The shares are of all cells, also those of a class that is small within its organ.
        arcs = sorted(arc for name, found in outer.items() if name != "other" for arc in found)
        own = sorted(360 * n / total for n in cells.values())
        assert arcs == pytest.approx([arc for arc in own if any(arc == pytest.approx(found) for found in arcs)])
        assert len(arcs) >= 10
        assert sum(arcs) + sum(outer.get("other", [])) == pytest.approx(360)


def test_labels_print_the_share_of_the_angle_and_the_totals(tmp_path: Path) -> None:
    held = _draw(tmp_path)[1]
    texts = {text.get_text() for text in held.texts}
    # 20 % Unresolved cells were added to these, and must not change the shares: 74.7 % of 138 of 300 thousand cells.
    assert {"Malignant 34.4 %", "Ductal 13.1 %", "ovary\n46.0 %", "300,000\nlabelled\ncells"} <= texts
    assert not any("Unresolved" in text for text in texts)
    assert held.get_title(loc="left") == "Held out: 3 slides"
    assert held.get_title(loc="right") == "without label, left out: 60,000 cells"
    # 3.9 and 3.1 % of lung's 25 % are below 1 %; pancreas has a single class below, which keeps its name.
    assert "other 1.8 %" in texts
    assert "Endocrine 0.6 %" in texts
    assert held.texts[-1].get_text() == "Other, lung: T cell 1.0\xa0%, Fibroblast, TA 0.8\xa0%."


def test_small_classes_of_an_organ_are_one_wedge_and_named_below() -> None:
    index = pd.MultiIndex.from_tuples(
        [("lung", "T_Cell"), ("lung", "B_Cell"), ("lung", "Fibroblast"), ("colon", "T_Cell"), ("colon", "B_Cell")], names=["organ", "label"]
    )
    counts = pd.Series([900, 6, 4, 85, 5], index=index)
    wedges, pooled = composition.pool_small(counts, 1000)
    assert wedges.to_dict() == {("lung", "T_Cell"): 900, ("colon", "T_Cell"): 85, ("colon", "B_Cell"): 5, ("lung", "other"): 10}
    assert pooled.to_dict() == {("lung", "B_Cell"): 6, ("lung", "Fibroblast"): 4}


@pytest.mark.parametrize("classes", [1, 24, 25, 100])
def test_wedges_are_at_most_as_many_as_labels_fit(classes: int) -> None:
    index = pd.MultiIndex.from_product([["lung"], [str(number) for number in range(classes)]], names=["organ", "label"])
    wedges, pooled = composition.pool_small(pd.Series(10, index=index), 10 * classes)
    assert wedges.sum() == 10 * classes
    assert len(wedges) == (classes if classes <= 24 else 25)
    assert len(pooled) == (0 if classes <= 24 else classes - 24)


def test_labels_are_spread_and_stay_in_order() -> None:
    wanted = np.array([0.0, 1.0, 2.0, 100.0])
    moved = composition.spread(wanted, 5.0)
    assert np.diff(moved).min() >= 5 - 1e-9
    assert moved[3] == pytest.approx(100)
    assert moved[:3].mean() == pytest.approx(1)
    np.testing.assert_allclose(composition.spread(np.array([0.0, 10.0]), 5.0), [0, 10])
