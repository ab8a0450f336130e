"""Download a public slide: resumable, held to a lock file, with progress in the log."""

import hashlib
import io
import logging
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, NamedTuple

from nuclass_pipeline.data.xenium.archives import check_room, unpack_bundle
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, whole_file, write_json

logger = logging.getLogger(__name__)

DOWNLOAD_BLOCK = 1 << 22
TIMEOUT_S = 60
STEP_PERCENT, STEP_BYTES = 5, 100_000_000
"""How often the log tells the progress, where the size is known and where it is not."""
SCHEMES = ("http://", "https://", "ftp://", "file://")
LOCK_COLUMNS = ["slide", "url", "bytes", "sha256"]
IDENTITY = "1,0,0\n0,1,0\n0,0,1\n"
AGAIN = "Run the same command again to go on."


class Record(NamedTuple):
    """Size and SHA-256 (hexadecimal) of a file."""

    bytes: int
    sha256: str


def fetch_slide(*, bundle_url: str, image_url: str, alignment_url: str, manifest: Path, image: Path, alignment: Path, lock: Path) -> None:
    """Download the bundle, the H&E and its alignment; an H&E without one is already in Xenium pixels.

    The files get their names when all are there: Snakemake removes the outputs of a job that fails, and what has come
    would have to come again. The manifest is put in place last of its bundle, so a bundle with a manifest is whole.
    """
    for url in filter(None, (bundle_url, image_url, alignment_url)):
        _check_url(url)
    fetched_archive, fetched_image, fetched_alignment = (
        path.with_name(f"{path.name}.fetched") for path in (manifest.parent, image, alignment)
    )
    download(image_url, fetched_image, lock)
    if alignment_url:
        download(alignment_url, fetched_alignment, lock)
    else:
        with whole_file(fetched_alignment) as partial:
            partial.write_text(IDENTITY)
    download(bundle_url, fetched_archive, lock)
    unpack_bundle(archive=fetched_archive, manifest=manifest)
    fetched_image.replace(image)
    fetched_alignment.replace(alignment)
    fetched_archive.unlink()


def download(url: str, path: Path, lock: Path) -> None:
    """Download `url` to `path`, going on where an earlier try broke off, and hold it to its row of `lock`, or make the row.

    Raises
    ------
    UserError
        If the URL is none, the server refuses, the connection breaks, the disk is too small, the lock file is broken, or
        size or SHA-256 are not what it says; then the bytes are removed, so that the next try starts anew.
    """
    _check_url(url)
    locked = read_lock(lock)
    if path.exists() and locked.get(url) == _record(path):
        return
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(url, path.with_name(f"{path.name}.part"))
    try:
        found = _receive(part, locked.get(url), lock)
    except urllib.error.HTTPError as error:
        lasting = 400 <= error.code < 500 and error.code != 429
        raise UserError(url, "download", f"{error}", "Check the URL in the slide sheet." if lasting else AGAIN) from error
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(url, "download", f"{error}", AGAIN) from error
    if url not in locked:
        _write_lock(lock, locked | {url: found})
    part.path.replace(path)
    part.forget()


def read_lock(lock: Path) -> dict[str, Record]:
    """Return what a slide's files are known to be, by URL; nothing if there is no lock file yet.

    Raises
    ------
    UserError
        If the columns or a row are not as `download` writes them, or a URL stands twice.
    """
    if not lock.exists():
        return {}
    header, *rows = [line.split("\t") for line in lock.read_text(errors="replace").splitlines()] or [[]]
    if header != LOCK_COLUMNS:
        raise UserError(lock, "columns", f"found {', '.join(header)}", f"Use exactly {', '.join(LOCK_COLUMNS)}, separated by tabs.")
    locked: dict[str, Record] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(LOCK_COLUMNS) or not re.fullmatch("[0-9]+", row[2]) or not re.fullmatch("[0-9a-f]{64}", row[3]):
            raise UserError(lock, f"line {number}", "is no slide, URL, number of bytes and SHA-256", "Restore the row, or remove it.")
        if row[1] in locked:
            raise UserError(lock, f"line {number}", f"{row[1]} stands in two rows", "Keep one.")
        locked[row[1]] = Record(int(row[2]), row[3])
    return locked


