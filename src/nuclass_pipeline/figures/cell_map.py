"""Slides without labels: the gate's class of each cell in the tissue, the probability of that class, and the counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nuclass_pipeline.figures.pictures.tissue import COVER, draw_tissue, drawing_order, marker_area, read_overviews, span, tissue_frame
from nuclass_pipeline.figures.style import (
    COLORS,
    SMALL_PT,
    WIDTH_IN,
    as_paths,
    fit_name,
    hide_frame,
    in_order,
    new_figure,
    percent,
    short_name,
)
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import PREDICTIONS

_PANEL_IN = 0.34 * WIDTH_IN
_MIN_PANEL_IN = 1.4
_MAX_LETTERS = 28
"""Longest name of a slide above a panel."""


def draw(*, gate: Path | Sequence[Path], overviews: Path, slides: Sequence[str]) -> Figure:
    """Draw two maps on the H&E and a bar chart per slide.

    Parameters
    ----------
    gate
        The gate's prediction tables of one seed, in the order of `slides`.
    overviews
        Small pictures of the H&E.
    slides
        Slides that are classified but not scored.
    """
    tables, pictures = [read_table(path, PREDICTIONS) for path in as_paths(gate)], read_overviews(overviews)
    heights = [max(_MIN_PANEL_IN, _PANEL_IN * min(1.5, span(cells["y_um"]) / span(cells["x_um"]))) for cells in tables]
    figure = new_figure(sum(heights) + 0.6 * len(heights) + 0.5)
    grid = figure.subplots(len(tables), 3, squeeze=False, height_ratios=heights, width_ratios=[1, 1, 0.85])
    for (classes, certainty, bars), slide, cells in zip(grid, slides, tables, strict=True):
        shown = cells.iloc[drawing_order(cells["predicted"])]
        for axes in (classes, certainty):
            draw_tissue(axes, pictures, slide)
        _scatter(classes, shown, c=[COLORS[name] for name in shown["predicted"]])
        points = _scatter(certainty, shown, c=probability(shown), cmap="cividis", norm=Normalize(0, 1))
        _count(bars, cells["predicted"])
        classes.set_title(f"{fit_name(slide, _MAX_LETTERS)}\n{len(cells):,} cells", loc="left")
        certainty.set_title("probability of the class", loc="left", fontweight="normal")
        bars.set_title("cells of each class", loc="left", fontweight="normal")
    bar = figure.colorbar(points, ax=list(grid[:, :2].ravel()), location="bottom", shrink=0.4, aspect=30, pad=0.02)
    bar.set_label("probability of the class, not calibrated")
    bar.outline.set_visible(False)
    return figure


def probability(cells: pd.DataFrame) -> "pd.Series[float]":
    """Return the highest of each cell's probabilities, not calibrated: (cells,)."""
    greatest: pd.Series[float] = cells.filter(regex="^p_").max(axis=1)
    return greatest


def _scatter(axes: Axes, cells: pd.DataFrame, **color: Any) -> PathCollection:
    hide_frame(axes)
    tissue_frame(axes, cells)
    area = marker_area(span(cells["x_um"]), span(cells["y_um"]), len(cells), _PANEL_IN, COVER)
    return axes.scatter(cells["x_um"], cells["y_um"], s=area, linewidths=0, rasterized=True, **color)


def _count(axes: Axes, predicted: "pd.Series[str]") -> None:
    names = in_order(predicted)
    counts = predicted.value_counts()[names].to_numpy()
    axes.barh(np.arange(len(names)), counts, height=0.75, color=[COLORS[name] for name in names])
    for row, n in enumerate(counts.tolist()):
        label = f"{n:,} ({percent(n, len(predicted))})"
        axes.annotate(label, (n, row), (2, 0), textcoords="offset points", va="center", fontsize=SMALL_PT)
    # Room at the right for the numbers, and for at least six rows, because few bars would be thick otherwise.
    axes.set(xlim=(0, 2.6 * counts.max()), ylim=(max(len(names), 6) - 0.4, -0.6), xticks=[])
    axes.set_yticks(range(len(names)), [short_name(name) for name in names], fontsize=SMALL_PT)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
