"""Registration of the H&E: one thumbnail per slide with the measured correlation and shift."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nuclass_pipeline.figures.pictures.tiles import decode, scale_bar
from nuclass_pipeline.figures.style import SMALL_PT, WIDTH_IN, fit_name, hide_frame, new_figure
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import REGISTRATION

CELL_COLOR = (0, 230 / 255, 120 / 255)
"""Color of the circles in the thumbnails."""
VERDICT_COLORS = {"good": "#1b7837", "shifted": "#b35806", "unclear": "#666666"}
_MAX_COLUMNS, _MAX_LETTERS = 4, 21


def draw(*, registration: Path) -> Figure:
    """Draw the thumbnails of all slides with correlation, best shift and verdict.

    Parameters
    ----------
    registration
        Registration table.
    """
    slides = read_table(registration, REGISTRATION)
    columns = min(_MAX_COLUMNS, max(len(slides), 2))
    rows = -(-len(slides) // columns)
    figure = new_figure(rows * (WIDTH_IN / columns + 0.8) + 0.25)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        hide_frame(axes)
    for axes, (_, row) in zip(grid, slides.iterrows(), strict=False):
        _panel(axes, row)
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markerfacecolor": "none"}
    key = Line2D([], [], color=CELL_COLOR, label="centre of a cell of the Xenium bundle, placed by the alignment", **style)
    figure.legend(handles=[key], loc="outside lower left")
    return figure


def _panel(axes: Axes, row: pd.Series) -> None:
    field_um = row["field_um"]
    axes.imshow(decode(row["thumbnail"]), extent=(0, field_um, field_um, 0), interpolation="antialiased")
    scale_bar(axes, field_um)
    color = VERDICT_COLORS.get(row["verdict"], VERDICT_COLORS["unclear"])
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=1.4)
    axes.set_title(fit_name(row["slide"], _MAX_LETTERS), loc="left")
    below: dict[str, Any] = {"xy": (0, 0), "xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    axes.annotate(_measured(row), xytext=(0, -14), fontsize=SMALL_PT, linespacing=1.4, **below)
    axes.annotate(row["verdict"], xytext=(0, -3), color=color, fontweight="bold", **below)


def _measured(row: pd.Series) -> str:
    shift = f"({row['shift_x_um']:+.1f}, {row['shift_y_um']:+.1f}) µm".replace("-", "−")
    best = "" if pd.isna(row["correlation_best"]) else f", {row['correlation_best']:.2f} shifted"
    return f"correlation {row['correlation']:.2f}{best}\nbest shift {shift}\n{row['organ']}, {row['mpp_he']:.4f} µm/px"
