"""Download a public slide: resumable, with progress in the log, unpacked with path checks."""

import logging
import shutil
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file

logger = logging.getLogger(__name__)

BLOCK = 1 << 22
TIMEOUT_S = 60
IDENTITY = "1,0,0\n0,1,0\n0,0,1\n"


def fetch_slide(*, bundle_url: str, image_url: str, alignment_url: str, manifest: Path, image: Path, alignment: Path) -> None:
    """Download the bundle, the H&E and its alignment; an H&E without one is already in Xenium pixels.

    The manifest is put in place last, so a bundle with a manifest is whole.
    """
    download(image_url, image)
    if alignment_url:
        download(alignment_url, alignment)
    else:
        with whole_file(alignment) as partial:
            partial.write_text(IDENTITY)
    archive = manifest.parent.with_suffix(".zip")
    download(bundle_url, archive)
    unpack(archive, manifest)
    archive.unlink()


def download(url: str, path: Path) -> None:
    """Download `url` to `path`, going on where an earlier try broke off.

    Raises
    ------
    UserError
        If the server refuses, the connection breaks, the size is wrong or the disk is too small.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            start = start if response.status == 206 else 0
            size = start + int(response.headers.get("Content-Length", 0))
            _check_disk(path, size - start)
            with partial.open("ab" if start else "wb") as stream:
                _copy(response, stream, path.name, start, size)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(url, "download", f"{error}", "Run the same command again to go on; for files of your own empty the URL.") from error
    if partial.stat().st_size != size:
        raise UserError(
            url, "download", f"broke off after {partial.stat().st_size:,} of {size:,} bytes", "Run the same command again to go on."
        )
    partial.replace(path)


def _check_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            path, "disk", f"{needed / 1e9:.1f} GB to download, {free / 1e9:.1f} GB free", "Make room, or link resources/ to a larger disk."
        )


def _copy(response: HTTPResponse, stream: BinaryIO, name: str, done: int, size: int) -> None:
    reported = -1
    while block := response.read(BLOCK):
        stream.write(block)
        done += len(block)
        percent = 100 * done // max(size, 1)
        if percent // 5 != reported:
            reported = percent // 5
            logger.info("%s: %d %% of %.2f GB", name, percent, size / 1e9)


def unpack(archive: Path, manifest: Path) -> None:
    """Unpack a zipped bundle into the manifest's folder, without a common top folder, the manifest last.

    Raises
    ------
    UserError
        If the archive is broken, holds no manifest, or names a path outside the folder.
    """
    target = manifest.parent
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [member for member in bundle.infolist() if not member.is_dir()]
            homes = [Path(member.filename).parent for member in members if Path(member.filename).name == manifest.name]
            if not homes:
                raise UserError(archive, manifest.name, "is not in the archive", "Is this the output of a Xenium run?")
            members.sort(key=lambda member: Path(member.filename) == homes[0] / manifest.name)
            for member in members:
                _unpack_member(bundle, member, homes[0], target, archive)
    except zipfile.BadZipFile as error:
        raise UserError(archive, "file", f"not a readable zip ({error})", "Remove it and run again.") from error


def _unpack_member(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, home: Path, target: Path, archive: Path) -> None:
    name = Path(member.filename)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(archive, member.filename, "lies outside the archive's folder", "Do not use this archive.")
    if name.is_relative_to(home):
        with bundle.open(member) as source, whole_file(target / name.relative_to(home)) as partial, partial.open("wb") as stream:
            shutil.copyfileobj(source, stream, BLOCK)
