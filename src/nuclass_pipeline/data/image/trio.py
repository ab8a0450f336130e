"""Bring your own: a folder with `annotations.json` and two patch files enters the chain as if the pipeline had made it.

Both encodings of patch files are read: merged (`images`, `keys`) and one dataset per cell. Nothing is copied: the new
files are virtual datasets into the old ones, so the folder has to stay where it is.
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
from nuclass_pipeline.io import read_json, require, whole_file, whole_files, write_table
from nuclass_pipeline.layout import CONTEXT_PX, LOCAL_PX
from nuclass_pipeline.schemas import CELLS, LABELS
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
    """Write `cells.parquet`, `labels.parquet` and two patch files for a trio.

    Raw labels pass through the label map; what it drops is logged with counts and becomes Unresolved.

    Raises
    ------
    UserError
        If a field, an image or a file is missing, or a patch has the wrong shape.
    """
    records = read_json(annotations)
    if not isinstance(records, dict) or not records:
        raise UserError(
            annotations, "file", "is no JSON object of cells", "Its keys are cell ids, its values objects with class_id and centroids."
        )
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
            raise UserError(path, field, f"is missing for cell {cell}", "Every cell needs it.")
    return [record[field] for record in records.values()]


def _cell_table(path: Path, records: dict[str, Any], mpp: float) -> pd.DataFrame:
    frame = pd.DataFrame({"cell_id": list(records)})
    for axis in ("x", "y"):
        values = pd.to_numeric(pd.Series(_values(path, records, f"centroid_{axis}")), errors="coerce")
        if values.isna().any():
            cell = frame["cell_id"][int(np.flatnonzero(values.isna())[0])]
            raise UserError(path, f"centroid_{axis}", f"is no number for cell {cell}", "Every cell needs its place.")
        frame[f"{axis}_um"] = values.to_numpy(dtype=np.float64) * mpp
    return frame.assign(cell_area_um2=np.nan, nucleus_area_um2=np.nan, transcripts=0, nucleus_transcripts=np.nan, controls=0)


def _label_table(ids: list[str], classes: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cell_id": ids,
            "cluster": None,
            "label": classes,
            "candidate": [name if name != UNRESOLVED else None for name in classes],
            "lineage": [LINEAGES.get(name) for name in classes],
            "confidence": [float(name != UNRESOLVED) for name in classes],
            "lineage_confidence": [float(name != UNRESOLVED) for name in classes],
            "support": np.nan,
            "margin": np.nan,
            "purity": np.nan,
            "reason": [None if name != UNRESOLVED else "no class for the raw label" for name in classes],
            "source": "provided",
        }
    )


def link_patches(source: Path, target: Path, ids: Sequence[str], side_px: int, config: ImageConfig) -> None:
    """Write a patch file whose row i shows the patch of cell `ids[i]` in `source`, whichever encoding that has."""
    with _open(source) as file, whole_file(target) as partial, h5py.File(partial, "w", libver="v110") as linked:
        layout = h5py.VirtualLayout((len(ids), side_px, side_px, 3), np.uint8)
        merged = {"images", "keys"} <= set(file)
        rows = {key: row for row, key in enumerate(file["keys"].asstr()[:])} if merged else file
        if absent := [cell for cell in ids if cell not in rows]:
            raise UserError(
                source,
                "keys" if merged else "datasets",
                f"no patch for {len(absent)} cells, such as {absent[0]}",
                "Every annotated cell needs one.",
            )
        if merged:
            _check_shape(source, "images", file["images"], side_px)
            images = h5py.VirtualSource(str(source.resolve()), "images", file["images"].shape, np.uint8)
        for row, cell in enumerate(ids):
            if not merged:
                _check_shape(source, cell, file[cell], side_px)
            layout[row] = images[rows[cell], :, :, :3] if merged else h5py.VirtualSource(file[cell])[:, :, :3]
        linked.create_virtual_dataset("images", layout, fillvalue=config.fill)
        write_keys(linked, ids)
        linked["padded"] = np.zeros(len(ids), dtype=bool)
        linked.attrs.update(mpp=config.mpp, fill=config.fill)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(require(path), "r")
    except OSError as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({error})", "Copy the file again.") from error


def _check_shape(path: Path, name: str, patches: h5py.Dataset, side_px: int) -> None:
    if patches.dtype != np.uint8 or patches.shape[-3:-1] != (side_px, side_px) or patches.shape[-1] not in (3, 4):
        wanted = f"{side_px} × {side_px} RGB of 8 bits"
        raise UserError(path, name, f"is {patches.dtype} of shape {patches.shape}, not {wanted}", "See docs/data.md for patch files.")
