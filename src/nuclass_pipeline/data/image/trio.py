"""Patch datasets: a folder with `annotations.json` and two patch files, imported as if the pipeline had written it.

Two encodings of patch files are read: merged (`images`, `keys`), and one dataset per cell. Nothing is copied: the new files name the old
ones and the rows in them, so the folder has to stay where it is.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.no_image import NO_TISSUE, is_blank
from nuclass_pipeline.data.image.patches import write_keys, write_reasons
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import (
    READ_ERRORS,
    WindowReader,
    first_line,
    open_window_file,
    read_json,
    read_keys,
    read_texts,
    side_of,
    whole_file,
    whole_files,
    write_table,
)
from nuclass_pipeline.io.hdf5.patch_files import ORIGIN, SOURCE
from nuclass_pipeline.io.hdf5.windows import SOURCE_ROW
from nuclass_pipeline.runtime import track
from nuclass_pipeline.schemas import CELLS, LABELS, provided_labels
from nuclass_pipeline.vocabulary import read_label_map

logger = logging.getLogger(__name__)

MAX_CENTROID_PX = 1e9
"""Far beyond the largest slide, so that only numbers of another meaning are refused."""


def import_trio(
    *,
    annotations: Path,
    local_source: Path,
    context_source: Path,
    label_map: Path,
    own: Sequence[str] = (),
    config: ImageConfig,
    cells: Path,
    labels: Path,
    local: Path,
    context: Path,
) -> None:
    """Write `cells.parquet`, `labels.parquet` and two patch files of a patch dataset.

    Parameters
    ----------
    annotations
        JSON: cell id → `class_id`, `centroid_x` and `centroid_y` in px of `config.mpp`.
    local_source, context_source
        Patch files of crops and context windows, as wide as those of the run.
    label_map
        Raw labels → classes. A label that it drops is logged with its number of cells, and the cells are Unresolved.
    own
        The study's own names of classes.
    config
        Pixel size, sides of the windows and fill value.
    cells, labels, local, context
        Files to write, rows in the order of `annotations`.

    Raises
    ------
    UserError
        If a field, a patch or a file is missing, or a patch has the wrong shape.
    """
    records = read_json(annotations)
    if not isinstance(records, dict) or not records:
        remedy = 'Write one entry per cell: {"<cell id>": {"class_id": "…", "centroid_x": …, "centroid_y": …}}.'
        raise UserError(annotations, "file", "is not a JSON object of cells", remedy)
    aligned = read_label_map(label_map, own).align(_values(annotations, records, "class_id"))
    for (raw, reason), count in aligned.dropped.most_common():
        logger.warning("%d cells of %r are Unresolved: %s", count, raw, reason)
    with whole_files(cells, labels, local, context) as (cells_partial, labels_partial, local_partial, context_partial):
        write_table(_cell_table(annotations, records, config.mpp), cells_partial, CELLS)
        write_table(provided_labels(records, aligned.labels), labels_partial, LABELS)
        link_patches(local_source, local_partial, list(records), "local_um", config)
        link_patches(context_source, context_partial, list(records), "context_um", config)


def _values(path: Path, records: dict[str, Any], field: str) -> list[Any]:
    for cell, record in records.items():
        if not isinstance(record, dict) or field not in record:
            raise UserError(path, field, f"is missing for cell {cell}", "Add it, or remove the cell.")
    return [record[field] for record in records.values()]


def _cell_table(path: Path, records: dict[str, Any], mpp: float) -> pd.DataFrame:
    frame = pd.DataFrame({"cell_id": list(records)})
    for axis in ("x", "y"):
        values = [_number(value) for value in _values(path, records, f"centroid_{axis}")]
        if wrong := [cell for cell, value in zip(records, values, strict=True) if not abs(value) < MAX_CENTROID_PX]:
            problem = f"{records[wrong[0]][f'centroid_{axis}']!r} of cell {wrong[0]} is not a number of pixels"
            raise UserError(path, f"centroid_{axis}", problem, "Enter the centroid in px, or remove the cell.")
        frame[f"{axis}_um"] = np.array(values, dtype=np.float64) * mpp
    return frame.assign(cell_area_um2=np.nan, nucleus_area_um2=np.nan, transcripts=0, nucleus_transcripts=np.nan, controls=0)


def _number(value: Any) -> float:
    """Return a number, or a text that holds one; NaN for anything else."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def link_patches(source: Path, target: Path, ids: Sequence[str], field: str, config: ImageConfig) -> None:
    """Write a patch file whose row i is the patch of cell `ids[i]` in `source`, which may have either encoding.

    Local patches also get the reason why a cell has no image: that of the source, or else that the patch is of one colour.

    Raises
    ------
    UserError
        If the source is broken, lacks a cell, holds other shapes or another pixel size, or points into other files than its own image.
    """
    side_px = round(getattr(config, field) / config.mpp)
    with whole_file(target) as partial:
        with h5py.File(partial, "w", libver="v110") as linked:
            try:
                with open_window_file(source) as file:
                    _check_mpp(source, file, config.mpp)
                    rows = _find_rows(source, file, ids, field, config)
                    stored = read_texts(file["reason"])[rows] if "reason" in file and rows is not None else None
            # Around the reading too, because a file that is damaged in the middle can be opened.
            except READ_ERRORS as error:
                raise UserError(source, "file", f"not a readable patch file ({first_line(error)})", "Copy the file again.") from error
            if rows is not None:
                linked[SOURCE_ROW] = rows
            write_keys(linked, ids)
            linked["padded"] = np.zeros(len(ids), dtype=bool)
            # Resolved, because a run must find the file wherever the new one lies.
            linked.attrs.update({SOURCE: str(source.resolve()), "mpp": config.mpp, "fill": config.fill, "side_px": side_px})
        if field == "local_um":
            reasons = _reasons(partial) if stored is None else stored
            with h5py.File(partial, "a", libver="v110") as linked:
                write_reasons(linked, reasons)


