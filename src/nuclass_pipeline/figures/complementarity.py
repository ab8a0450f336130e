"""Complementarity of the paths: which is right, by class, and how much of that the gate achieves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.figures.style import (
    FAINT,
    INK,
    MODEL_COLORS,
    OUTCOME_COLORS,
    OUTCOME_NAMES,
    SMALL_PT,
    in_order,
    is_dark,
    new_figure,
    short_name,
)
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ALL, METRICS, POOLED

# Not below, because the number would not fit into the bar.
_MIN_PRINTED = 0.06
_HEIGHT = 0.7


def draw(*, complementarity: Path, slide: str = POOLED) -> Figure:
    """Draw, for each class, the shares of cells that both paths, one or neither get right, with the gate and the oracle.

    Parameters
    ----------
    complementarity
        Metrics of `compare_paths`; seeds are averaged.
    slide
        Slide to show, or `pooled`.
    """
    rows = read_table(complementarity, METRICS)
    values = rows[rows["slide"] == slide].groupby(["model", "label", "metric"])["value"].mean()
    labels = [ALL, *in_order(values["oracle"].index.get_level_values("label"))]
    figure = new_figure(0.9 + 0.25 * len(labels))
    bars, weight = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    _stack(bars, values, labels)
    _marks(bars, values, labels)
    _weights(weight, values, labels)
    places = _places(labels)
    cells = [int(sum(values["oracle", label, name] for name in OUTCOME_COLORS)) for label in labels]
    names = ["All cells" if label == ALL else short_name(label) for label in labels]
    bars.set_yticks(places, [f"{name}  ({n:,})" for name, n in zip(names, cells, strict=True)])
    bars.set(ylim=(places[-1] + 0.6, -0.6), xlim=(0, 1), xlabel="% of the label's cells")
    # In percent, as the numbers in the bars.
    bars.xaxis.set_major_formatter(PercentFormatter(1, 0, symbol=None))
    marks, stacks = bars.get_lines(), bars.containers
    figure.legend(
        handles=[*stacks, *marks], loc="outside upper center", ncols=len(stacks) + len(marks), handlelength=1.2, columnspacing=1.4
    )
    return figure


def _places(labels: Sequence[str]) -> Floats:
    """Return the height of each row, from the top; a gap follows the first, which is all cells."""
    return np.arange(len(labels)) + 0.4 * (np.arange(len(labels)) > 0)


def _stack(axes: Axes, values: "pd.Series[float]", labels: Sequence[str]) -> None:
    counts = np.array([[values["oracle", label, name] for label in labels] for name in OUTCOME_COLORS])
    shares = counts / counts.sum(axis=0)
    left = np.cumsum(shares, axis=0) - shares
    for name, start, width in zip(OUTCOME_COLORS, left, shares, strict=True):
        bars = axes.barh(_places(labels), width, left=start, height=_HEIGHT, color=OUTCOME_COLORS[name], label=OUTCOME_NAMES[name])
        ink = "white" if is_dark(to_rgb(OUTCOME_COLORS[name])) else INK
        for bar, share in zip(bars, width, strict=True):
            if share >= _MIN_PRINTED:
                axes.text(
                    bar.get_x() + share / 2,
                    bar.get_y() + _HEIGHT / 2,
                    f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=SMALL_PT,
                    color=ink,
                )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _marks(axes: Axes, values: "pd.Series[float]", labels: Sequence[str]) -> None:
    gate, oracle = ([values[model, label, "accuracy"] for label in labels] for model in ("gate", "oracle"))
    # Below the bar, because it would hide the numbers in it.
    axes.plot(gate, _places(labels) + 0.46, "^", markersize=4.5, color=MODEL_COLORS["gate"], label="gate accuracy", clip_on=False, zorder=4)
    axes.plot(oracle, _places(labels), "|", markersize=12, color=INK, label="oracle accuracy", clip_on=False, zorder=4)


def _weights(axes: Axes, values: "pd.Series[float]", labels: Sequence[str]) -> None:
    weights = [values["gate", label, "mean_gate_weight"] for label in labels]
    places = _places(labels)
    axes.hlines(places, 0.5, weights, color=FAINT, linewidth=2)
    # In one color, because what the gate mixes the global path with depends on its kind.
    axes.scatter(weights, places, s=12, color=MODEL_COLORS["global"], zorder=3)
    axes.axvline(0.5, color=INK, linewidth=0.5)
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="mean gate weight\nof the global path")
    axes.set_xticklabels(["0", "0.5", "1"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
