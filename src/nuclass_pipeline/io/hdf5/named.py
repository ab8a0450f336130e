"""Patch files with one dataset per cell, which are inspected one by one: to inspect all at once takes a minute for 500,000 cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io.paths import CHECK_PATH, MAKE_AGAIN, READ_ERRORS, require_file

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

KEYS = "keys"
"""The dataset of the cell ids, which files with one dataset per cell lack."""


class NamedPatches:
    """A patch file with one dataset per cell, named by its id.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        If it is missing or broken, or has too many objects.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_root(path)

    def names(self) -> list[str]:
        """Return the names of everything at the top of the file."""
        from nuclass_pipeline.io.hdf5.check import list_names

        return list_names(self.path, self._file)

    def open(self, name: str) -> "h5py.Dataset":
        """Open the dataset of one cell.

        Raises
        ------
        UserError
            If it is missing, is a link or a group, or reaches outside the file.
        """
        from nuclass_pipeline.io.hdf5.check import open_dataset

        return open_dataset(self.path, self._file, name)

    def read(self, name: str) -> "NDArray[Any]":
        """Return the values of the dataset of one cell."""
        values: NDArray[Any] = self.open(name)[...]
        return values

    def __enter__(self) -> "NamedPatches":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def open_root(path: Path) -> "h5py.File":
    """Open an HDF5 file without a look at its objects: only its own attributes and the names in it may then be read.

    Raises
    ------
    UserError
        If it is missing or broken.
    """
    import h5py

    try:
        return h5py.File(require_file(path, CHECK_PATH).resolve(), "r")
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", MAKE_AGAIN) from error


def has_named_patches(path: Path) -> bool:
    """Return whether a patch file has one dataset per cell: it has neither ids nor windows, and names no other file.

    Raises
    ------
    UserError
        If it is missing or broken.
    """
    from nuclass_pipeline.io.hdf5.patch_files import ORIGIN, SOURCE, VIRTUAL

    with open_root(path) as file:
        # The names only, because to open what they lead to could open another file.
        merged = any(file.id.links.exists(name.encode()) for name in (KEYS, VIRTUAL[0], ORIGIN))
        return not merged and SOURCE not in file.attrs


def stated_mpp(path: Path) -> Any:
    """Return the attribute `mpp` of a patch file, as it is, or None; no dataset is opened.

    Raises
    ------
    UserError
        If the file is missing or broken.
    """
    with open_root(path) as file:
        try:
            return file.attrs.get("mpp")
        except READ_ERRORS as error:
            raise UserError(path, "mpp", f"cannot be read ({first_line(error)})", MAKE_AGAIN) from error
