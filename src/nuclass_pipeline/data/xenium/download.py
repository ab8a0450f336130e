"""Download a public slide: resumable, checked against a lock file, with progress in the log."""

import hashlib
import http.client
import logging
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from nuclass_pipeline.data.alignment_file import read_alignment_file
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.xenium.archives import check_room, unpack_bundle
from nuclass_pipeline.data.xenium.locks import Record, only_writer, read_lock, write_lock
from nuclass_pipeline.data.xenium.members import ArchiveError
from nuclass_pipeline.data.xenium.parts import DOWNLOAD_BLOCK, Part, is_own_file
from nuclass_pipeline.data.xenium.server import YOURSELF, Body, request_file
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line, whole_file
from nuclass_pipeline.io.addresses import check_address, show_address

logger = logging.getLogger(__name__)

NOTE_BYTES = 1 << 28
"""Bytes between two notes of how far a download has come."""
RETRY_PAUSES_S = (1, 2, 4)
"""Pauses before further tries, after errors of the network only."""
MAX_UNSIZED = 1_000_000_000
"""Most bytes of a file whose size neither the server nor the lock file states."""
STEP_PERCENT, STEP_BYTES = 5, 100_000_000
"""Steps between two log lines, where the size is known and where it is not."""
IDENTITY = "1,0,0\n0,1,0\n0,0,1\n"
"""Alignment of an H&E that is already in Xenium pixels, as 10x publishes some without an alignment file."""
AGAIN = "Run the same command again to continue."
_CHECK_URL = "Check the URL in the slide sheet."
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
Check = Callable[[Path], None]


class _BrokenOff(Exception):
    """A transfer that ended early."""


def fetch_slide(
    *,
    bundle_url: str,
    image_url: str,
    alignment_url: str,
    lock: Path,
    manifest: Path | None = None,
    image: Path | None = None,
    alignment: Path | None = None,
) -> None:
    """Download the bundle, or the H&E and its alignment, or all of them.

    Parameters
    ----------
    bundle_url
        Archive of the Xenium output.
    image_url
        H&E image.
    alignment_url
        Alignment of the H&E; empty for an H&E that is already in Xenium pixels.
    lock
        Lock file of the slide.
    manifest
        Path that `experiment.xenium` gets; it is put in place last of its bundle, so a bundle with a manifest is complete. Nothing to
        leave out the bundle.
    image, alignment
        Files to write, or nothing to leave out the H&E.

    Raises
    ------
    UserError
        If a download or the unpacking fails, or another process downloads this slide.
    """
    urls = [url for url in (bundle_url, image_url, alignment_url) if url]
    for url in urls:
        check_address(url)
    if len({show_address(url) for url in urls}) < len(urls):
        problem = "two files of the slide have one address, apart from what lets someone in"
        raise UserError(show_address(bundle_url), "URL", problem, YOURSELF)
    with ExitStack() as ends:
        for folder in [manifest.parent] if manifest else [path for path in (image,) if path]:
            ends.enter_context(only_writer(folder))
        fetched = _fetch_image(image_url, alignment_url, image, alignment, lock) if image and alignment else {}
        if manifest:
            _fetch_bundle(bundle_url, manifest, lock)
        # After the bundle, because Snakemake removes the outputs of a failed job, which would then be downloaded again.
        for path, place in fetched.items():
            path.replace(place)
        if manifest:
            _fetched(manifest.parent).unlink()


def _fetched(path: Path) -> Path:
    """Return the name of a download until all files of the job are there."""
    return path.with_name(f"{path.name}.fetched")


def _fetch_image(image_url: str, alignment_url: str, image: Path, alignment: Path, lock: Path) -> dict[Path, Path]:
    download(image_url, _fetched(image), lock, _check_image)
    if alignment_url:
        download(alignment_url, _fetched(alignment), lock, _check_alignment)
    else:
        with whole_file(_fetched(alignment)) as partial:
            partial.write_text(IDENTITY)
    return {_fetched(path): path for path in (image, alignment)}


def _fetch_bundle(url: str, manifest: Path, lock: Path) -> None:
    # Unpacked before it is locked, because only that shows that the archive is sound.
    download(url, _fetched(manifest.parent), lock, lambda archive: unpack_bundle(archive=archive, manifest=manifest))


