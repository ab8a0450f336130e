"""Patch files: images of cells with their ids, stored as pixels or as windows into another file."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.hdf5.reading import COPY_WINDOWS, IMAGE, SOURCE_SHAPE, damaged_h5, open_h5, read_texts
from nuclass_pipeline.io.paths import MAKE_AGAIN, READ_ERRORS

if TYPE_CHECKING:
    import h5py

FORMAT_REMEDY = "Write the file with the datasets images (N, S, S, 3) and keys (N,); see docs/data.md."
MAKE_PATCHES_AGAIN = "Remove the file and run again."
FINEST = "level_0"
"""The image itself in `image.h5`; further levels are coarser."""
ORIGIN, SOURCE = "origin_px", "source"
"""The corners of the windows in `image.h5`, and the attribute that names the patch file of another data set."""
IDS_DIGEST = "ids_sha256"
"""Attribute of patch and feature files: the hash of their cell ids."""
VIRTUAL = ("images", "blocks")
"""What other programs read of a file with corners."""
# 1365 chunks of `image.h5` (256² px of 3 bytes). A prime, near a hundred slots per chunk, because HDF5 drops a chunk whose slot is taken.
CHUNK_CACHE: dict[str, Any] = {"rdcc_nbytes": 256 * 2**20, "rdcc_nslots": 130_003}


@contextmanager
def open_patches(path: Path | str, side_px: int | None = None) -> Iterator["h5py.File"]:
    """Open a patch file with `images` and `keys`, and check its shape; patches may have any side if `side_px` is None.

    Raises
    ------
    UserError
        If the file is missing or broken, lacks a dataset, or holds patches of another shape.
    """
    with open_h5(path, "Copy the file again, or remove it and run again.") as file:
        for name in ("images", "keys"):
            if not hasattr(file.get(name), "shape"):
                raise UserError(path, name, f"the dataset is missing; found {', '.join(list(file)[:5])}", FORMAT_REMEDY)
        shape: tuple[int, ...] = file["images"].shape or ()
        cells = file["keys"].size
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[0] != cells or shape[1] != (side_px or shape[1]):
            wanted = f"(N, {side_px or 'S'}, {side_px or 'S'}, 3) with N keys"
            raise UserError(path, "images", f"has shape {shape} with {cells} keys, not {wanted}", FORMAT_REMEDY)
        if file["images"].dtype != np.uint8:
            raise UserError(path, "images", f"is {file['images'].dtype}, not uint8", FORMAT_REMEDY)
        yield file


def open_window_file(path: Path | str) -> "h5py.File":
    """Open a patch file without its virtual windows, if it names corners or a source to read instead.

    Raises
    ------
    UserError
        If the file is missing or broken, or the image or source that it names is missing, or another one.
    """
    with ExitStack() as until_checked:
        file = until_checked.enter_context(open_h5(path, unread=VIRTUAL))
        if ORIGIN not in file and SOURCE not in file.attrs:
            return open_h5(path)
        folder = Path(file.filename).parent
        if ORIGIN in file:
            _check_holder(path, folder / IMAGE, FINEST, file.attrs.get(SOURCE_SHAPE))
        else:
            _check_source(path, folder / str(file.attrs[SOURCE]))
        until_checked.pop_all()
    return file


def read_corners(path: Path | str, stored: "h5py.Dataset") -> NDArray[np.int32]:
    """Return the left and top (N, 2) of the windows of a patch file, px.

    Raises
    ------
    UserError
        If they are not whole numbers, or not two for each window.
    """
    if stored.ndim != 2 or stored.shape[1] != 2 or not np.issubdtype(stored.dtype, np.integer):
        raise UserError(path, ORIGIN, f"is {stored.dtype} of shape {stored.shape}, not whole numbers (N, 2)", MAKE_PATCHES_AGAIN)
    return np.asarray(stored[...], np.int32)


def check_patch(path: Path, name: str, dtype: Any, shape: tuple[int, ...] | None) -> int:
    """Return the side of patches of `shape`: (S, S, 3), (S, S, 4) with alpha, or (S, S, 1) and (S, S) of grey, all uint8.

    Raises
    ------
    UserError
        If they are of another shape or type.
    """
    if dtype != np.uint8:
        raise UserError(path, name, f"is {dtype}, not uint8", "Write whole numbers from 0 to 255 as uint8.")
    if not shape or len(shape) not in (2, 3) or shape[0] != shape[1] or not shape[0] or shape[2:] not in ((), (1,), (3,), (4,)):
        problem = f"its patches have shape {shape}, not (S, S, 3)"
        raise UserError(path, name, problem, "Write square patches with the colors last; see docs/data.md.")
    return int(shape[0])


def _check_source(path: Path | str, source: Path) -> None:
    if not source.is_file():
        remedy = "Put the file back, or correct `bundle` in the slide sheet; then run again."
        raise UserError(path, SOURCE, f"its patches lie in {source}, which does not exist", remedy)


def _check_holder(path: Path | str, holder: Path, name: str, shape: "NDArray[Any] | None") -> None:
    if not holder.is_file():
        raise UserError(path, "images", f"its windows point into {holder}, which does not exist", COPY_WINDOWS)
    with open_h5(holder, MAKE_AGAIN) as file:
        found = tuple(file[name].shape) if name in file else ()
    made_for = found if shape is None else tuple(map(int, shape))
    if not found or found != made_for:
        problem = f"its windows were made for {name} of shape {made_for}, but {holder} has {found or 'none'}"
        raise UserError(path, "images", problem, COPY_WINDOWS)


def read_keys(path: Path | str, keys: "h5py.Dataset") -> NDArray[np.object_]:
    """Return cell ids (N,) as text, from a dataset (N,) or (N, 1) of text or of whole numbers.

    Raises
    ------
    UserError
        If they are of another shape or kind, or one that is not empty occurs twice.
    """
    from h5py import Dataset, check_string_dtype

    shape = keys.shape if isinstance(keys, Dataset) else None
    if shape is None or shape not in ((keys.size,), (keys.size, 1)):
        raise UserError(path, "keys", f"has shape {shape}, not (N,)", FORMAT_REMEDY)
    if keys.dtype.kind not in "iu" and check_string_dtype(keys.dtype) is None:
        raise UserError(path, "keys", f"are {keys.dtype}, neither text nor whole numbers", FORMAT_REMEDY)
    values = keys[...].astype(str) if keys.dtype.kind in "iu" else read_texts(keys)
    ids: NDArray[np.object_] = values.reshape(-1).astype(object)
    # Not the empty ones, because public files have an empty id in each row whose patch could not be cut.
    if (twice := pd.Index(ids).duplicated() & (ids != "")).any():
        raise UserError(path, "keys", f"{ids[twice][0]!r} occurs twice", "Keep one patch of each cell.")
    return ids


def digest_ids(ids: Iterable[str]) -> str:
    """Return the SHA-256 of cell ids in their order, by which two files are known to have the same rows."""
    digest = hashlib.sha256()
    for cell in ids:
        digest.update(cell.encode() + b"\n")
    return digest.hexdigest()


def read_reasons(path: Path | str) -> dict[str, str]:
    """Return, for each cell of a file of local patches, why it has no image; empty where it has one.

    Raises
    ------
    UserError
        If the file is missing or broken, or does not hold reasons.
    """
    try:
        with open_window_file(path) as file:
            if "reason" not in file:
                raise UserError(path, "reason", "the dataset is missing", MAKE_PATCHES_AGAIN)
            return dict(zip(read_keys(path, file["keys"]), read_texts(file["reason"]), strict=True))
    except READ_ERRORS as error:
        raise damaged_h5(path, error) from error


def open_source(values: "h5py.Dataset", path: Path) -> "h5py.Dataset | None":
    """Open the image that virtual windows point into, with a cache for its decoded chunks.

    HDF5 shares the chunks of a dataset that is open twice in a process, so windows are then cut from decoded chunks. On a compressed image
    a 1024² window takes 0.7 ms instead of 9.

    Parameters
    ----------
    values
        Dataset `images` of a patch file.
    path
        The patch file.

    Returns
    -------
    Dataset or None
        The image, to be kept open while windows are read; None for windows of the file itself.

    Raises
    ------
    UserError
        If the image is missing or broken.
    """
    from nuclass_pipeline.io.hdf5.check import ITSELF, unescape

    layout = values.id.get_create_plist()
    if not values.is_virtual or not layout.get_virtual_count():
        return None
    if (name := unescape(layout.get_virtual_filename(0))) == ITSELF:
        return None
    source = path.resolve().parent / name
    return open_h5(source, **CHUNK_CACHE)[unescape(layout.get_virtual_dsetname(0))]