def _write_lock(lock: Path, records: dict[str, Record]) -> None:
    rows = [LOCK_COLUMNS, *([lock.stem, url, str(record.bytes), record.sha256] for url, record in records.items())]
    try:
        with whole_file(lock) as partial:
            partial.write_text("".join("\t".join(row) + "\n" for row in rows))
    except OSError as error:
        raise UserError(lock, "file", f"cannot be written ({error})", "Mend that and run again; nothing is lost.") from error


def _check_url(url: str) -> None:
    if not url.lower().startswith(SCHEMES):
        raise UserError(
            url or "slide sheet",
            "URL",
            f"{url!r} does not start with {', '.join(SCHEMES)}",
            "Correct it in the slide sheet; for files of your own leave all its URLs empty.",
        )


def _record(path: Path) -> Record:
    with path.open("rb") as stream:
        return Record(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


@dataclass(frozen=True)
class _Part:
    """What has come of a URL so far, and beside it of which version of which file it is the beginning."""

    url: str
    path: Path

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def begin(self, validator: str) -> None:
        self.forget()
        write_json({"url": self.url, "validator": validator}, self._note)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def validator(self) -> str:
        """Return the version's ETag or date; nothing where the part cannot be gone on with."""
        note = read_json(self._note) if self._note.exists() and self.path.exists() else {}
        return str(note["validator"]) if note.get("url") == self.url else ""


class _Body(NamedTuple):
    """A server's answer: its bytes follow on the first `start`, and make `size` with them, where the server tells."""

    stream: IO[bytes]
    start: int
    size: int | None


def _receive(part: _Part, locked: Record | None, lock: Path) -> Record:
    """Bring the part to its end and return its size and hash, the same as those locked."""
    validator = part.validator()
    start, digest = 0, hashlib.sha256()
    if validator:
        # Before the server is asked: it would not wait for the hash of 50 GB.
        start = part.path.stat().st_size
        with part.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
    body = _open(part, start, validator)
    digest = digest if body.start else hashlib.sha256()
    with body.stream:
        _hold_to_lock(part, "size", body.size, locked and locked.bytes, lock)
        check_room(part.path.parent, (body.size or (locked.bytes if locked else 0)) - body.start)
        done = _copy(body, part.path, digest)
    if body.size is not None and done != body.size:
        raise UserError(part.url, "download", f"broke off after {done:,} of {body.size:,} bytes", AGAIN)
    _hold_to_lock(part, "size", done, locked and locked.bytes, lock)
    _hold_to_lock(part, "sha256", digest.hexdigest(), locked and locked.sha256, lock)
    return Record(done, digest.hexdigest())


def _hold_to_lock(part: _Part, field: str, found: int | str | None, expected: int | str | None, lock: Path) -> None:
    if None in (found, expected) or found == expected:
        return
    part.forget()
    raise UserError(
        part.url,
        field,
        f"expected {expected}, found {found}",
        f"If the publisher changed the file, remove its row from {lock} and the slide's folder; else run again.",
    )


def _open(part: _Part, start: int, validator: str) -> _Body:
    """Ask for what follows on the first `start` bytes; begin anew where the server cannot, or has another version by now."""
    if start:
        request = urllib.request.Request(part.url, headers={"Range": f"bytes={start}-", "If-Range": validator})
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return _Body(io.BytesIO(), start, start)
        else:
            span = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if response.status == 206 and span and _version(response.headers) in ("", validator):
                return _Body(response, start, int(span[1]) if span[1] != "*" else None)
            response.close()
        logger.info("%s: the server cannot go on after %d bytes, or the file has changed; starting anew", part.url, start)
    response = urllib.request.urlopen(part.url, timeout=TIMEOUT_S)
    part.begin(_version(response.headers))
    length = response.headers.get("Content-Length")
    return _Body(response, 0, None if length is None else int(length))


def _version(headers: Message) -> str:
    """Return what `If-Range` takes: a strong ETag, else the date of the last change, else nothing."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def _copy(body: _Body, path: Path, digest: "hashlib._Hash") -> int:
    """Append the body to `path`, or begin it; return the bytes that are there then."""
    done = told = body.start
    step = max(body.size * STEP_PERCENT // 100, 1) if body.size else STEP_BYTES
    with path.open("ab" if body.start else "wb") as stream:
        while block := body.stream.read(DOWNLOAD_BLOCK):
            stream.write(block)
            digest.update(block)
            done += len(block)
            if done - told >= step:
                told = done
                share = f"{100 * done // body.size} % of {body.size / 1e9:.2f} GB" if body.size else f"{done / 1e9:.2f} GB, size unknown"
                logger.info("%s: %s", path.name, share)
    return done
