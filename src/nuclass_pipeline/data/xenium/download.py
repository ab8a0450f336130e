"""Download a public slide: resumable, checked against a lock file, with progress in the log."""

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
"""Steps between two log lines, where the size is known and where it is not."""
SCHEMES = ("http://", "https://", "ftp://", "file://")
LOCK_COLUMNS = ["slide", "url", "bytes", "sha256"]
IDENTITY = "1,0,0\n0,1,0\n0,0,1\n"
"""Alignment of an H&E that is already in Xenium pixels, as 10x publishes some without an alignment file."""
AGAIN = "Run the same command again to continue."


class Record(NamedTuple):
    """Size and SHA-256 (hexadecimal) of a file."""

    bytes: int
    sha256: str


def fetch_slide(*, bundle_url: str, image_url: str, alignment_url: str, manifest: Path, image: Path, alignment: Path, lock: Path) -> None:
    """Download the bundle, the H&E and its alignment.

    Parameters
    ----------
    bundle_url
        Archive of the Xenium output.
    image_url
        H&E image.
    alignment_url
        Alignment of the H&E; empty for an H&E that is already in Xenium pixels.
    manifest
        Path that `experiment.xenium` gets; it is put in place last of its bundle, so a bundle with a manifest is complete.
    image, alignment
        Files to write.
    lock
        Lock file of the slide.

    Raises
    ------
    UserError
        If a download or the unpacking fails.
    """
    for url in filter(None, (bundle_url, image_url, alignment_url)):
        _check_url(url)
    # Under other names until all are there, because Snakemake removes the outputs of a failed job, which would then be downloaded again.
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
    """Download `url` to `path`, resume an earlier try, and check the file against its row of `lock`.

    A URL without a row gets one. If size or SHA-256 differ from the row, the bytes are removed, so the next try starts again.

    Raises
    ------
    UserError
        If the URL is not one, the server refuses, the connection breaks or the disk is too small. If the lock file is broken, or size or
        SHA-256 differ from it.
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
        # Not 429, "too many requests", because that passes by itself.
        lasting = 400 <= error.code < 500 and error.code != 429
        raise UserError(url, "download", f"{error}", "Check the URL in the slide sheet." if lasting else AGAIN) from error
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(url, "download", f"{error}", AGAIN) from error
    if url not in locked:
        _write_lock(lock, locked | {url: found})
    part.path.replace(path)
    part.forget()


def read_lock(lock: Path) -> dict[str, Record]:
    """Return the recorded size and hash of a slide's files by URL; nothing if there is no lock file yet.

    Raises
    ------
    UserError
        If the columns or a row are not as `download` writes them, or a URL occurs twice.
    """
    if not lock.exists():
        return {}
    header, *rows = [line.split("\t") for line in lock.read_text(errors="replace").splitlines()] or [[]]
    if header != LOCK_COLUMNS:
        raise UserError(lock, "columns", f"found {', '.join(header)}", f"Use exactly {', '.join(LOCK_COLUMNS)}, separated by tabs.")
    locked: dict[str, Record] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(LOCK_COLUMNS) or not re.fullmatch("[0-9]+", row[2]) or not re.fullmatch("[0-9a-f]{64}", row[3]):
            raise UserError(lock, f"line {number}", "is not a slide, URL, number of bytes and SHA-256", "Restore the row, or remove it.")
        if row[1] in locked:
            raise UserError(lock, f"line {number}", f"{row[1]} occurs in two rows", "Remove one of them.")
        locked[row[1]] = Record(int(row[2]), row[3])
    return locked


def _write_lock(lock: Path, records: dict[str, Record]) -> None:
    rows = [LOCK_COLUMNS, *([lock.stem, url, str(record.bytes), record.sha256] for url, record in records.items())]
    try:
        with whole_file(lock) as partial:
            partial.write_text("".join("\t".join(row) + "\n" for row in rows))
    except OSError as error:
        remedy = "Make its folder writable and run the same command again; the download is kept."
        raise UserError(lock, "file", f"cannot be written ({error})", remedy) from error


def _check_url(url: str) -> None:
    if not url.lower().startswith(SCHEMES):
        raise UserError(
            url or "slide sheet",
            "URL",
            f"{url!r} does not start with {', '.join(SCHEMES)}",
            "Correct it in the slide sheet; leave all URLs of the row empty to use your own files.",
        )


def _record(path: Path) -> Record:
    with path.open("rb") as stream:
        return Record(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


@dataclass(frozen=True)
class _Part:
    """The bytes of a URL that have been received so far, in `path`, and a note beside them of the URL and its version."""

    url: str
    path: Path

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def begin(self, validator: str) -> None:
        # Old bytes go before the note changes, because a kill in between would pair them with the new version.
        self.forget()
        write_json({"url": self.url, "validator": validator}, self._note)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def validator(self) -> str:
        """Return the ETag or date of the version; nothing where the part cannot be resumed."""
        note = read_json(self._note) if self._note.exists() and self.path.exists() else {}
        return str(note["validator"]) if note.get("url") == self.url else ""


class _Body(NamedTuple):
    """A server's answer.

    Attributes
    ----------
    stream
        Bytes of the file from `start` on.
    start
        Bytes that need not be sent again; 0 for the whole file.
    size
        Size of the whole file, where the server reports it.
    """

    stream: IO[bytes]
    start: int
    size: int | None


def _receive(part: _Part, locked: Record | None, lock: Path) -> Record:
    """Receive the rest of the part and return its size and hash; they equal those in the lock file, if it has any."""
    validator = part.validator()
    start, digest = 0, hashlib.sha256()
    if validator:
        # Before the request, because the server would not wait while 50 GB are hashed.
        start = part.path.stat().st_size
        with part.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
    body = _open(part, start, validator)
    digest = digest if body.start else hashlib.sha256()
    with body.stream:
        # Before the body is read, because a changed size shows at once what a hash shows only after hours.
        _check_lock(part, "size", body.size, locked and locked.bytes, lock)
        check_room(part.path.parent, (body.size or (locked.bytes if locked else 0)) - body.start)
        done = _copy(body, part.path, digest)
    if body.size is not None and done != body.size:
        raise UserError(part.url, "download", f"broke off after {done:,} of {body.size:,} bytes", AGAIN)
    _check_lock(part, "size", done, locked and locked.bytes, lock)
    _check_lock(part, "sha256", digest.hexdigest(), locked and locked.sha256, lock)
    return Record(done, digest.hexdigest())


def _check_lock(part: _Part, field: str, found: int | str | None, expected: int | str | None, lock: Path) -> None:
    if None in (found, expected) or found == expected:
        return
    part.forget()
    raise UserError(
        part.url,
        field,
        f"expected {expected}, found {found}",
        f"If the publisher changed the file, remove its row from {lock} and the slide's folder. Otherwise run the same command again.",
    )


def _open(part: _Part, start: int, validator: str) -> _Body:
    """Request the bytes after the first `start`, or the whole file where the server cannot resume or has another version."""
    if start:
        request = urllib.request.Request(part.url, headers={"Range": f"bytes={start}-", "If-Range": validator})
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            # 416 with this size means that the part is complete already, because only the lock file or the rename was missing.
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return _Body(io.BytesIO(), start, start)
        else:
            # The range and the version are checked again, because some servers ignore If-Range or send another range.
            span = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if response.status == 206 and span and _version(response.headers) in ("", validator):
                return _Body(response, start, int(span[1]) if span[1] != "*" else None)
            response.close()
        logger.info("%s: cannot be resumed after %d bytes, or has changed on the server; starting again", part.url, start)
    response = urllib.request.urlopen(part.url, timeout=TIMEOUT_S)
    part.begin(_version(response.headers))
    length = response.headers.get("Content-Length")
    return _Body(response, 0, None if length is None else int(length))


def _version(headers: Message) -> str:
    """Return what `If-Range` takes (RFC 9110, 13.1.5): a strong ETag, else the date of the last change, else nothing."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def _copy(body: _Body, path: Path, digest: "hashlib._Hash") -> int:
    """Write the body to `path`, after the first `start` bytes; return the size of the file."""
    done = logged = body.start
    step = max(body.size * STEP_PERCENT // 100, 1) if body.size else STEP_BYTES
    with path.open("ab" if body.start else "wb") as stream:
        while block := body.stream.read(DOWNLOAD_BLOCK):
            stream.write(block)
            digest.update(block)
            done += len(block)
            if done - logged >= step:
                logged = done
                share = f"{100 * done // body.size} % of {body.size / 1e9:.2f} GB" if body.size else f"{done / 1e9:.2f} GB, size unknown"
                logger.info("%s: %s", path.name, share)
    return done
