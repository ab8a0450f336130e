from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.figures import reliability
from tests.unit.figures import fakes


def test_reliability_points_and_ece(tmp_path: Path) -> None:
    figure = reliability.draw(reliability=fakes.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    local = figure.axes[0]
    _, raw, calibrated = local.get_lines()
    np.testing.assert_allclose(raw.get_xdata(), np.arange(1, 10) / 10 + 0.05)
    np.testing.assert_allclose(raw.get_ydata(), 0.6 * raw.get_xdata())
    np.testing.assert_allclose(calibrated.get_ydata(), 0.97 * calibrated.get_xdata())
    assert [text.get_text() for text in local.get_legend().get_texts()] == ["raw, ECE 0.241", "calibrated, ECE 0.020"]
    assert figure.axes[3].patches[0].get_data().values.sum() == pytest.approx(1)


def test_bins_of_seeds_are_joined_by_their_cells() -> None:
    edges = {"bin_low": 0.0, "bin_high": 0.5}
    bins = pd.DataFrame(
        [
            {"bin": 0, **edges, "confidence": 0.4, "accuracy": 0.2, "n_cells": 30},
            {"bin": 0, **edges, "confidence": 0.2, "accuracy": 0.6, "n_cells": 10},
            {"bin": 1, "bin_low": 0.5, "bin_high": 1.0, "confidence": np.nan, "accuracy": np.nan, "n_cells": 0},
        ]
    )
    joined = reliability.average_seeds(bins)
    assert joined.loc[0, ["confidence", "accuracy", "n_cells"]].tolist() == pytest.approx([0.35, 0.3, 40])
    assert joined.loc[1, ["confidence", "accuracy"]].isna().all()
