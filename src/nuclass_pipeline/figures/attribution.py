"""Attribution: crops of held-out cells, and where in them the evidence for the predicted class lies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures.style import WIDTH_IN, as_paths, hide_frame, new_figure, short_name
from nuclass_pipeline.figures.tiles import decode, scale_bar
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ATTRIBUTION

# Without the gate, because it weighs the two paths and reads no image.
_PATHS = tuple(model for model in MODELS if model != "gate")
_MARGIN_IN = 0.3
# Below 1, because the tissue must stay visible where the evidence is strongest.
_MAX_OPACITY = 0.75


def draw(*, attribution: Path | Sequence[Path], columns: int = 6) -> Figure:
    """Draw, per slide and path, a row of crops and a row of the same crops with their heat maps.

    Parameters
    ----------
    attribution
        Attribution tables, one or more slides each.
    columns
        Maximum number of cells per slide.

    Raises
    ------
    UserError
        If the tables hold no cell.
    """
    files = as_paths(attribution)
    table = pd.concat([read_table(path, ATTRIBUTION) for path in files], ignore_index=True)
    pages = {slide: _cells(table[table["slide"] == slide], columns) for slide in table["slide"].drop_duplicates()}
    if not pages:
        raise UserError(files[0], "cell_id", "there is no cell to show", "Set evaluation.explained_cells above 0.")
    shown = max(len(cells) for cells in pages.values())
    # At least four columns, because few crops would be drawn too large otherwise.
    tile = (WIDTH_IN - _MARGIN_IN) / max(shown, 4)
    figure = new_figure(len(pages) * (4 * tile + 0.6))
    for part, (slide, cells) in zip(figure.subfigures(len(pages), 1, squeeze=False).ravel(), pages.items(), strict=True):
        part.suptitle(slide, x=0.01, ha="left", fontsize=8, fontweight="bold")
        grid = part.subplots(4, max(shown, 4), squeeze=False)
        for axes in grid.ravel():
            hide_frame(axes)
        for column, cell in enumerate(cells):
            _column(grid[:, column], table[(table["slide"] == slide) & (table["cell_id"] == cell)])
        for row, name in zip(grid[::2, 0], _PATHS, strict=True):
            row.set_ylabel(name, fontsize=7)
    return figure


def _cells(rows: pd.DataFrame, most: int) -> list[str]:
    return list(rows["cell_id"].drop_duplicates())[:most]


def _column(axes: NDArray[np.object_], rows: pd.DataFrame) -> None:
    axes[0].annotate(short_name(rows["label"].iloc[0]), (0.5, 1), (0, 11), "axes fraction", "offset points", ha="center", fontsize=6)
    for (plain, heated), model in zip(axes.reshape(-1, 2), _PATHS, strict=True):
        for _, row in rows[rows["model"] == model].iterrows():
            for panel in (plain, heated):
                panel.imshow(decode(row["image"]), extent=_extent(row["field_um"]), interpolation="antialiased")
            _overlay(heated, square(row["heat"]), row["field_um"])
            _title(plain, row["predicted"], row["predicted"] == row["label"])


def _title(axes: Axes, predicted: str, right: bool) -> None:
    text = f"{short_name(predicted)} {'✓' if right else '✗'}"
    axes.set_title(text, fontsize=6, color="#1b7837" if right else "#b2182b", pad=2, fontweight="normal")


def square(heat: Floats) -> Floats:
    """Reshape a row-major map, (S²,), to (S, S)."""
    side = round(len(heat) ** 0.5)
    return np.asarray(heat, float).reshape(side, side)


def _extent(field_um: float) -> tuple[float, float, float, float]:
    return (0, field_um, field_um, 0)


def _overlay(axes: Axes, heat: Floats, field_um: float) -> None:
    """Draw the heat map over the crop; the weaker the heat, the more transparent."""
    opacity = _MAX_OPACITY * np.clip(heat, 0, 1)
    axes.imshow(heat, extent=_extent(field_um), cmap="plasma", vmin=0, vmax=1, alpha=opacity, interpolation="bilinear")
    scale_bar(axes, 10 if field_um < 100 else 50, field_um)
