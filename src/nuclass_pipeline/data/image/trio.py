"""Patch datasets: a folder with `annotations.json` and two patch files, imported as if the pipeline had written it.

Two encodings of patch files are read: merged (`images`, `keys`), and one dataset per cell. Nothing is copied: the new files are virtual
datasets into the old ones, so the folder has to stay where it is.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import write_keys
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_h5, read_json, whole_file, whole_files, write_table
from nuclass_pipeline.layout import CONTEXT_PX, LOCAL_PX
from nuclass_pipeline.schemas import CELLS, LABELS, empty_labels
from nuclass_pipeline.vocabulary import LINEAGES, UNRESOLVED, read_label_map

logger = logging.getLogger(__name__)


def import_trio(
    *,
    annotations: Path,
    local_source: Path,
    context_source: Path,
    label_map: Path,
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
        Patch files of 224² and 1024² px.
    label_map
        Raw labels → classes. A label that it drops is logged with its number of cells, and the cells are Unresolved.
    config
        Pixel size and fill value.
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
    aligned = read_label_map(label_map).align(_values(annotations, records, "class_id"))
    for (raw, reason), count in aligned.dropped.most_common():
        logger.warning("%d cells of %r are Unresolved: %s", count, raw, reason)
    with whole_files(cells, labels, local, context) as (cells_partial, labels_partial, local_partial, context_partial):
        write_table(_cell_table(annotations, records, config.mpp), cells_partial, CELLS)
        write_table(_label_table(list(records), aligned.labels), labels_partial, LABELS)
        link_patches(local_source, local_partial, list(records), LOCAL_PX, config)
        link_patches(context_source, context_partial, list(records), CONTEXT_PX, config)


def _values(path: Path, records: dict[str, Any], field: str) -> list[Any]:
    for cell, record in records.items():
        if not isinstance(record, dict) or field not in record:
            raise UserError(path, field, f"is missing for cell {cell}", "Add it, or remove the cell.")
    return [record[field] for record in records.values()]


def _cell_table(path: Path, records: dict[str, Any], mpp: float) -> pd.DataFrame:
    frame = pd.DataFrame({"cell_id": list(records)})
    for axis in ("x", "y"):
        values = pd.to_numeric(pd.Series(_values(path, records, f"centroid_{axis}")), errors="coerce")
        if values.isna().any():
            cell = frame["cell_id"][int(np.flatnonzero(values.isna())[0])]
            problem = f"{records[cell][f'centroid_{axis}']!r} of cell {cell} is not a number"
            raise UserError(path, f"centroid_{axis}", problem, "Enter the centroid in px, or remove the cell.")
        frame[f"{axis}_um"] = values.to_numpy(dtype=np.float64) * mpp
    return frame.assign(cell_area_um2=np.nan, nucleus_area_um2=np.nan, transcripts=0, nucleus_transcripts=np.nan, controls=0)


def _label_table(ids: list[str], classes: list[str]) -> pd.DataFrame:
    frame = empty_labels(ids, "no class for the raw label").assign(label=classes, source="provided")
    labelled = frame["label"] != UNRESOLVED
    frame.loc[labelled, "candidate"] = frame["label"][labelled]
    frame["lineage"] = pd.Series([LINEAGES.get(name) for name in classes], dtype=object)
    frame["confidence"] = frame["lineage_confidence"] = labelled.astype(float)
    frame.loc[labelled, "reason"] = None
    return frame


def link_patches(source: Path, target: Path, ids: Sequence[str], side_px: int, config: ImageConfig) -> None:
    """Write a patch file whose row i is the patch of cell `ids[i]` in `source`, which may have either encoding."""
    with open_h5(source, "Copy the file again.") as file, whole_file(target) as partial, h5py.File(partial, "w", libver="v110") as linked:
        layout = h5py.VirtualLayout((len(ids), side_px, side_px, 3), np.uint8)
        merged = {"images", "keys"} <= set(file)
        rows = {key: row for row, key in enumerate(file["keys"].asstr()[:])} if merged else file
        if absent := [cell for cell in ids if cell not in rows]:
            problem = f"no patch for {len(absent)} cells, such as {absent[0]}"
            raise UserError(source, "keys" if merged else "datasets", problem, "Add them, or remove the cells from annotations.json.")
        if merged:
            _check_shape(source, "images", file["images"], side_px)
            images = h5py.VirtualSource(str(source.resolve()), "images", file["images"].shape, np.uint8)
        for row, cell in enumerate(ids):
            if not merged:
                _check_shape(source, cell, file[cell], side_px)
            # Without the fourth channel, because some public files hold alpha.
            layout[row] = images[rows[cell], :, :, :3] if merged else h5py.VirtualSource(file[cell])[:, :, :3]
        linked.create_virtual_dataset("images", layout, fillvalue=config.fill)
        write_keys(linked, ids)
        linked["padded"] = np.zeros(len(ids), dtype=bool)
        linked.attrs.update(mpp=config.mpp, fill=config.fill)


def _check_shape(path: Path, name: str, patches: h5py.Dataset, side_px: int) -> None:
    if patches.dtype != np.uint8 or patches.shape[-3:-1] != (side_px, side_px) or patches.shape[-1] not in (3, 4):
        problem = f"is {patches.dtype} of shape {patches.shape}, not uint8 of ({side_px}, {side_px}, 3)"
        raise UserError(path, name, problem, f"Cut the patches again with {side_px} px per side; see docs/data.md.")
