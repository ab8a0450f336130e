"""Reliability of each model, raw and calibrated: are 80 % of the cells with 80 % confidence right?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.figures.style import FAINT, MODEL_COLORS, SMALL_PT, new_figure
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ALL, METRICS, POOLED, RELIABILITY

_SHARES = ["confidence", "accuracy", "accuracy_low", "accuracy_high"]
# Above, the numbers of cells do not fit over the bars.
_MAX_PRINTED = 18
_MARKS: dict[str, dict[str, Any]] = {
    "raw": {"marker": "o", "linestyle": "--", "markerfacecolor": "white"},
    "calibrated": {"marker": "o", "linestyle": "-"},
}


def draw(*, reliability: Path, heldout: Path, models: Sequence[str] = MODELS) -> Figure:
    """Draw accuracy against confidence on all held-out cells (open label set), and the cells in each bin.

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
    ece = scores[(scores["metric"] == "ece") & (scores["label"] == ALL)].groupby(["model", "probabilities"])["value"].mean()
    figure = new_figure(4.6)
    grid = figure.subplots(3, len(models), sharex=True, sharey="row", height_ratios=[3, 1, 1], squeeze=False)
    for (upper, *lower), model in zip(grid.T, models, strict=True):
        part = {kind: average_seeds(bins[(bins["model"] == model) & (bins["probabilities"] == kind)]) for kind in _MARKS}
        _diagram(upper, part, model, ece)
        for axes, (kind, joined) in zip(lower, part.items(), strict=True):
            _histogram(axes, joined, model, kind)
        lower[-1].set_xlabel("confidence")
    grid[0, 0].set_ylabel("accuracy")
    for axes, kind in zip(grid[1:, 0], _MARKS, strict=True):
        axes.set_ylabel(f"share of cells,\n{kind}")
    return figure


def _pooled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["slide"] == POOLED) & (frame["label_set"] == "open")]


def average_seeds(bins: pd.DataFrame) -> pd.DataFrame:
    """Join the bins of several seeds: the means of accuracy, its bounds and confidence, weighted by cells, and the mean number of cells.

    A bin without cells is NaN, and so are the bounds of a bin that has none in one seed.
    """
    sums = bins.assign(**bins[_SHARES].where(bins["n_cells"] > 0, 0).mul(bins["n_cells"], axis=0))
    # Without skipping NaN, because bounds of some seeds would be drawn beside the accuracy of all.
    joined = sums.groupby(["bin", "bin_low", "bin_high"])[[*_SHARES, "n_cells"]].agg(_sum_all).reset_index()
    means = joined.assign(**joined[_SHARES].div(joined["n_cells"], axis=0))
    # The mean and not the sum, because the seeds predict the same cells.
    return means.assign(n_cells=joined["n_cells"] / max(bins["seed"].nunique(), 1))


def _sum_all(values: "pd.Series[float]") -> float:
    """Return the sum, NaN if a value is."""
    return float(values.sum(skipna=False))


def _diagram(axes: Axes, part: dict[str, pd.DataFrame], model: str, ece: "pd.Series[float]") -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    axes.set_title(model, loc="left")
    color = MODEL_COLORS.get(model)
    # Once, where the temperature is 1, because one of two equal curves would be hidden by the other.
    is_same = np.allclose(part["raw"].fillna(-1), part["calibrated"].fillna(-1))
    for kind in ["calibrated"] if is_same else list(_MARKS):
        joined, mark = part[kind].dropna(subset="accuracy"), _MARKS[kind]
        label = f"{'both' if is_same else kind}, ECE {ece[model, kind]:.3f}"
        axes.plot(joined["confidence"], joined["accuracy"], color=color, markersize=3, label=label, clip_on=False, zorder=3, **mark)
        sure = joined.dropna()
        axes.vlines(sure["confidence"], sure["accuracy_low"], sure["accuracy_high"], color=color, linewidth=0.7, zorder=1)
    # Above the axes, because it would hide points within them.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), handlelength=2.2, borderaxespad=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))


def _histogram(axes: Axes, joined: pd.DataFrame, model: str, kind: str) -> None:
    filled = joined[joined["n_cells"] > 0]
    shares = filled["n_cells"] / filled["n_cells"].sum()
    fill = "white" if kind == "raw" else MODEL_COLORS.get(model)
    style: dict[str, Any] = {"linestyle": _MARKS[kind]["linestyle"], "edgecolor": MODEL_COLORS.get(model), "linewidth": 0.7}
    width = filled["bin_high"] - filled["bin_low"]
    axes.bar(filled["bin_low"], shares, width, align="edge", color=fill, **style)
    # Room above the bars for the numbers of cells.
    axes.set(ylim=(0, 1.9), yticks=[0, 0.5, 1])
    axes.spines["left"].set_bounds(0, 1)
    if len(joined) <= _MAX_PRINTED:
        for low, high, share, n in zip(filled["bin_low"], filled["bin_high"], shares, filled["n_cells"], strict=True):
            place = ((low + high) / 2, share)
            axes.annotate(f"{n:,.0f}", place, (0, 2), textcoords="offset points", ha="center", va="bottom", rotation=90, fontsize=SMALL_PT)
