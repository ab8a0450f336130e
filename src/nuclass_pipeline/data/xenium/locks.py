"""The lock file of a slide: address, size and SHA-256 of each download. And a lock, so that a folder has one download at a time."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.io.text import read_text

logger = logging.getLogger(__name__)

LOCK_COLUMNS = ["slide", "url", "bytes", "sha256"]


class Record(NamedTuple):
    """Size and SHA-256 (hexadecimal) of a file."""

    bytes: int
    sha256: str


def read_lock(lock: Path) -> dict[str, Record]:
    """Return the recorded size and hash of a slide's files by address, as shown; nothing if there is no lock file yet.

    Raises
    ------
    UserError
        If the columns or a row are not as `write_lock` writes them, or an address occurs twice.
    """
    if not lock.exists():
        return {}
    header, *rows = [line.split("\t") for line in read_text(lock).splitlines()] or [[]]
    if header != LOCK_COLUMNS:
        raise UserError(lock, "columns", f"found {', '.join(header)}", f"Use exactly {', '.join(LOCK_COLUMNS)}, separated by tabs.")
    locked: dict[str, Record] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(LOCK_COLUMNS) or not re.fullmatch("[0-9]{1,18}", row[2]) or not re.fullmatch("[0-9a-f]{64}", row[3]):
            raise UserError(lock, f"line {number}", "is not a slide, URL, number of bytes and SHA-256", "Restore the row, or remove it.")
        if row[1] in locked:
            raise UserError(lock, f"line {number}", f"{row[1]} occurs in two rows", "Remove one of them.")
        locked[row[1]] = Record(int(row[2]), row[3])
    return locked


def write_lock(lock: Path, records: dict[str, Record]) -> None:
    """Write the lock file of a slide from size and hash by address."""
    rows = [LOCK_COLUMNS, *([lock.stem, url, str(record.bytes), record.sha256] for url, record in records.items())]
    try:
        with whole_file(lock) as partial:
            partial.write_text("".join("\t".join(row) + "\n" for row in rows))
    except OSError as error:
        remedy = "Make its folder writable and run the same command again; the download is kept."
        raise UserError(lock, "file", f"cannot be written ({error})", remedy) from error


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Reserve a file or folder for this process, until the block ends or the process dies.

    Raises
    ------
    UserError
        If another process has it.
    """
    guard = path.with_name(f".{path.name}.busy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        remedy = "Make its folder writable, and remove what is in its place."
        raise UserError(guard, "file", f"cannot be written ({error})", remedy) from error
    try:
        _reserve(handle, guard, path)
        try:
            yield
        finally:
            # While it is locked, because a process that opened it meanwhile sees by that that the lock is no longer its own.
            guard.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _reserve(handle: int, guard: Path, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = not guard.exists() or guard.lstat().st_ino != os.fstat(handle).st_ino
    except BlockingIOError:
        taken = True
    except OSError as error:
        logger.warning("%s: this disk has no locks (%s); do not download the same slide twice at once", path, error)
        taken = False
    if taken:
        raise UserError(path, "file", "another process is downloading it", "Wait until it has ended, then run the same command again.")
