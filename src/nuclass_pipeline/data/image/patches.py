"""Windows around cells, in the schema of the public patch files, as HDF5 virtual datasets into `image.h5`.

A virtual window takes about a hundred bytes where a copy of a 1024² patch takes three megabytes, and reads at the same speed
(docs/performance.md).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.data.image.no_image import find_reasons
from nuclass_pipeline.data.image.windows import cut_window, open_image, overlap
from nuclass_pipeline.io import read_table, whole_file, whole_files, write_json
from nuclass_pipeline.io.hdf5 import SOURCE_SHAPE
from nuclass_pipeline.io.patch_files import CHUNK_CACHE
from nuclass_pipeline.runtime import track
from nuclass_pipeline.schemas import CELLS, LABELS
from nuclass_pipeline.units import ImagePixel, Micron

logger = logging.getLogger(__name__)

MAGNIFICATION = {0.25: "40x", 0.5: "20x"}
"""Pixel size, µm → magnification, as the public reference writes it."""


def extract_patches(
    *,
    slide: str,
    organ: str,
    image: Path,
    registration: Path,
    cells: Path,
    labels: Path,
    config: ImageConfig,
    local: Path,
    context: Path,
    annotations: Path,
) -> None:
    """Write the local and context windows of every cell, and `annotations.json`.

    Parameters
    ----------
    slide, organ
        Id of the slide and its organ, for the annotations.
    image, registration
        The resampled H&E, and the alignment that places the cells on it.
    cells, labels
        Tables `CELLS` and `LABELS`.
    config
        Pixel size, sides of the windows, fill value, and whether patches are copied.
    local, context
        Patch files of crops and context windows, rows in the order of `cells`. `reason` in the first says why a cell has no image.
    annotations
        JSON in the schema of the public reference: cell id → class, centroid and slide. `no_image` says why a cell has no image.
    """
    alignment, _ = read_registration(registration)
    table = read_table(cells, CELLS)
    xy_px = alignment.to_image(Micron(table[["x_um", "y_um"]].to_numpy()), config.mpp)
    ids = table["cell_id"].tolist()
    classes = read_table(labels, LABELS).set_index("cell_id")["label"]
    with open_image(image, **CHUNK_CACHE) as source:
        reasons = find_reasons(source, xy_px, config.mpp, config.local_px)
    # A copied window takes time by its pixels; one that is linked takes as much as any other.
    local_share = config.local_px**2 / (config.local_px**2 + config.context_px**2) if config.materialize else 0.5
    with whole_files(local, context, annotations) as (local_partial, context_partial, annotations_partial):
        write_patches(local_partial, image, ids, xy_px, config.local_px, config, (0, local_share))
        with h5py.File(local_partial, "a", libver="v110") as file:
            write_reasons(file, reasons)
        padded = write_patches(context_partial, image, ids, xy_px, config.context_px, config, (local_share, 1))
        records = _annotations(slide, organ, table, xy_px, classes, padded, config.mpp)
        for cell, reason in zip(ids, reasons, strict=True):
            records[cell] |= {"no_image": reason} if reason else {}
        write_json(records, annotations_partial)


def write_patches(
    path: Path, image: Path, ids: Sequence[str], xy_px: ImagePixel, side_px: int, config: ImageConfig, part: tuple[float, float] = (0, 1)
) -> Booleans:
    """Write one patch file: `images` (N, side, side, 3) uint8, `keys` (N,) UTF-8 and `padded` (N,) bool.

    Parameters
    ----------
    path, image
        Patch file, and the resampled H&E in the same folder.
    ids, xy_px
        Cells (N,), and their centroids (N, 2) in px of `image`.
    part
        Shares of the job at which the file begins and ends, for its progress.

    Returns
    -------
    padded
        Whether the window of a cell reaches over the edge of the image, (N,).
    """
    # v110, because virtual datasets came with HDF5 1.10, and a later format would shut out older readers.
    with open_image(image) as source, whole_file(path) as partial, h5py.File(partial, "w", libver="v110") as file:
        level = source["level_0"]
        if config.materialize:
            padded = _copy_windows(file, level, xy_px, side_px, config.fill, part)
        else:
            padded = _link_windows(file, level, image.name, xy_px, side_px, config.fill, part)
        write_keys(file, ids)
        padded |= _leave_their_image(source, xy_px, side_px)
        file["padded"] = padded
        file.attrs.update(mpp=config.mpp, fill=config.fill)
    return padded


def _leave_their_image(source: h5py.File, xy_px: ImagePixel, side_px: int) -> Booleans:
    """Return whether each window shows more than the image of a mosaic that its cell lies in, (N,)."""
    padded = np.zeros(len(xy_px), dtype=bool)
    for top, left, height, width in source["frames"][...] if "frames" in source else ():
        x, y = xy_px[:, 0] - left, xy_px[:, 1] - top
        here = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        low, high = np.round(np.stack([x, y]) - side_px / 2), np.array([[width], [height]])
        padded |= here & ((low < 0) | (low + side_px > high)).any(axis=0)
    return padded


def write_keys(file: h5py.File, ids: Sequence[str]) -> None:
    """Write the cell ids of a patch or feature file."""
    file.create_dataset("keys", data=np.array(ids, dtype=object), dtype=h5py.string_dtype())


def write_reasons(file: h5py.File, reasons: NDArray[np.object_]) -> None:
    """Write why each cell of a file of local patches has no image; empty where it has one."""
    file.create_dataset("reason", data=reasons, dtype=h5py.string_dtype())


def _link_windows(
    file: h5py.File, level: h5py.Dataset, name: str, xy_px: ImagePixel, side_px: int, fill: int, part: tuple[float, float]
) -> Booleans:
    layout = h5py.VirtualLayout((len(xy_px), side_px, side_px, 3), np.uint8)
    source = h5py.VirtualSource(name, "level_0", level.shape, np.uint8)
    padded = np.zeros(len(xy_px), dtype=bool)
    for row, (x, y) in enumerate(track(xy_px, len(xy_px), f"windows of {side_px} px", part=part)):
        (rows, columns), (to_rows, to_columns) = overlap(x, y, side_px, *level.shape[:2])
        padded[row] = (rows.stop - rows.start, columns.stop - columns.start) != (side_px, side_px)
        if rows.stop > rows.start and columns.stop > columns.start:
            layout[row, to_rows, to_columns] = source[rows, columns]
    file.create_virtual_dataset("images", layout, fillvalue=fill)
    file.attrs[SOURCE_SHAPE] = level.shape
    return padded


def _copy_windows(file: h5py.File, level: h5py.Dataset, xy_px: ImagePixel, side_px: int, fill: int, part: tuple[float, float]) -> Booleans:
    shape = (len(xy_px), side_px, side_px, 3)
    images = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]), compression="lzf")
    padded = np.zeros(len(xy_px), dtype=bool)
    for row, (x, y) in enumerate(track(xy_px, len(xy_px), f"windows of {side_px} px", part=part)):
        images[row], padded[row] = cut_window(level, x, y, side_px, fill)
    return padded


def _annotations(
    slide: str, organ: str, table: pd.DataFrame, xy_px: ImagePixel, classes: "pd.Series[str]", padded: Booleans, mpp: float
) -> dict[str, Any]:
    return {
        cell: {
            "class_id": classes[cell],
            "tissue_type": organ,
            "centroid_x": float(x_px),
            "centroid_y": float(y_px),
            "micron_x_centroid": x_um,
            "micron_y_centroid": y_um,
            "micron_per_pixel": mpp,
            "magnification": MAGNIFICATION.get(mpp, ""),
            "image_modality": "bright field H&E",
            "slide_id": slide,
            "has_padding_flags": bool(flag),
        }
        for cell, x_um, y_um, (x_px, y_px), flag in zip(table["cell_id"], table["x_um"], table["y_um"], xy_px, padded, strict=True)
    }
