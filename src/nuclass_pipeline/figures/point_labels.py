"""Images with points: the labels, and beside them the classes that the gate predicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures.pictures.tiles import decode, scale_bar
from nuclass_pipeline.figures.style import (
    COLORS,
    INK,
    RC,
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
from nuclass_pipeline.schemas import POINT_IMAGES, PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

_ACROSS = 2
_PANEL_IN = WIDTH_IN / (2 * _ACROSS)
_TEXT_IN, _KEY_IN = 0.5, 0.17
_MAX_KEYS = 5
"""Classes in a row of the key."""
_MAX_LETTERS = 40
_DPI = 200
"""Pixels of the H&E per inch."""
# In two lines of other brightness, because a mark must be seen on glass and on dark nuclei.
_RIGHT: dict[str, Any] = {
    "marker": "o",
    "markersize": 4,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "path_effects": [withStroke(linewidth=1.5, foreground=INK)],
}
_WRONG: dict[str, Any] = {
    "marker": "X",
    "markersize": 5.4,
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
    "path_effects": [withStroke(linewidth=1.8, foreground="white")],
}


def draw(*, gate: Path | Sequence[Path], point_images: Path, slides: Sequence[str]) -> Figure:
    """Draw two panels per image: the H&E with the labels, and with the classes that the gate predicts, wrong ones crossed.

    Cells without a label are left out.

    Parameters
    ----------
    gate
        The gate's prediction tables of one seed, in the order of `slides`.
    point_images
        Images to show.
    slides
        Held-out slides of kind `images`.

    Raises
    ------
    UserError
        If there is no image to show.
    """
    images = read_table(point_images, POINT_IMAGES)
    if images.empty:
        raise UserError(point_images, "image", "there is no image with a labelled cell", "Correct the label map, or hold out other slides.")
    tables = {slide: read_table(path, PREDICTIONS) for slide, path in zip(slides, as_paths(gate), strict=True)}
    rows = -(-len(images) // _ACROSS)
    shown = [(image, cells_in(tables[image["slide"]], image)) for _, image in images.iterrows()]
    names = in_order(name for _, cells in shown for name in (*cells["label"], *cells["predicted"]))
    heights = [_PANEL_IN + _TEXT_IN] * rows + [0.1 + _KEY_IN * -(-(len(names) + 1) // _MAX_KEYS)]
    figure = new_figure(sum(heights))
    *lines, foot = figure.subfigures(rows + 1, 1, squeeze=False, height_ratios=heights).ravel()
    parts = [part for line in lines for part in line.subfigures(1, _ACROSS, squeeze=False, wspace=0.02).ravel()]
    for part, (image, cells) in zip(parts, shown, strict=False):
        _pair(part, image, cells)
    _keys(foot, names)
    return figure


def cells_in(predictions: pd.DataFrame, image: pd.Series) -> pd.DataFrame:
    """Return the labelled cells of an image's square, with columns x, y (µm from its corner), label and predicted."""
    x, y = predictions["x_um"] - image["x_um"], predictions["y_um"] - image["y_um"]
    inside = x.between(0, image["field_um"], "left") & y.between(0, image["field_um"], "left")
    kept = inside & (predictions["label"] != UNRESOLVED)
    cells: pd.DataFrame = predictions.loc[kept, ["label", "predicted"]].assign(x=x[kept], y=y[kept])
    return cells


def _pair(part: SubFigure, image: pd.Series, cells: pd.DataFrame) -> None:
    field_um, pixels = image["field_um"], _pixels(image["picture"])
    is_right = cells["label"] == cells["predicted"]
    left, right = part.subplots(1, 2)
    for axes, below in ((left, "labels"), (right, "predicted by the gate")):
        hide_frame(axes)
        axes.imshow(pixels, extent=(0, field_um, field_um, 0), interpolation="nearest")
        axes.set(xlim=(0, field_um), ylim=(field_um, 0))
        axes.set_xlabel(below, labelpad=2)
    _mark(left, cells, "label", _RIGHT)
    _mark(right, cells[is_right], "predicted", _RIGHT)
    _mark(right, cells[~is_right], "predicted", _WRONG)
    scale_bar(left, field_um)
    part.suptitle(fit_name(image["case"], _MAX_LETTERS), x=0.01, ha="left", fontsize=RC["axes.titlesize"], fontweight="bold")
    for axes, text in (
        (left, f"{len(cells):,} cells"),
        (right, f"{is_right.sum():,} right, {percent(is_right.sum(), max(len(cells), 1))}"),
    ):
        axes.set_title(text, loc="left", fontsize=RC["font.size"], fontweight="normal")


def _pixels(picture: bytes) -> NDArray[np.uint8]:
    # In steps of 8 and without smoothing, because a file of smooth colors would be twice as large.
    return decode(picture, round(_DPI * _PANEL_IN)) // 8 * 8 + 4


def _mark(axes: Axes, cells: pd.DataFrame, column: str, style: Mapping[str, Any]) -> None:
    for name in in_order(cells[column]):
        own = cells[cells[column] == name]
        axes.plot(own["x"], own["y"], linestyle="none", color=COLORS[name], gid=name, **style)


def _keys(foot: SubFigure, names: Sequence[str]) -> None:
    dots = [Line2D([], [], linestyle="none", color=COLORS[name], label=short_name(name), **_RIGHT) for name in names]
    cross = Line2D([], [], linestyle="none", color="white", label="the label differs", **_WRONG)
    foot.legend(handles=[*dots, cross], loc="center", ncols=_MAX_KEYS, handletextpad=0.2)
