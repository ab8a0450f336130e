"""Paths that must exist, and what readers of broken files raise."""

import struct
import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path

from nuclass_pipeline.errors import UserError

READ_ERRORS = (
    OSError,
    LookupError,
    ArithmeticError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    LZMAError,
)
"""What readers of foreign files raise where a file is broken, or not laid out as expected."""

CHECK_PATH = "Check the path; a run's inputs are named in the slide sheet and the run file."
COLUMN_MARK = "::"
"""Between the path of a table and the name of one of its columns."""
MAKE_AGAIN = "Copy the file again, or remove it and rerun the rule that writes it."


def require(path: Path | str, remedy: str = CHECK_PATH) -> Path:
    """Return `path` if it exists.

    Parameters
    ----------
    path
        A file or folder.
    remedy
        What the user should do if it does not exist.

    Raises
    ------
    UserError
        If it does not.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(path, "file", "it does not exist", remedy)
    return path


def file_state(*paths: Path) -> str:
    """Return the sizes and times of files, which differ once a file has been written again."""
    return " ".join(f"{state.st_size} {state.st_mtime_ns}" for state in map(Path.stat, paths))


def require_file(path: Path | str, remedy: str = CHECK_PATH) -> Path:
    """Return `path` if it is a regular file; a folder, pipe or device is a `UserError` before it is opened."""
    path = require(path, remedy)
    # Before it is opened, because opening a pipe waits for a writer for ever.
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a pipe or a device"
        raise UserError(path, "file", f"it is {found}, not a regular file", remedy)
    return path


def split_column(text: str) -> tuple[str, str | None]:
    """Return the path and the column of `path::column`; no column where none is named."""
    path, mark, column = text.rpartition(COLUMN_MARK)
    return (path, column) if mark and not Path(text).exists() else (text, None)
