"""Files that are either whole or absent, and tables that keep their schema."""

import json
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.table_schema import Table

if TYPE_CHECKING:
    import h5py

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

_CHECK_PATH = "Check the path; a run's inputs are named in the slide sheet and the run file."
_MAKE_AGAIN = "Copy the file again, or remove it and rerun the rule that writes it."


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only when the block succeeds."""
    with whole_files(path) as (partial,):
        yield partial


@contextmanager
def whole_files(*paths: Path | str) -> Iterator[list[Path]]:
    """Yield temporary names for several files; none is renamed unless the block succeeds."""
    targets = [Path(path) for path in paths]
    partials = [target.with_name(f".{target.stem}.{os.getpid()}-{socket.gethostname()}.partial{target.suffix}") for target in targets]
    with ExitStack() as cleanup:
        for target, partial in zip(targets, partials, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target)
            cleanup.callback(partial.unlink, missing_ok=True)
        yield partials
        for target, partial in zip(targets, partials, strict=True):
            partial.replace(target)


def _sweep(target: Path) -> None:
    """Remove what writers of `target`, or of a temporary name of it, left behind when they were killed on this machine."""
    for litter in target.parent.glob(f"*.{target.stem}.*-{socket.gethostname()}.partial{target.suffix}"):
        writer = litter.name.split(f".{target.stem}.", 1)[1].split("-")[0]
        if writer.isdigit() and not Path("/proc", writer).exists():
            litter.unlink(missing_ok=True)


def write_table(frame: pd.DataFrame, path: Path | str, schema: Table) -> None:
    """Check `frame` against `schema` and write it as Parquet."""
    schema.check(frame, path)
    with whole_file(path) as partial:
        frame.to_parquet(partial, index=False)


def read_table(path: Path | str, schema: Table, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table and check it against `schema`.

    Raises
    ------
    UserError
        If the file is missing, is not Parquet, or does not follow the schema.
    """
    frame = read_parquet(path, columns)
    schema.check(frame, path, only=columns)
    return frame


def read_parquet(path: Path | str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read `columns` of a Parquet file; a missing file, column or a broken file is a `UserError`."""
    path = require(path)
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in columns or [] if name not in names]:
            raise UserError(
                path, missing[0], f"the column is missing; found {', '.join(names)}", "Restore the column, or the original file."
            )
        frame: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            path,
            "file",
            f"not a readable Parquet file ({first_line(error)})",
            _MAKE_AGAIN,
        ) from error
    return frame


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
    return UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", _MAKE_AGAIN)


def require(path: Path | str, remedy: str = _CHECK_PATH) -> Path:
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


def write_json(value: Any, path: Path | str) -> None:
    """Write indented JSON with a final newline."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or broken one is a `UserError`."""
    path = require(path)
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(path, "file", f"not valid JSON ({first_line(error)})", _MAKE_AGAIN) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
