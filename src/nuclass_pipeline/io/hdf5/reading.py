"""HDF5 files, opened for reading."""

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io.paths import MAKE_AGAIN, READ_ERRORS, require_file

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from nuclass_pipeline.io.hdf5.check import Windows

IMAGE = "image.h5"
"""The file beside a patch file that its windows may point into."""
SOURCE_SHAPE = "source_shape"
"""Attribute of a patch file: the shape of the dataset that its windows point into."""
TEXTS_AT_ONCE = 256
MAX_TEXT = 1000
"""Characters of a cell id or of the name of a gene."""
COPY_WINDOWS = (
    f"Copy {IMAGE} with it, or write patches that need no other file: `nuclass export-trio SLIDE OUT`, "
    "where SLIDE is the folder in which the patches were made."
)


def open_h5(path: Path | str, remedy: str = "Remove it and run again.", *, unread: Collection[str] = (), **options: Any) -> "h5py.File":
    """Open an HDF5 file for reading, once it is known that nothing in it reaches into other files.

    The exception are windows of a patch file into the `image.h5` beside it.

    Parameters
    ----------
    path
        The file.
    remedy
        What the user should do about a broken file.
    unread
        Objects at the top of the file that are not read. Virtual windows take 25 kB of memory each once they are opened.
    **options
        Further arguments of `h5py.File`.

    Raises
    ------
    UserError
        If the file is missing, broken, or refers to other files.
    """
    import h5py

    from nuclass_pipeline.io.hdf5.check import check_objects

    path = require_file(path)
    # Resolved, because HDF5 looks for the source of a window beside the link and beside its target.
    target = path.resolve()
    try:
        with ExitStack() as until_checked:
            file = until_checked.enter_context(h5py.File(target, "r", **options))
            if (windows := check_objects(path, file, unread)) is not None:
                _check_sources(path, file, windows)
            until_checked.pop_all()
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", remedy) from error
    return file


def _check_sources(path: Path, file: "h5py.File", windows: "Windows") -> None:
    # Opened one by one, because HDF5 reads empty windows where a source is missing, and raises no error.
    target = Path(file.filename)
    for name in sorted(windows.files):
        source = target.parent / name
        if name != IMAGE:
            raise UserError(path, "images", f"its windows point into {name}, not into the {IMAGE} beside it", COPY_WINDOWS)
        if not source.is_file():
            raise UserError(path, "images", f"its windows point into {source}, which does not exist", COPY_WINDOWS)
        with open_h5(source, MAKE_AGAIN) as opened:
            found = tuple(opened[windows.dataset].shape) if windows.dataset in opened else ()
            made_for = tuple(map(int, file.attrs.get(SOURCE_SHAPE, found)))
            if not found or found != made_for:
                problem = f"its windows were made for {windows.dataset} of shape {made_for}, but {source} has {found or 'none'}"
                raise UserError(path, "images", problem, COPY_WINDOWS)


def read_texts(dataset: "h5py.Dataset") -> "NDArray[np.object_]":
    """Return a dataset of text, (N,) or (N, 1), as (N,).

    Raises
    ------
    ValueError
        If a text is longer than any name.
    """
    import numpy as np

    decoded = dataset.asstr("utf-8")
    texts = np.empty(len(dataset), dtype=object)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        block = decoded[start : start + TEXTS_AT_ONCE]
        texts[start : start + len(block)] = block.reshape(-1)
        # By blocks, because all rows of a small file may show the same text of a megabyte.
        if (longest := max(map(len, texts[start : start + len(block)]))) > MAX_TEXT:
            raise ValueError(f"{dataset.name} has a text of {longest} characters")
    return texts


def read_id_index(dataset: "h5py.Dataset") -> "pd.Index[str]":
    """Return a dataset of text (N,) as an index in Arrow's memory: about 14 bytes for a cell id, where Python takes 74."""
    import pandas as pd
    import pyarrow as pa

    text = dataset.asstr("utf-8")
    blocks = [pa.array(text[start : start + TEXTS_AT_ONCE], pa.string()) for start in range(0, len(dataset), TEXTS_AT_ONCE)]
    joined = pa.concat_arrays(blocks) if blocks else pa.array([], pa.string())
    ids: pd.Index[str] = pd.Index(pd.array(joined, dtype="string[pyarrow]"), copy=False)
    return ids


def damaged_h5(path: Path | str, error: BaseException) -> UserError:
    """Return the error for an HDF5 file that could be opened, but not read because it is damaged in the middle."""
    return UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", MAKE_AGAIN)
