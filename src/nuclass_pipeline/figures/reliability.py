"""Reliability of each model, raw and calibrated: are 80 % of the cells with 80 % confidence right?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.figures.style import FAINT, MODEL_COLORS, new_figure
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import METRICS, RELIABILITY

_MARKS: dict[str, dict[str, Any]] = {
    "raw": {"marker": "o", "linestyle": "--", "markerfacecolor": "white"},
    "calibrated": {"marker": "o", "linestyle": "-"},
}


def draw(*, reliability: Path, heldout: Path, models: Sequence[str] = MODELS) -> Figure:
    """Draw accuracy against confidence on all held-out cells (open label set), and the share of cells in each bin.

    Parameters
    ----------
    reliability
        Reliability table; seeds are pooled.
    heldout
        Metrics of the held-out slides, for the ECE; seeds are averaged.
    models
        Models, one panel each.
    """
    bins = _pooled(read_table(reliability, RELIABILITY))
    scores = _pooled(read_table(heldout, METRICS))
    ece = scores[(scores["metric"] == "ece") & (scores["label"] == "all")].groupby(["model", "variant"])["value"].mean()
    figure = new_figure(3.3)
    grid = figure.subplots(2, len(models), sharex=True, sharey="row", height_ratios=[3, 1], squeeze=False)
    for (upper, lower), model in zip(grid.T, models, strict=True):
        part = bins[bins["model"] == model]
        _diagram(upper, part, model, ece)
        _histogram(lower, part, model)
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("share of cells")
    return figure


def _pooled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["slide"] == "pooled") & (frame["label_set"] == "open")]


def average_seeds(bins: pd.DataFrame) -> pd.DataFrame:
    """Join the bins of several seeds: the sum of cells, and the means of confidence and accuracy, weighted by cells."""
    sums = bins.assign(confidence=bins["confidence"] * bins["n_cells"], accuracy=bins["accuracy"] * bins["n_cells"])
    joined = sums.groupby(["bin", "bin_low", "bin_high"], as_index=False)[["confidence", "accuracy", "n_cells"]].sum()
    # An empty bin becomes NaN (0 / 0), because its point must not be drawn.
    return joined.assign(confidence=joined["confidence"] / joined["n_cells"], accuracy=joined["accuracy"] / joined["n_cells"])


def _diagram(axes: Axes, bins: pd.DataFrame, model: str, ece: "pd.Series[float]") -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    axes.set_title(model, loc="left")
    for variant, mark in _MARKS.items():
        joined = average_seeds(bins[bins["variant"] == variant]).dropna()
        label = f"{variant}, ECE {ece[model, variant]:.3f}"
        axes.plot(joined["confidence"], joined["accuracy"], color=MODEL_COLORS.get(model), markersize=3, label=label, **mark)
    axes.legend(loc="best", handlelength=2.2, borderaxespad=0.2)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))


def _histogram(axes: Axes, bins: pd.DataFrame, model: str) -> None:
    for variant, mark in _MARKS.items():
        joined = average_seeds(bins[bins["variant"] == variant])
        edges = [*joined["bin_low"], joined["bin_high"].iloc[-1]]
        axes.stairs(joined["n_cells"] / joined["n_cells"].sum(), edges, color=MODEL_COLORS.get(model), linestyle=mark["linestyle"])
    axes.set(ylim=(0, 1), xlabel="confidence")
