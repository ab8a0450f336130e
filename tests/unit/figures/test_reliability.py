from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.figures import reliability
from tests.unit.figures import fakes, hard


def test_reliability_points_and_ece(tmp_path: Path) -> None:
    figure = reliability.draw(reliability=fakes.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    local = figure.axes[0]
    _, raw, calibrated = local.get_lines()
    np.testing.assert_allclose(raw.get_xdata(), np.arange(1, 10) / 10 + 0.05)
    np.testing.assert_allclose(raw.get_ydata(), 0.6 * raw.get_xdata())
    np.testing.assert_allclose(calibrated.get_ydata(), 0.97 * calibrated.get_xdata())
    assert [text.get_text() for text in local.get_legend().get_texts()] == ["raw, ECE 0.241", "calibrated, ECE 0.020"]
    assert sum(bar.get_height() for bar in figure.axes[3].patches) == pytest.approx(1)
    # The empty first bin is not drawn, and every other has its number of cells.
    assert len(figure.axes[3].patches) == 9
    assert [text.get_text() for text in figure.axes[3].texts] == [f"{int(5000 * ((b + 0.5) / 10) ** 2):,}" for b in range(1, 10)]


def test_the_intervals_are_those_of_the_table_and_absent_where_unknown(tmp_path: Path) -> None:
    figure = reliability.draw(reliability=fakes.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    raw, _ = figure.axes[0].collections
    middles = np.arange(2, 10) / 10 + 0.05
    bars = np.array(raw.get_segments())
    np.testing.assert_allclose(bars[:, :, 0].T, [middles, middles])
    np.testing.assert_allclose(bars[:, :, 1].T, [0.6 * middles - 0.02, 0.6 * middles + 0.03])


def test_equal_curves_are_drawn_once(tmp_path: Path) -> None:
    figure = reliability.draw(reliability=hard.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    assert [len(axes.get_lines()) for axes in figure.axes[:3]] == [3, 3, 2]
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["both, ECE 0.020"]
    # Two seeds predict the same cells, which are counted once.
    assert "3,000,000" in {text.get_text() for text in figure.axes[3].texts}


def _bin(number: int, seed: int, n: int, *values: float) -> dict[str, float]:
    """Return a bin of one seed; the values are confidence, accuracy and its bounds."""
    edges = {"bin": number, "seed": seed, "bin_low": number / 4, "bin_high": (number + 1) / 4, "n_cells": n}
    return edges | dict(zip(("confidence", "accuracy", "accuracy_low", "accuracy_high"), values, strict=True))


def test_bins_of_seeds_are_joined_by_their_cells() -> None:
    bins = [_bin(0, 0, 30, 0.4, 0.2, 0.1, 0.3), _bin(0, 1, 10, 0.2, 0.6, 0.5, 0.8)]
    # Empty in both seeds; empty in one; and with unknown bounds in one.
    bins += [_bin(1, seed, 0, np.nan, np.nan, np.nan, np.nan) for seed in (0, 1)]
    bins += [_bin(2, 0, 8, 0.6, 0.5, 0.4, 0.7), _bin(2, 1, 0, np.nan, np.nan, np.nan, np.nan)]
    bins += [_bin(3, 0, 6, 0.8, 0.5, 0.4, 0.7), _bin(3, 1, 2, 0.9, 1.0, np.nan, np.nan)]
    joined = reliability.average_seeds(pd.DataFrame(bins))
    values = joined[["confidence", "accuracy", "accuracy_low", "accuracy_high"]].to_numpy()
    np.testing.assert_allclose(values[0], [0.35, 0.3, 0.2, 0.425])
    assert np.isnan(values[1]).all()
    np.testing.assert_allclose(values[2], [0.6, 0.5, 0.4, 0.7])
    np.testing.assert_allclose(values[3], [0.825, 0.625, np.nan, np.nan])
    assert joined["n_cells"].tolist() == [20, 0, 4, 4]
