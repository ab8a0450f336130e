"""Maps of the tissue: the H&E below the cells, the frame, the size of the points and the order of drawing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.figures.pictures.tiles import decode
from nuclass_pipeline.figures.style import INK, SMALL_PT
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import OVERVIEWS
from nuclass_pipeline.units import round_length
from nuclass_pipeline.vocabulary import UNRESOLVED

# Paler than the slide, because the colors of the cells must be seen on it.
_TISSUE_OPACITY = 0.5
NO_IMAGE = "no H&E of the whole slide"
COVER = 0.45
"""Share of the tissue that cells on an H&E cover at most, so that it is visible between them."""


def drawing_order(labels: "pd.Series[str]") -> Integers:
    """Return rows in the order of drawing: Unresolved first, then the others in random order."""
    # Shuffled, because the class that is drawn last would hide the others.
    shuffled = np.random.default_rng(0).permutation(len(labels))
    lies_below = (labels == UNRESOLVED).to_numpy()[shuffled]
    return np.concatenate([shuffled[lies_below], shuffled[~lies_below]])


def marker_area(width: float, height: float, cells: int, panel_in: float, cover: float = 0.8) -> float:
    """Return the area of a marker, pt², with which evenly spread cells cover a share of the tissue; at 0.8 they just touch.

    Parameters
    ----------
    width, height
        Extent of the cells, in any unit.
    cells
        Number of cells.
    panel_in
        Width of the panel, inches.
    cover
        Share of the tissue.
    """
    pt_per_unit = 72 * panel_in / max(width, height, 1e-9)
    return float(np.clip(cover * width * height * pt_per_unit**2 / max(cells, 1), 0.08, 6))


def span(values: "pd.Series[float]") -> float:
    """Return the range of values, at least 1; 1 if there are none."""
    return float(max(values.max() - values.min(), 1)) if len(values) else 1.0


def read_overviews(path: Path) -> pd.DataFrame:
    """Return the overviews of a run by slide."""
    return read_table(path, OVERVIEWS).set_index("slide")


def draw_tissue(axes: Axes, overviews: pd.DataFrame, slide: str) -> None:
    """Draw the H&E of a slide below its cells; where a run has none, the panel says so."""
    if slide not in overviews.index:
        axes.text(0.99, 0.005, NO_IMAGE, transform=axes.transAxes, ha="right", va="bottom", fontsize=SMALL_PT)
        return
    row: Any = overviews.loc[slide]
    # In steps of 8, because a PDF of smooth colors would be many times larger.
    pixels = (255 - _TISSUE_OPACITY * (255.0 - decode(row["image"]))).astype(np.uint8) // 8 * 8 + 7
    height_um, width_um = row["mpp"] * np.array(pixels.shape[:2])
    extent = (row["x_um"], row["x_um"] + width_um, row["y_um"] + height_um, row["y_um"])
    axes.imshow(pixels, extent=extent, interpolation="nearest", zorder=0)


def tissue_frame(axes: Axes, cells: pd.DataFrame) -> None:
    """Set the axes to the extent of the cells, y downwards as in the image, and draw a scale bar below."""
    left, top, width, height = cells["x_um"].min(), cells["y_um"].min(), span(cells["x_um"]), span(cells["y_um"])
    axes.set_aspect("equal", anchor="N")
    gap = 0.02 * max(width, height)
    bar_y = top + height + 3 * gap
    axes.set(xlim=(left - gap, left + width + gap), ylim=(bar_y + 2 * gap, top - gap))
    length = round_length(width / 3)
    (bar,) = axes.plot([left, left + length], [bar_y, bar_y], color=INK, linewidth=1.5, solid_capstyle="butt")
    bar.set_gid("scale bar")
    axes.annotate(f"{length:,g} µm", (left + length, bar_y), (3, 0), textcoords="offset points", va="center", fontsize=SMALL_PT)
