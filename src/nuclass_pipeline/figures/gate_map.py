"""The gate in the tissue: the weight of the global path, and which path is right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures.pictures.tissue import COVER, draw_tissue, marker_area, read_overviews, span, tissue_frame
from nuclass_pipeline.figures.style import (
    OUTCOME_COLORS,
    OUTCOME_NAMES,
    WIDTH_IN,
    PredictionFiles,
    as_paths,
    fit_name,
    hide_frame,
    new_figure,
)
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

_PANEL_IN = 0.46 * WIDTH_IN
# From the bottom to the top, because the cells on which the paths differ must not be hidden.
_LAYERS = ("both", "neither", "local_only", "global_only")


def draw(*, local: PredictionFiles, global_: PredictionFiles, gate: PredictionFiles, overviews: Path, slides: Sequence[str]) -> Figure:
    """Draw two maps per slide on its H&E: the weight of the global path, and which path is right.

    Parameters
    ----------
    local, global_, gate
        Prediction tables of one seed, in the order of `slides`.
    overviews
        Small pictures of the H&E.
    slides
        Held-out slides.
    """
    files = list(zip(as_paths(local), as_paths(global_), as_paths(gate), strict=True))
    cells, pictures = {slide: read_outcomes(*paths) for slide, paths in zip(slides, files, strict=True)}, read_overviews(overviews)
    heights = [0.45 + _PANEL_IN * min(1.2, max(0.35, span(frame["y_um"]) / span(frame["x_um"]))) for frame in cells.values()]
    figure = new_figure(sum(heights) + 0.6)
    grid = figure.subplots(len(cells), 2, squeeze=False, height_ratios=heights)
    for (left, right), (slide, frame) in zip(grid, cells.items(), strict=True):
        for axes in (left, right):
            draw_tissue(axes, pictures, slide)
        points = _map_weights(left, frame)
        _map_outcomes(right, frame)
        left.set_title(f"{fit_name(slide, 26)}: {len(frame):,} cells", loc="left")
        right.set_title(f"which path is right: {frame['outcome'].count():,} labelled cells", loc="left", fontweight="normal")
        for axes in (left, right):
            hide_frame(axes)
            tissue_frame(axes, frame)
    _keys(figure, grid[:, 0].tolist(), grid[:, 1].tolist(), points)
    return figure


def _keys(figure: Figure, left: list[Axes], right: list[Axes], points: PathCollection) -> None:
    bar = figure.colorbar(points, ax=left, location="bottom", shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("gate weight of the global path")
    bar.outline.set_visible(False)
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4}
    handles = [Line2D([], [], color=OUTCOME_COLORS[name], label=OUTCOME_NAMES[name], **style) for name in OUTCOME_COLORS]
    right[-1].legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, handletextpad=0.1, columnspacing=1)


def read_outcomes(local: Path, global_: Path, gate: Path) -> pd.DataFrame:
    """Read the gate's cells and add which path is right.

    Parameters
    ----------
    local, global_, gate
        Prediction tables of one slide and seed.

    Returns
    -------
    DataFrame
        Columns cell_id, label, x_um, y_um, gate_weight and outcome: both, local_only, global_only or neither, and NaN for unlabelled cells.

    Raises
    ------
    UserError
        If the three files do not have the same cells.
    """
    cells = read_table(gate, PREDICTIONS, ["cell_id", "label", "x_um", "y_um", "gate_weight"])
    right = {}
    for name, path in (("local", local), ("global", global_)):
        other = read_table(path, PREDICTIONS, ["cell_id", "predicted"])
        if not other["cell_id"].equals(cells["cell_id"]):
            raise UserError(path, "cell_id", "its cells differ from the gate's", "Remove the file and run again.")
        right[name] = (other["predicted"] == cells["label"]).to_numpy()
    cases = [right["local"] & right["global"], right["local"], right["global"]]
    outcome = pd.Series(np.select(cases, ["both", "local_only", "global_only"], "neither"))
    return cells.assign(outcome=outcome.where(cells["label"] != UNRESOLVED))


def _size(cells: pd.DataFrame) -> float:
    return marker_area(span(cells["x_um"]), span(cells["y_um"]), len(cells), _PANEL_IN, COVER)


def _map_weights(axes: Axes, cells: pd.DataFrame) -> PathCollection:
    style: dict[str, Any] = {"cmap": "cividis", "norm": Normalize(0, 1), "linewidths": 0, "rasterized": True}
    return axes.scatter(cells["x_um"], cells["y_um"], c=cells["gate_weight"], s=_size(cells), **style)


def _map_outcomes(axes: Axes, cells: pd.DataFrame) -> None:
    for name in _LAYERS:
        part = cells[cells["outcome"] == name]
        axes.scatter(part["x_um"], part["y_um"], color=OUTCOME_COLORS[name], s=_size(cells), linewidths=0, rasterized=True, label=name)
