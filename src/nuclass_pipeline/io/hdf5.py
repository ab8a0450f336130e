"""HDF5 files, opened for reading."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.paths import MAKE_AGAIN, first_line, require

if TYPE_CHECKING:
    import h5py


def open_h5(path: Path | str, remedy: str = "Remove it and run again.", **options: Any) -> "h5py.File":
    """Open an HDF5 file for reading; a missing or broken one is a `UserError`.

    Parameters
    ----------
    path
        The file.
    remedy
        What the user should do about a broken file.
    **options
        Further arguments of `h5py.File`.
    """
    import h5py

    try:
        return h5py.File(require(path), "r", **options)
    except OSError as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", remedy) from error


def damaged_h5(path: Path | str, error: BaseException) -> UserError:
    """Return the error for an HDF5 file that could be opened, but not read because it is damaged in the middle."""
    return UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", MAKE_AGAIN)
