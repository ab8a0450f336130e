"""Windows around cells: their corners in `image.h5`, and the same windows in the schema of the public patch files.

The pipeline reads the corners, 8 bytes per cell. Other programs read `images`, a virtual dataset of about a hundred bytes per cell where a
copy of a 1024² patch takes three megabytes (docs/performance.md).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
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
from nuclass_pipeline.data.image.windows import corners, open_image
from nuclass_pipeline.io import IDS_DIGEST, cut_square, digest_ids, overlap, read_table, whole_file, whole_files, write_json_object
from nuclass_pipeline.io.hdf5.check import ITSELF, WINDOW_BLOCKS
from nuclass_pipeline.io.hdf5.patch_files import CHUNK_CACHE, FINEST, ORIGIN
from nuclass_pipeline.io.hdf5.reading import SOURCE_SHAPE
from nuclass_pipeline.runtime import track
from nuclass_pipeline.schemas import CELLS, LABELS
from nuclass_pipeline.units import ImagePixel, Micron

logger = logging.getLogger(__name__)

MAGNIFICATION = {0.25: "40x", 0.5: "20x"}
"""Pixel size, µm → magnification, as the public reference writes it."""
VIRTUAL_ROWS = 4096
"""Windows of a block: about 100 MB of memory while it is written."""


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
        records = _annotations(slide, organ, table.assign(label=classes.reindex(ids).to_numpy()), xy_px, padded, config.mpp)
        noted = (({**record, "no_image": why} if why else record) for record, why in zip(records, reasons, strict=True))
        write_json_object(zip(ids, noted, strict=True), annotations_partial)


def write_patches(
    path: Path, image: Path, ids: Sequence[str], xy_px: ImagePixel, side_px: int, config: ImageConfig, part: tuple[float, float] = (0, 1)
) -> Booleans:
    """Write one patch file: `images` (N, side, side, 3) uint8, `keys` (N,) UTF-8, `padded` (N,) bool, and `origin_px` (N, 2) int32.

    `origin_px` holds the left and top edge of each window in px of `image`; a file with copied windows has none.

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
    origin_px = corners(xy_px, side_px)
    shown = track(range(len(ids)), len(ids), f"windows of {side_px} px", part=part)
    # v110, because virtual datasets came with HDF5 1.10, and a later format would shut out older readers.
    with open_image(image) as source, whole_file(path) as partial, h5py.File(partial, "w", libver="v110") as file:
        level = source[FINEST]
        if config.materialize:
            _copy_windows(file, level, origin_px, side_px, config.fill, shown)
        else:
            _link_windows(file, level, image.name, origin_px, side_px, config.fill, shown)
        write_keys(file, ids)
        size_px = np.array([level.shape[1], level.shape[0]])
        padded: Booleans = ((origin_px < 0) | (origin_px + side_px > size_px)).any(axis=1) | _leave_their_image(source, xy_px, side_px)
        file["padded"] = padded
        file.attrs.update(mpp=config.mpp, fill=config.fill, side_px=side_px)
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
    """Write the cell ids of a patch file, and their hash."""
    file.create_dataset("keys", data=np.array(ids, dtype=object), dtype=h5py.string_dtype())
    file.attrs[IDS_DIGEST] = digest_ids(ids)


def write_reasons(file: h5py.File, reasons: NDArray[np.object_]) -> None:
    """Write why each cell of a file of local patches has no image; empty where it has one."""
    file.create_dataset("reason", data=reasons, dtype=h5py.string_dtype())


def _link_windows(
    file: h5py.File, level: h5py.Dataset, name: str, origin_px: NDArray[np.int32], side_px: int, fill: int, shown: Iterable[int]
) -> None:
    """Write the corners of the windows, and the windows as a virtual dataset of blocks, which are virtual in turn.

    In blocks, because HDF5 takes 25 kB of memory for each virtual window of a dataset that is written or opened.
    """
    shape, rows = (side_px, side_px, 3), len(origin_px)
    source = h5py.VirtualSource(name, FINEST, level.shape, np.uint8)
    images = h5py.VirtualLayout((rows, *shape), np.uint8)
    for row in shown:
        start, end = row // VIRTUAL_ROWS * VIRTUAL_ROWS, min(row // VIRTUAL_ROWS * VIRTUAL_ROWS + VIRTUAL_ROWS, rows)
        if row == start:
            block = h5py.VirtualLayout((end - start, *shape), np.uint8)
        left, top = origin_px[row].tolist()
        (rows_px, columns_px), (to_rows, to_columns) = overlap(left, top, side_px, *level.shape[:2])
        if rows_px.stop > rows_px.start and columns_px.stop > columns_px.start:
            block[row - start, to_rows, to_columns] = source[rows_px, columns_px]
        if row == end - 1:
            path = f"/{WINDOW_BLOCKS}/{start // VIRTUAL_ROWS:06d}"
            file.create_virtual_dataset(path, block, fillvalue=fill)
            images[start:end] = h5py.VirtualSource(ITSELF, path, (end - start, *shape), np.uint8)
    file.create_virtual_dataset("images", images, fillvalue=fill)
    file.create_dataset(ORIGIN, data=origin_px)
    file.attrs[SOURCE_SHAPE] = level.shape


def _copy_windows(
    file: h5py.File, level: h5py.Dataset, origin_px: NDArray[np.int32], side_px: int, fill: int, shown: Iterable[int]
) -> None:
    shape = (len(origin_px), side_px, side_px, 3)
    images = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]), compression="lzf")
    for row in shown:
        left, top = origin_px[row].tolist()
        images[row] = cut_square(level, left, top, side_px, fill)


def _annotations(slide: str, organ: str, table: pd.DataFrame, xy_px: ImagePixel, padded: Booleans, mpp: float) -> Iterator[dict[str, Any]]:
    """Yield the entry of each cell."""
    columns = (table["label"], table["x_um"], table["y_um"], xy_px, padded)
    for label, x_um, y_um, (x_px, y_px), flag in zip(*columns, strict=True):
        yield {
            "class_id": label,
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