def _check_mpp(source: Path, file: h5py.File, mpp: float) -> None:
    found = file.attrs.get("mpp")
    # Files of the public data set name no pixel size.
    if found is not None and (np.ndim(found) or not abs(_number(found) - mpp) <= 1e-6 * mpp):
        problem = f"its windows have {found} µm per px, and image.mpp is {mpp:g}"
        raise UserError(source, "mpp", problem, f"Set image.mpp to {found}, or cut the patches again at {mpp:g} µm per px.")


def _find_rows(source: Path, file: h5py.File, ids: Sequence[str], field: str, config: ImageConfig) -> Integers | None:
    """Return the row of each cell in a merged file, (N,); None where each cell has a dataset of its own."""
    if SOURCE in file.attrs:
        raise UserError(
            source, SOURCE, f"its patches lie in {file.attrs[SOURCE]}", "Name that file, or write copies: `nuclass export-trio`."
        )
    merged = "keys" in file and ("images" in file or ORIGIN in file)
    keys = pd.Index(read_keys(source, file["keys"]) if merged else list(file))
    if ORIGIN in file:
        side_px = side_of(source, file)
        _check_shape(source, "images", np.uint8, (len(keys), side_px, side_px, 3), (len(keys),), field, config)
    elif merged:
        _check_patches(source, file, "images", (len(keys),), field, config)
    rows = keys.get_indexer(pd.Index(list(ids)))
    if absent := [cell for cell, row in zip(ids, rows, strict=True) if row < 0]:
        problem = f"no patch for {len(absent)} cells, such as {absent[0]}"
        raise UserError(source, "keys" if merged else "datasets", problem, "Add them, or remove the cells from annotations.json.")
    for name in [] if merged else ids:
        _check_patches(source, file, name, (), field, config)
    return rows.astype(np.int64) if merged else None


def _check_patches(source: Path, file: h5py.File, name: str, rows: tuple[int, ...], field: str, config: ImageConfig) -> None:
    patches = file[name]
    if not isinstance(patches, h5py.Dataset):
        raise UserError(source, name, "is a group, not a patch", "Keep the datasets of the cells at the top of the file.")
    _check_shape(source, name, patches.dtype, patches.shape, rows, field, config)


def _check_shape(
    path: Path, name: str, dtype: Any, found: tuple[int, ...] | None, rows: tuple[int, ...], field: str, config: ImageConfig
) -> None:
    side_um = getattr(config, field)
    shape = (*rows, *[round(side_um / config.mpp)] * 2)
    if dtype != np.uint8 or found not in ((*shape, 3), (*shape, 4)):
        problem = f"is {np.dtype(dtype)} of shape {found}, not uint8 of {(*shape, 3)}"
        remedy = f"Cut the patches again with {shape[-1]} px per side; see docs/data.md."
        sides = (found or ())[len(rows) : len(rows) + 2]
        if dtype == np.uint8 and len(sides) == 2 and sides[0] == sides[1] and sides[0] != shape[-1]:
            problem += f": windows of {sides[0] * config.mpp:.10g} µm, and image.{field} is {side_um:g}"
            remedy = f"Set image.{field} to {sides[0] * config.mpp:.10g}, or cut the patches again with {shape[-1]} px per side."
        raise UserError(path, name, problem, remedy)


def _reasons(linked: Path) -> NDArray[np.object_]:
    """Return why each cell of a patch file has no image, from its pixels, (N,)."""
    windows = WindowReader(linked)
    reasons = np.full(windows.cells, "", dtype=object)
    for row in track(range(windows.cells), windows.cells, "patches"):
        if is_blank(windows.read(np.array([row]))[0]):
            reasons[row] = NO_TISSUE
    return reasons
