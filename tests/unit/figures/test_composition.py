from pathlib import Path

import numpy as np
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


def test_rings_close_and_no_arc_is_below_two_degrees(tmp_path: Path) -> None:
    figure = composition.draw(cohort=fakes.write_cohort(tmp_path / "cohort.parquet"))
    for axes, organs in zip(figure.axes, (8, 3), strict=True):
        inner, outer = _wedges(axes, "organ"), _wedges(axes, "class")
        assert len(inner) == organs
        assert sum(sum(arcs) for arcs in inner.values()) == pytest.approx(360)
        arcs = [arc for arcs in outer.values() for arc in arcs]
        assert sum(arcs) == pytest.approx(360)
        assert min(arcs) >= 2 - 1e-9


def test_arcs_grow_with_the_square_root_and_labels_print_the_truth(tmp_path: Path) -> None:
    held = composition.draw(cohort=fakes.write_cohort(tmp_path / "cohort.parquet")).axes[1]
    inner = _wedges(held, "organ")
    assert inner["ovary"][0] / inner["lung"][0] == pytest.approx((138 / 75) ** 0.5)
    texts = {text.get_text() for text in held.texts}
    # 20 % Unresolved cells were added to these, and must not change the shares.
    assert {"Malignant 74.7", "Ductal 45.2", "ovary\n46.0 %", "Held out\n300,000 cells\n3 slides"} <= texts
    assert not any("Unresolved" in text for text in texts)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.9999, 0.0001], [0.6, 0.39, 0.005, 0.005]])
def test_compressed_angles_fill_the_whole(shares: list[float]) -> None:
    angles = composition.compress(np.array(shares), 40.0, np.full(len(shares), 2.0))
    assert angles.sum() == pytest.approx(40)
    assert (angles >= 2 - 1e-9).all()
    assert (np.diff(angles) <= 1e-9).all()


def test_labels_are_spread_and_stay_in_order() -> None:
    wanted = np.array([0.0, 1.0, 2.0, 100.0, 358.0, 359.0])
    moved = composition.spread_circle(wanted, 5.0)
    around = np.sort(np.concatenate([moved % 360, moved.min(keepdims=True) % 360 + 360]))
    assert np.diff(around).min() >= 5 - 1e-6
    assert moved[3] % 360 == pytest.approx(100)
    np.testing.assert_allclose(composition.spread(np.array([0.0, 10.0]), 5.0), [0, 10])
