"""The part of a download that has arrived, so that it can be resumed, and damage to it is seen."""

import hashlib
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, write_json

logger = logging.getLogger(__name__)

DOWNLOAD_BLOCK = 1 << 22
"""Bytes that are read or written at once."""


def is_own_file(path: Path) -> bool:
    """Return whether a path is a regular file itself, and no link to one."""
    return path.is_file() and not path.is_symlink()


@dataclass
class Part:
    """The bytes of an address that have been received so far, and a note beside them: version, declared size, and hash of the bytes.

    Attributes
    ----------
    address
        The address, as shown.
    path
        File of the bytes.
    validator
        ETag or date of the version.
    size
        Declared size of the whole file, bytes.
    """

    address: str
    path: Path
    validator: str = ""
    size: int | None = None

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def begin(self, validator: str, size: int | None) -> None:
        """Remove old bytes, and note version and size of the new ones."""
        # Old bytes go before the note changes, because a kill in between would pair them with the new version.
        self.forget()
        self.validator, self.size = validator, size
        self.keep(0, hashlib.sha256())

    def keep(self, done: int, digest: "hashlib._Hash") -> None:
        """Write the note: number and hash of the bytes so far."""
        note = {"url": self.address, "validator": self.validator, "size": self.size, "bytes": done, "sha256": digest.hexdigest()}
        write_json(note, self._note)

    def forget(self) -> None:
        """Remove the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def resume(self) -> tuple[int, "hashlib._Hash"]:
        """Return number and hash of the bytes that are still as they were received, and cut off others; 0 where it cannot be resumed."""
        note: Any = read_json(self._note) if is_own_file(self._note) and is_own_file(self.path) else {}
        if not _is_note(note) or note["url"] != self.address or not note["validator"]:
            return 0, hashlib.sha256()
        self.validator, self.size = note["validator"], note["size"]
        digest, left = hashlib.sha256(), note["bytes"]
        with self.open(fresh=False) as stream:
            while block := stream.read(min(DOWNLOAD_BLOCK, left)):
                digest.update(block)
                left -= len(block)
            if left or digest.hexdigest() != note.get("sha256"):
                logger.warning("%s: the part is not what was received; starting again", self.path)
                return 0, hashlib.sha256()
            stream.truncate()
        return note["bytes"], digest

    def open(self, *, fresh: bool) -> IO[bytes]:
        """Open the bytes for reading and writing, never through a link that someone has put in their place."""
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if fresh else 0)
        stream = os.fdopen(os.open(self.path, flags, 0o644), "r+b")
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            stream.close()
            raise UserError(self.path, "file", "is also in another place (a hard link)", "Remove it and run the same command again.")
        return stream


def _is_note(note: Any) -> bool:
    kinds = {"url": str, "validator": str, "size": int | None, "bytes": int, "sha256": str}
    return isinstance(note, dict) and all(isinstance(note.get(key), kind) for key, kind in kinds.items()) and note["bytes"] >= 0
