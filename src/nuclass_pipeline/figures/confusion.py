"""Confusion of classes: row-normalised matrices of the three models over all held-out cells."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.figures.style import (
    SMALL_PT,
    WIDTH_IN,
    PredictionFiles,
    as_paths,
    hide_frame,
    in_order,
    is_dark,
    new_figure,
    short_name,
)
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

# Not below, because zeros and ones in most fields would hide the confusions that matter.
_MIN_PRINTED = 0.01
_FIELD_IN = 0.113
"""Smallest width of a field: that of two digits at the smallest size of text."""
_ROW_IN, _NAMES_IN, _KEY_IN = 0.14, 1.4, 0.5
_MIN_ROWS = 8
"""Smallest number of rows that leaves room for the name of the key."""


def draw(*, local: PredictionFiles, global_: PredictionFiles, gate: PredictionFiles) -> Figure:
    """Draw three matrices (open label set); labels without cells are left out, and those that the models lack are not.

    They stand side by side as far as percentages can be read, and else in two rows.

    Parameters
    ----------
    local, global_, gate
        Prediction tables of the held-out slides; several seeds are pooled.
    """
    counts = {name: count(as_paths(paths)) for name, paths in zip(MODELS, (local, global_, gate), strict=True)}
    rows = in_order({name for table in counts.values() for name in table.index})
    columns = in_order({*rows, *(name for table in counts.values() for name in table.columns[table.sum() > 0])})
    across = int(np.clip((WIDTH_IN - _NAMES_IN - _KEY_IN) // (_FIELD_IN * len(columns)), 2, len(counts)))
    down = -(-len(counts) // across)
    figure = new_figure(down * (1.35 + _ROW_IN * max(len(rows), _MIN_ROWS)))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(counts) :]:
        axes.set_visible(False)
    for axes, (name, table) in zip(grid.ravel(), counts.items(), strict=False):
        image = _matrix(axes, table.reindex(index=rows, columns=columns, fill_value=0), name)
    for axes in grid[:, 0]:
        axes.set_ylabel("label (cells)")
    # In percent, as the numbers in the fields.
    in_percent = PercentFormatter(1, 0, symbol=None)
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), ax=list(grid.ravel()), shrink=0.7, aspect=30, pad=0.01, format=in_percent)
    bar.set_label("% of the label's cells")
    bar.outline.set_visible(False)
    return figure


def count(paths: Sequence[Path]) -> pd.DataFrame:
    """Count cells by label (rows) and predicted class (columns); cells of classes that the model lacks are errors."""
    frames = [read_table(path, PREDICTIONS) for path in paths]
    classes = [str(name).removeprefix("p_") for name in frames[0] if str(name).startswith("p_")]
    cells = pd.concat([frame[["label", "predicted"]] for frame in frames])
    cells = cells[cells["label"] != UNRESOLVED]
    return pd.crosstab(cells["label"], cells["predicted"]).reindex(columns=classes, fill_value=0)


def _matrix(axes: Axes, table: pd.DataFrame, name: str) -> AxesImage:
    counts = table.to_numpy(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", norm=Normalize(0, 1), aspect="auto")
    right = sum(counts[table.index.get_loc(label), table.columns.get_loc(label)] for label in table.index)
    axes.set_title(f"{name}   accuracy {right / max(counts.sum(), 1):.3f}", loc="left")
    hide_frame(axes)
    axes.set_xticks(range(len(table.columns)), [short_name(label) for label in table.columns], rotation=90)
    names = [f"{short_name(str(label))} ({n:,})" for label, n in table.sum(axis=1).items()]
    axes.set_yticks(range(len(table.index)), names)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_xticks(np.arange(len(table.columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(table.index) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    _write_shares(axes, shares, image)
    return image


def _write_shares(axes: Axes, shares: Floats, image: AxesImage) -> None:
    colors = image.to_rgba(shares)
    for (row, column), share in np.ndenumerate(shares):
        if share >= _MIN_PRINTED:
            color = "white" if is_dark(colors[row, column]) else "black"
            # In a halo of the field's color, because three digits may be wider than a field.
            halo = [withStroke(linewidth=1.2, foreground=colors[row, column])]
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL_PT, "color": color, "path_effects": halo}
            axes.text(column, row, f"{100 * share:.0f}", **style)
