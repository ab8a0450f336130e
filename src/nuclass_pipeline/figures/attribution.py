"""Attribution: crops of held-out cells, and where in them the evidence for the predicted class lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures.pictures.tiles import decode, mark_cell, mark_crop, open_picture, scale_bar
from nuclass_pipeline.figures.style import FAINT, INK, SMALL_PT, WIDTH_IN, as_paths, fit_name, hide_frame, new_figure, short_name
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ATTRIBUTION

# Without the gate, because it weighs the two paths and reads no image.
_PATHS = tuple(model for model in MODELS if model != "gate")
_MARGIN_IN = 0.35
# Below 1, because the tissue must stay visible where the evidence is strongest.
_MAX_OPACITY = 0.75
_PALEST_GREY = 0.8
_DPI = 300
_MAX_LETTERS = 15
RIGHT, WRONG = "#1b7837", "#b2182b"


def draw(*, attribution: Path | Sequence[Path], columns: int = 6) -> Figure:
    """Draw, per slide and path, a row of crops and a row of the same crops in grey with their heat maps.

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
        raise UserError(files[0], "cell_id", "there is no cell to show", "Set attribution.cells above 0.")
    # At least four columns, because few crops would be drawn too large otherwise.
    shown = max(4, *(len(cells) for cells in pages.values()))
    tile = (WIDTH_IN - _MARGIN_IN) / shown
    heights = [4 * tile + 0.95] * len(pages) + [0.55]
    figure = new_figure(sum(heights))
    *parts, foot = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    for part, (slide, cells) in zip(parts, pages.items(), strict=True):
        rows = table[table["slide"] == slide]
        _page(part, slide, [rows[rows["cell_id"] == cell] for cell in cells], shown, round(tile * _DPI))
    _keys(foot)
    return figure


def _cells(rows: pd.DataFrame, most: int) -> list[str]:
    return list(rows["cell_id"].drop_duplicates())[:most]


def _page(part: SubFigure, slide: str, cells: Sequence[pd.DataFrame], columns: int, most_px: int) -> None:
    part.suptitle(slide, x=0.01, ha="left", fontsize=8, fontweight="bold")
    grid = part.subplots(4, columns, squeeze=False)
    for axes in grid.ravel():
        hide_frame(axes)
    for column, rows in zip(grid.T, cells, strict=False):
        _column(column, rows, most_px)
    for row, model in zip(grid[::2, 0], _PATHS, strict=True):
        row.set_ylabel(f"{model} path", fontsize=7)
    style: dict[str, Any] = {"ha": "right", "va": "baseline", "fontsize": SMALL_PT, "annotation_clip": False}
    for line, name in ((1, "gate"), (2, "label")):
        grid[0, 0].annotate(name, (-0.03, 1), (0, 4 + 9 * line), "axes fraction", "offset points", **style)


def _column(axes: NDArray[np.object_], rows: pd.DataFrame, most_px: int) -> None:
    first = rows.iloc[0]
    _write_above(axes[0], 2, fit_name(short_name(first["label"]), _MAX_LETTERS), INK, weight="bold")
    _write_above(axes[0], 1, *_describe_prediction(first["gate_predicted"], first["gate_probability"], first["label"]))
    fields_um = rows.set_index("model")["field_um"]
    for (plain, heated), model in zip(axes.reshape(-1, 2), _PATHS, strict=True):
        for _, row in rows[rows["model"] == model].iterrows():
            field_um = row["field_um"]
            pixels = decode(row["image"], most_px)
            for panel, shown in ((plain, pixels), (heated, paint_heat(pixels, reshape_map(row["heat"]), row["tissue"]))):
                panel.imshow(shown, extent=(0, field_um, field_um, 0), interpolation="antialiased")
                panel.spines[:].set(visible=True, color=FAINT)
                mark_cell(panel, field_um)
                if field_um > fields_um.min():
                    mark_crop(panel, field_um, fields_um.min())
            scale_bar(plain, field_um)
            share = row["masked_share"]
            _write_above(heated, 0, "no evidence" if np.isnan(share) else f"evidence masked {100 * share:.0f} %", INK)
            _write_above(plain, 0, *_describe_prediction(row["predicted"], row["probability"], row["label"]))


def _describe_prediction(predicted: str, probability: float, label: str) -> tuple[str, str]:
    is_right = predicted == label
    return f"{fit_name(short_name(predicted), _MAX_LETTERS)} {probability:.2f} {'✓' if is_right else '✗'}", RIGHT if is_right else WRONG


def _write_above(axes: Axes, line: int, text: str, color: str, weight: str = "normal") -> None:
    """Write a line above an image; line 0 is next to it."""
    style: dict[str, Any] = {
        "ha": "center",
        "va": "baseline",
        "fontsize": SMALL_PT,
        "color": color,
        "fontweight": weight,
        "annotation_clip": False,
    }
    axes.annotate(text, (0.5, 1), (0, 4 + 9 * line), "axes fraction", "offset points", **style)


def reshape_map(heat: Floats) -> Floats:
    """Reshape a row-major map, (S²,), to (S, S)."""
    side = round(len(heat) ** 0.5)
    return np.asarray(heat, float).reshape(side, side)


def paint_heat(pixels: NDArray[np.uint8], heat: Floats, tissue: bytes) -> Floats:
    """Return a crop (H, W, 3) in grey with its heat map (S, S) in color, 0 to 1; the weaker the heat, the more transparent.

    What is masked, by a PNG that is white on tissue, is white.
    """
    size = pixels.shape[1::-1]
    smooth = np.asarray(Image.fromarray(np.clip(heat, 0, 1).astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    grey = 0.3 + (_PALEST_GREY - 0.3) * pixels @ np.array([0.299, 0.587, 0.114]) / 255
    shown = _tint_by_heat(np.repeat(grey[..., None], 3, axis=2), smooth)
    mask = np.asarray(open_picture(tissue).convert("L").resize(size, Image.Resampling.NEAREST)) > 0
    return np.where(mask[..., None], shown, 1.0)


def _tint_by_heat(base: Floats, heat: Floats) -> Floats:
    opacity = _MAX_OPACITY * heat[..., None]
    blended: Floats = (1 - opacity) * base + opacity * colormaps["plasma"](heat)[..., :3]
    return blended


def _keys(part: SubFigure) -> None:
    steps = np.linspace(0, 1, 64)
    # As over pale tissue, because the key must show the colors of the maps.
    key = ListedColormap(_tint_by_heat(np.full((64, 3), _PALEST_GREY), steps))
    axes = part.add_axes((0.06, 0.62, 0.3, 0.13))
    bar = part.colorbar(ScalarMappable(Normalize(0, 1), key), cax=axes, orientation="horizontal")
    bar.set_label("evidence for the class that the path predicts", fontsize=SMALL_PT)
    bar.outline.set_visible(False)
    cell = Line2D([], [], linestyle="none", marker="o", markersize=6, markerfacecolor="none", color=INK, label="the cell")
    crop = Line2D([], [], linestyle="none", marker="s", markersize=7, markerfacecolor="none", color=INK, label="crop of the local path")
    text = "masked: glass and lumens"
    masked = Line2D([], [], linestyle="none", marker="s", markersize=7, markerfacecolor="white", color=FAINT, label=text)
    part.legend(handles=[cell, crop, masked], loc="center right", bbox_to_anchor=(1, 0.6), ncols=3)