def _refuse_page(path: Path) -> None:
    """Raise if a file is empty, or a web page with a message in its place."""
    start = _head(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start or start.startswith(b"<"):
        found = "a web page or a message" if start else "an empty file"
        raise ArchiveError(path, "file", f"the server sent {found} instead of the file", _CHECK_URL)


def _check_image(path: Path) -> None:
    _refuse_page(path)
    if not _head(path).startswith(_TIFF):
        raise ArchiveError(path, "file", f"not a TIFF; it begins with {_head(path)[:8]!r}", _CHECK_URL)
    # Opened, because a file that was cut off begins like a whole one.
    with _problem_of(path), HeImage(path):
        pass


def _check_alignment(path: Path) -> None:
    _refuse_page(path)
    with _problem_of(path):
        read_alignment_file(path)


@contextmanager
def _problem_of(path: Path) -> Iterator[None]:
    """Turn what a reader says against a file into an error of the download."""
    try:
        yield
    except UserError as error:
        raise ArchiveError(path, error.field, error.problem, _CHECK_URL) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


def download(url: str, path: Path, lock: Path, check: Check = _refuse_page) -> None:
    """Download `url` to `path`, resume an earlier try, and check the file against its row of `lock`.

    An address without a row gets one after `check` has accepted the file. If size or SHA-256 differ from the row, the bytes are removed,
    so the next try starts again.

    Raises
    ------
    UserError
        If the URL is not one, the server refuses, or the connection breaks several times. If the disk is too small, the file is endless
        or of another kind, or another process downloads it. If the lock file is broken, or size or SHA-256 differ from it.
    """
    check_address(url)
    with only_writer(path):
        locked, address = read_lock(lock), show_address(url)
        if is_own_file(path) and locked.get(address) == _record(path):
            _accept(check, path, address)
            return
        path.unlink(missing_ok=True)
        part = Part(address, path.with_name(f"{path.name}.part"))
        found = _receive_patiently(url, part, locked.get(address), lock)
        try:
            _accept(check, part.path, address)
        except ArchiveError:
            part.forget()
            raise
        if address not in locked:
            write_lock(lock, read_lock(lock) | {address: found})
        part.path.replace(path)
        part.forget()


def _accept(check: Check, path: Path, address: str) -> None:
    try:
        check(path)
    except ArchiveError as error:
        remedy = f"{_CHECK_URL} The file was not kept, so the same command downloads it again."
        raise ArchiveError(address, error.field, error.problem, remedy) from error


def _record(path: Path) -> Record:
    with path.open("rb") as stream:
        return Record(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _receive_patiently(url: str, part: Part, locked: Record | None, lock: Path) -> Record:
    """Receive the file; after an error of the network try again, from where it broke off."""
    pauses = list(RETRY_PAUSES_S)
    while True:
        remedy = AGAIN
        try:
            return _receive(url, part, locked, lock)
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"HTTP Error {error.code}: {http.client.responses.get(error.code, 'unknown')}"
            # Not 408 and 429, "time-out" and "too many requests", because they pass by themselves.
            if 400 <= error.code < 500 and error.code not in (408, 429):
                pauses, remedy = [], _CHECK_URL
        except (OSError, http.client.HTTPException, ValueError, _BrokenOff) as error:
            problem = "".join(letter if letter.isprintable() else "?" for letter in first_line(error))[:300]
        if not pauses:
            raise UserError(part.address, "download", problem, remedy)
        logger.warning("%s: %s; trying again in %g s", part.address, problem, pauses[0])
        time.sleep(pauses.pop(0))


def _receive(url: str, part: Part, locked: Record | None, lock: Path) -> Record:
    """Receive the rest of the part and return its size and hash; they equal those in the lock file, if it has any."""
    # Before the request, because the server would not wait while 50 GB are hashed.
    start, digest = part.resume()
    body = request_file(url, start, part.validator)
    with body.stream:
        if not body.start:
            digest = hashlib.sha256()
            part.begin(body.validator, body.size)
        # Before the body is read, because a changed size shows at once what a hash shows only after hours.
        _check_lock(part, "size", body.size, locked and locked.bytes, lock)
        if part.size is not None and body.size is not None and part.size != body.size:
            part.forget()
            raise UserError(part.address, "size", f"the server declares {part.size:,} bytes, then {body.size:,}", YOURSELF)
        expected = body.size if body.size is not None else locked and locked.bytes
        check_room(part.path.parent, (expected or 0) - body.start)
        done = _copy(body, part, digest, MAX_UNSIZED if expected is None else expected)
    if body.size is not None and done < body.size:
        raise _BrokenOff(f"broke off after {done:,} of {body.size:,} bytes")
    _check_lock(part, "size", done, locked and locked.bytes, lock)
    if done > (MAX_UNSIZED if body.size is None else body.size):
        part.forget()
        more = f"the {body.size:,} that it declares" if body.size is not None else f"{MAX_UNSIZED:,}, and declares no size"
        raise UserError(part.address, "size", f"the server sends more bytes than {more}", YOURSELF)
    _check_lock(part, "sha256", digest.hexdigest(), locked and locked.sha256, lock)
    return Record(done, digest.hexdigest())


def _check_lock(part: Part, field: str, found: int | str | None, expected: int | str | None, lock: Path) -> None:
    if None in (found, expected) or found == expected:
        return
    part.forget()
    remedy = f"If the publisher changed it, remove its row from {lock} and the slide's folder. Otherwise run the same command again."
    raise UserError(part.address, field, f"the file at the address changed: expected {expected}, found {found}", remedy)


def _copy(body: Body, part: Part, digest: "hashlib._Hash", most: int) -> int:
    """Write the body after the first `start` bytes of the part; return the size of the file, or one more than `most`."""
    done = logged = noted = body.start
    step = max(body.size * STEP_PERCENT // 100, 1) if body.size else STEP_BYTES
    try:
        with part.open(fresh=not body.start) as stream:
            stream.seek(done)
            while done <= most and (block := _next_block(body, most - done)):
                _store(block, stream, part)
                digest.update(block)
                done += len(block)
                if done - noted >= NOTE_BYTES:
                    noted = done
                    part.keep(done, digest)
                if done - logged >= step:
                    logged = done
                    logger.info("%s: %s", part.path.name, _share(done, body.size))
    finally:
        with suppress(OSError, UserError):
            part.keep(done, digest)
    return done


def _share(done: int, size: int | None) -> str:
    return f"{100 * done // size} % of {size / 1e9:.2f} GB" if size else f"{done / 1e9:.2f} GB, size unknown"


def _next_block(body: Body, left: int) -> bytes:
    """Read the next bytes, at most `left`; where none are left, one more, which is one too many."""
    try:
        return body.stream.read(min(DOWNLOAD_BLOCK, left or 1))
    except TimeoutError:
        if left or body.size is None:
            raise
        return b""  # because all bytes are there, and only the connection was not closed


def _store(block: bytes, stream: IO[bytes], part: Part) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise UserError(part.path, "disk", problem, "Free some space, or link resources/ to a larger disk.") from error
