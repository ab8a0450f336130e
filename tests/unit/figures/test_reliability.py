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


def test_the_intervals_are_those_of_wilson(tmp_path: Path) -> None:
    low, high = reliability.wilson(np.array([0.0, 0.5, 1.0]), np.array([10, 100, 1]))
    # From the formula by hand, and scipy.stats.binomtest(k, n).proportion_ci(method="wilson").
    assert low == pytest.approx([0, 0.403832, 0.206549], abs=1e-6)
    assert high == pytest.approx([0.277533, 0.596168, 1], abs=1e-6)
    figure = reliability.draw(reliability=fakes.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    raw, _ = figure.axes[0].collections
    drawn = np.array([segment[:, 1] for segment in raw.get_segments()])
    middles = np.arange(1, 10) / 10 + 0.05
    np.testing.assert_allclose(drawn.T, reliability.wilson(0.6 * middles, (5000 * middles**2).astype(int)))


def test_equal_curves_are_drawn_once(tmp_path: Path) -> None:
    figure = reliability.draw(reliability=hard.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    assert [len(axes.get_lines()) for axes in figure.axes[:3]] == [3, 3, 2]
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["both, ECE 0.020"]
    # Two seeds predict the same cells, which are counted once.
    assert "3,000,000" in {text.get_text() for text in figure.axes[3].texts}


def test_bins_of_seeds_are_joined_by_their_cells() -> None:
    edges = {"bin_low": 0.0, "bin_high": 0.5}
    bins = pd.DataFrame(
        [
            {"bin": 0, "seed": 0, **edges, "confidence": 0.4, "accuracy": 0.2, "n_cells": 30},
            {"bin": 0, "seed": 1, **edges, "confidence": 0.2, "accuracy": 0.6, "n_cells": 10},
            {"bin": 1, "seed": 0, "bin_low": 0.5, "bin_high": 1.0, "confidence": np.nan, "accuracy": np.nan, "n_cells": 0},
        ]
    )
    joined = reliability.average_seeds(bins)
    assert joined.loc[0, ["confidence", "accuracy", "n_cells"]].tolist() == pytest.approx([0.35, 0.3, 20])
    assert joined.loc[1, ["confidence", "accuracy"]].isna().all()
