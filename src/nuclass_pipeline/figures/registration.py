"""Registration of the H&E: one thumbnail per slide with the measured correlation and shift."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclass_pipeline.figures.style import WIDTH_IN, hide_frame, new_figure
from nuclass_pipeline.figures.tiles import decode
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import REGISTRATION

VERDICT_COLORS = {"good": "#1b7837", "shifted": "#b35806", "unclear": "#666666"}
_MAX_COLUMNS = 4


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
    figure = new_figure(rows * (WIDTH_IN / columns + 0.62))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        hide_frame(axes)
    for axes, (_, row) in zip(grid, slides.iterrows(), strict=False):
        _panel(axes, row)
    return figure


def _panel(axes: Axes, row: pd.Series) -> None:
    axes.imshow(decode(row["thumbnail"]), interpolation="antialiased")
    color = VERDICT_COLORS.get(row["verdict"], VERDICT_COLORS["unclear"])
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=1.4)
    axes.set_title(row["slide"], loc="left")
    axes.set_title(row["verdict"], loc="right", color=color)
    axes.text(0, -0.03, _measured(row), transform=axes.transAxes, va="top", fontsize=6, linespacing=1.4)


def _measured(row: pd.Series) -> str:
    shift = f"({row['shift_x_um']:+.1f}, {row['shift_y_um']:+.1f}) µm".replace("-", "−")
    best = "" if pd.isna(row["correlation_best"]) else f", {row['correlation_best']:.2f} shifted"
    return f"correlation {row['correlation']:.2f}{best}\nbest shift {shift}\n{row['organ']}, {row['mpp_he']:.4f} µm/px"
