"""Reliability of each model, raw and calibrated: are 80 % of the cells with 80 % confidence right?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.figures.style import FAINT, MODEL_COLORS, SMALL_PT, new_figure
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import METRICS, RELIABILITY

Z = 1.959964
"""Quantile of the normal distribution for intervals of 95 %."""
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
    ece = scores[(scores["metric"] == "ece") & (scores["label"] == "all")].groupby(["model", "variant"])["value"].mean()
    figure = new_figure(4.6)
    grid = figure.subplots(3, len(models), sharex=True, sharey="row", height_ratios=[3, 1, 1], squeeze=False)
    for (upper, *lower), model in zip(grid.T, models, strict=True):
        part = {variant: average_seeds(bins[(bins["model"] == model) & (bins["variant"] == variant)]) for variant in _MARKS}
        _diagram(upper, part, model, ece)
        for axes, (variant, joined) in zip(lower, part.items(), strict=True):
            _histogram(axes, joined, model, variant)
        lower[-1].set_xlabel("confidence")
    grid[0, 0].set_ylabel("accuracy")
    for axes, variant in zip(grid[1:, 0], _MARKS, strict=True):
        axes.set_ylabel(f"share of cells,\n{variant}")
    return figure


def _pooled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["slide"] == "pooled") & (frame["label_set"] == "open")]


def average_seeds(bins: pd.DataFrame) -> pd.DataFrame:
    """Join the bins of several seeds: the means of confidence and accuracy, weighted by cells, and the mean number of cells."""
    sums = bins.assign(confidence=bins["confidence"] * bins["n_cells"], accuracy=bins["accuracy"] * bins["n_cells"])
    joined = sums.groupby(["bin", "bin_low", "bin_high"], as_index=False)[["confidence", "accuracy", "n_cells"]].sum()
    # An empty bin becomes NaN (0 / 0), because its point must not be drawn.
    means = joined.assign(confidence=joined["confidence"] / joined["n_cells"], accuracy=joined["accuracy"] / joined["n_cells"])
    # The mean and not the sum, because the seeds predict the same cells, and counting them twice would make intervals too narrow.
    return means.assign(n_cells=joined["n_cells"] / max(bins["seed"].nunique(), 1))


def wilson(share: "pd.Series[float] | Floats", n: "pd.Series[float] | Floats") -> tuple[Floats, Floats]:
    """Return the 95 % interval of a share of `n` cells (Wilson 1927, doi 10.1080/01621459.1927.10502953): low and high."""
    share, n = np.asarray(share, float), np.asarray(n, float)
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return middle - half, middle + half


def _diagram(axes: Axes, part: dict[str, pd.DataFrame], model: str, ece: "pd.Series[float]") -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    axes.set_title(model, loc="left")
    color = MODEL_COLORS.get(model)
    # Once, where the temperature is 1, because one of two equal curves would be hidden by the other.
    is_same = np.allclose(part["raw"].fillna(-1), part["calibrated"].fillna(-1))
    for variant in ["calibrated"] if is_same else list(_MARKS):
        joined, mark = part[variant].dropna(), _MARKS[variant]
        label = f"{'both' if is_same else variant}, ECE {ece[model, variant]:.3f}"
        axes.plot(joined["confidence"], joined["accuracy"], color=color, markersize=3, label=label, clip_on=False, zorder=3, **mark)
        axes.vlines(joined["confidence"], *wilson(joined["accuracy"], joined["n_cells"]), color=color, linewidth=0.7, zorder=1)
    # Above the axes, because it would hide points within them.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), handlelength=2.2, borderaxespad=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))


def _histogram(axes: Axes, joined: pd.DataFrame, model: str, variant: str) -> None:
    filled = joined[joined["n_cells"] > 0]
    shares = filled["n_cells"] / filled["n_cells"].sum()
    fill = "white" if variant == "raw" else MODEL_COLORS.get(model)
    style: dict[str, Any] = {"linestyle": _MARKS[variant]["linestyle"], "edgecolor": MODEL_COLORS.get(model), "linewidth": 0.7}
    width = filled["bin_high"] - filled["bin_low"]
    axes.bar(filled["bin_low"], shares, width, align="edge", color=fill, **style)
    # Room above the bars for the numbers of cells.
    axes.set(ylim=(0, 1.9), yticks=[0, 0.5, 1])
    axes.spines["left"].set_bounds(0, 1)
    if len(joined) <= _MAX_PRINTED:
        for low, high, share, n in zip(filled["bin_low"], filled["bin_high"], shares, filled["n_cells"], strict=True):
            place = ((low + high) / 2, share)
            axes.annotate(f"{n:,.0f}", place, (0, 2), textcoords="offset points", ha="center", va="bottom", rotation=90, fontsize=SMALL_PT)
