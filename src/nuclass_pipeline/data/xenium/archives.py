"""Unpack a Xenium bundle from a zip or tar archive, without trusting it.

Names, links and devices are checked here and not by `tarfile.data_filter`, which is for tar alone. It strips a leading slash instead of
refusing it. It also accepts ``C:`` and backslashes, and allows links that stay inside.
"""

import copy
import logging
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file

logger = logging.getLogger(__name__)

UNPACK_BLOCK = 1 << 22
# Far above the 1 to 10 of bundles, because their tables and images are compressed already, and far below the 1000 of deflated zeros.
MAX_COMPRESSION_RATIO = 200
"""Unpacked bytes per byte of the archive."""
DISTRUST = "Do not use this archive; get it again from its source."
# Not `io.READ_ERRORS`, because that includes OSError, which here is a full or forbidden disk and not a broken archive.
BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    BadGzipFile,
    EOFError,
    LZMAError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class _Member:
    """A regular file of an archive.

    Attributes
    ----------
    name
        Path in the archive.
    size
        Declared size, bytes; it may be untrue.
    open
        Function that opens the content for reading.
    """

    name: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def unpack_bundle(*, archive: Path, manifest: Path) -> None:
    """Unpack a bundle into the manifest's folder, without a common top folder, the manifest last.

    Zip, tar and the compression of a tar are recognised by the content, not by the name. Files that an earlier try left complete are not
    written again. Nothing is written before every member's name and kind and the total size have been checked.

    Parameters
    ----------
    archive
        Zip or tar file.
    manifest
        Path that `experiment.xenium` gets; the other files of its folder in the archive lie beside it.

    Raises
    ------
    UserError
        If the archive is broken, cut off, a bomb or too large for the disk, or holds no manifest or two bundles. If one of its members is
        a link or a device, or has a path outside the folder.
    """
    try:
        # Tar first, because a zip at the end of a tar, as `cells.zarr.zip` may be, makes the whole look like a zip.
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                _unpack_members(_tar_members(tar, archive), archive, manifest)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                _unpack_members(_zip_members(bundle, archive), archive, manifest)
        else:
            raise zipfile.BadZipFile("neither zip nor tar, or its end is missing")
    except BROKEN_ARCHIVE as error:
        raise UserError(archive, "file", f"not a readable archive, or cut off ({error})", "Remove it, then get it again.") from error
    except OSError as error:
        remedy = "Remove the cause and run the same command again; complete files are kept."
        raise UserError(archive, "file", f"cannot be unpacked ({error})", remedy) from error


def check_room(folder: Path, needed: int) -> None:
    """Raise a `UserError` if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        problem = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        raise UserError(folder, "disk", problem, "Free some space, or link resources/ to a larger disk.")


def _tar_members(tar: tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    for info in tar:
        name = _checked_name(info.name, archive)
        if not (info.isreg() or info.isdir()):
            raise UserError(archive, f"{info.name!r}", "is a link or a device", DISTRUST)
        if info.isreg():
            yield _Member(name, info.size, lambda info=info: cast(IO[bytes], tar.extractfile(info)))  # type: ignore[misc]
    _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise if the members do not end at the end mark, or the checksum of a compressed tar is wrong."""
    # Checked here, because `tarfile` takes a cut or a broken header for the end.
    stream = cast(BinaryIO, tar.fileobj)
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end mark after the last file")
    # Read to the end, because only there a compressed tar has its checksum.
    while stream.read(UNPACK_BLOCK):
        pass


def _zip_members(bundle: zipfile.ZipFile, archive: Path) -> Iterator[_Member]:
    for info in bundle.infolist():
        name = _checked_name(info.filename, archive)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(archive, f"{info.filename!r}", "is a link or a device", DISTRUST)
        if not info.is_dir():
            longer = copy.copy(info)
            longer.file_size += 1  # because zipfile stops at the declared size, and one byte more shows that it was untrue
            yield _Member(name, info.file_size, lambda longer=longer: bundle.open(longer))  # type: ignore[misc]


def _checked_name(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise UserError(archive, f"{name!r}", "lies outside the archive's folder", DISTRUST)
    return path


def _unpack_members(members: Iterable[_Member], archive: Path, manifest: Path) -> None:
    files = _place(_listed(members, archive), archive, manifest)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    missing = sum(member.size for path, member in files.items() if not _has_size(path, member.size))
    check_room(manifest.parent, missing)
    logger.info("%s: %d files, %.2f GB to write", archive.name, len(files), missing / 1e9)
    # First, because a folder with a manifest counts as a whole bundle; for the same reason the new one comes last.
    manifest.unlink(missing_ok=True)
    with whole_file(manifest) as partial:
        for path, member in files.items():
            _write(member, partial if path == manifest else path, archive)


def _listed(members: Iterable[_Member], archive: Path) -> dict[PurePosixPath, _Member]:
    """Return the members by name; stop at the first that makes the archive a bomb, before it is read."""
    listed: dict[PurePosixPath, _Member] = {}
    total, most = 0, MAX_COMPRESSION_RATIO * archive.stat().st_size
    for member in members:
        total += abs(member.size)  # because a tar may declare a negative one, to make up for a bomb
        if total > most:
            problem = f"makes the unpacked files {total:,} bytes, over {MAX_COMPRESSION_RATIO} times the archive"
            raise UserError(archive, f"{str(member.name)!r}", problem, DISTRUST)
        if member.name in listed:
            raise UserError(archive, f"{str(member.name)!r}", "occurs twice in the archive", "Pack the bundle again.")
        listed[member.name] = member
    if clash := next((parent for name in listed for parent in name.parents if parent in listed), None):
        raise UserError(archive, f"{str(clash)!r}", "is both a file and a folder", DISTRUST)
    return listed


def _place(members: dict[PurePosixPath, _Member], archive: Path, manifest: Path) -> dict[Path, _Member]:
    """Return the bundle's members by the path that each gets, in the order of the archive."""
    homes = sorted((name.parent for name in members if name.name == manifest.name), key=lambda home: len(home.parts))
    if not homes:
        raise UserError(archive, manifest.name, "is not in the archive", "Pack the output folder of a Xenium run.")
    if other := next((home for home in homes if not home.is_relative_to(homes[0])), None):
        raise UserError(archive, manifest.name, f"is in {str(homes[0])!r} and in {str(other)!r}", "Pack one bundle per archive.")
    files = {manifest.parent / name.relative_to(homes[0]): member for name, member in members.items() if name.is_relative_to(homes[0])}
    # After links are followed, because a folder of an earlier try may hold one that leads elsewhere.
    for path, member in files.items():
        if not path.resolve().is_relative_to(manifest.parent.resolve()):
            raise UserError(archive, f"{str(member.name)!r}", f"leads out of {manifest.parent} through a link", "Remove the link.")
    return files


def _write(member: _Member, path: Path, archive: Path) -> None:
    if _has_size(path, member.size) and _holds(path, member):
        return
    done = 0
    with whole_file(path) as partial, member.open() as source, partial.open("wb") as stream:
        while block := source.read(min(UNPACK_BLOCK, member.size + 1 - done)):
            done += len(block)
            stream.write(block)
        if done != member.size:
            more = "more" if done > member.size else "fewer"
            raise UserError(archive, f"{str(member.name)!r}", f"holds {more} bytes than the {member.size:,} it declares", DISTRUST)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _holds(path: Path, member: _Member) -> bool:
    with path.open("rb") as stream, member.open() as source:
        while block := source.read(UNPACK_BLOCK):
            if stream.read(len(block)) != block:
                return False
    return True
