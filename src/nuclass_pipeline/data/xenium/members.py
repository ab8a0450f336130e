"""Regular files of a zip or tar archive, listed and checked before one of them is read.

Names, links and devices are checked here and not by `tarfile.data_filter`, which is for tar alone. It strips a leading slash instead of
refusing it. It also accepts ``C:`` and backslashes, and allows links that stay inside.
"""

import bz2
import copy
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from nuclass_pipeline.errors import UserError

UNPACK_BLOCK = 1 << 22
# Far above the hundreds of a bundle, and far below what fills a folder or the memory.
MAX_MEMBERS = 5000
# One read of more is the directory of a zip or the header of a tar, because files are read by blocks.
MAX_READ = UNPACK_BLOCK
"""Most bytes of one read."""
# Short of the 255 of file systems, because the temporary name of a file that is being written is longer.
MAX_NAME_BYTES, MAX_DEPTH = 180, 20
# Some tar programs fill the last of their large blocks with zeros.
MAX_PADDING = 1 << 24
"""Most bytes after the end mark of a tar."""
LZMA_MEMORY = 1 << 28
"""Most memory of a decompressor of xz, bytes."""
DISTRUST = "Do not use this archive; get it again from its source."
PACK_AGAIN = "Pack the bundle again, as .zip or .tar.gz."
# Not `io.READ_ERRORS`, because that includes OSError, which here is a full or forbidden disk and not a broken archive.
BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    lzma.LZMAError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
# Controls, invisible characters, lone surrogates and separators of lines, because a name with one is shown as another name.
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class ArchiveError(UserError):
    """A damaged archive: another copy of it may be right, but not this one."""


@dataclass(frozen=True)
class Member:
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


@contextmanager
def open_members(archive: Path) -> Iterator[Iterator[Member]]:
    """Open a zip or tar file, whatever its name, for the checked list of its regular files; the files can be read as long as it is open.

    Raises
    ------
    ArchiveError
        From the list: if a name leads out of the folder or cannot be shown. If a member is a link, a device, encrypted, or compressed by
        another method. If members overlap or are too many.
    """
    if not archive.is_file():
        raise ArchiveError(archive, "file", "is not a regular file", "Name the archive itself in the slide sheet.")
    with ExitStack() as stack:
        file = stack.enter_context(archive.open("rb"))
        start = file.read(8)
        if not start.startswith(_ZIP_MAGIC) and (tar := _open_tar(file, start, stack)):
            yield _counted(_tar_members(tar, archive), archive)
        else:
            bundle = stack.enter_context(zipfile.ZipFile(cast(IO[bytes], _Bounded(file))))
            yield _counted(_zip_members(bundle, archive), archive)


class _Bounded(io.RawIOBase):
    """A stream that refuses to read much at once: only a forged length demands it, and it would fill the memory."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes."""
        if size > MAX_READ:
            raise ValueError(f"its list of files is {size / 1e6:.0f} MB long, that of more than {MAX_MEMBERS:,} files; pack one bundle")
        # One byte more, because without a size only the end of a zip is read, which is short.
        data: bytes = self._stream.read(MAX_READ + 1 if size < 0 else size)
        if len(data) > MAX_READ:
            raise ValueError("it has too much after its last file")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position and return it."""
        position: int = self._stream.seek(offset, whence)
        return position

    def tell(self) -> int:
        """Return the position."""
        position: int = self._stream.tell()
        return position

    def seekable(self) -> bool:
        """Return that positions can be set."""
        return True

    def readable(self) -> bool:
        """Return that it can be read."""
        return True


def _open_tar(file: IO[bytes], start: bytes, stack: ExitStack) -> tarfile.TarFile | None:
    """Open a tar, compressed or not; None where the file does not begin as one."""
    file.seek(0)
    try:
        stream = _decompress(file, start)
        return stack.enter_context(tarfile.TarFile(fileobj=cast(IO[bytes], _Bounded(stream))))
    except tarfile.ReadError as error:
        file.seek(0)
        # Only after tar, because a zip at the end of a tar, as `cells.zarr.zip` may be, makes the whole look like a zip.
        if zipfile.is_zipfile(cast(IO[bytes], _Bounded(file))):
            return None
        raise tarfile.ReadError("neither zip nor tar, or its end is missing") from error


def _decompress(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(file))
    if start.startswith(b"\xfd7zXZ\x00"):
        # Tried on the first bytes, because `LZMAFile` has no limit, and their header sets the memory that is needed.
        lzma.LZMADecompressor(memlimit=LZMA_MEMORY).decompress(file.read(4096), max_length=1)
        file.seek(0)
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


def _counted(members: Iterator[Member | None], archive: Path) -> Iterator[Member]:
    """Yield the files among the members; stop where there are too many, folders included."""
    for count, member in enumerate(members, start=1):
        if count > MAX_MEMBERS:
            raise ArchiveError(archive, "file", f"holds more than {MAX_MEMBERS:,} files and folders", "Pack the output folder alone.")
        if member and not _is_litter(member.name):
            yield member


def _is_litter(name: PurePosixPath) -> bool:
    """Return whether a file is what macOS adds to archives."""
    return name.parts[0] == "__MACOSX" or name.name == ".DS_Store" or name.name.startswith("._")


def _tar_members(tar: tarfile.TarFile, archive: Path) -> Iterator[Member | None]:
    for info in tar:
        name = _checked_name(info.name, archive, folder=info.isdir())
        if not (info.isreg() or info.isdir()):
            raise ArchiveError(archive, _shown(info.name), "is a link or a device", DISTRUST)
        if info.isdir():
            yield None
        else:
            yield Member(name, info.size, lambda info=info: cast(IO[bytes], tar.extractfile(info)))  # type: ignore[misc]
    _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise if the members do not end at the end mark, or the checksum of a compressed tar is wrong."""
    # Checked here, because `tarfile` takes a cut or a broken header for the end.
    stream = cast(IO[bytes], tar.fileobj)
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end mark after the last file")
    # Read to the end, because only there a compressed tar has its checksum.
    for _ in range(MAX_PADDING // UNPACK_BLOCK + 1):
        if not stream.read(UNPACK_BLOCK):
            return
    raise tarfile.ReadError(f"more than {MAX_PADDING:,} bytes after the end mark")


def _zip_members(bundle: zipfile.ZipFile, archive: Path) -> Iterator[Member | None]:
    _refuse_overlaps(bundle, archive)
    for info in bundle.infolist():
        text = _zip_name(info)
        folder = text.endswith("/") or bool(info.external_attr & 0x10)
        name = _checked_name(text, archive, folder=folder)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(archive, _shown(text), "is a link or a device", DISTRUST)
        if info.flag_bits & 1:
            raise ArchiveError(archive, _shown(text), "is encrypted", "Pack the bundle again, without a password.")
        if info.compress_type not in _METHODS:
            # Windows Explorer uses this one for files over 2 GB.
            method = "Deflate64" if info.compress_type == 9 else f"method {info.compress_type}"
            raise ArchiveError(archive, _shown(text), f"is compressed by {method}, which is not read", PACK_AGAIN)
        if folder:
            yield None
        else:
            longer = copy.copy(info)
            longer.file_size += 1  # because zipfile stops at the declared size, and one byte more shows that it was untrue
            yield Member(name, info.file_size, lambda longer=longer: bundle.open(longer))  # type: ignore[misc]


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a name as its writer meant it: UTF-8 that is not marked as such, a byte-order mark, the backslashes of Windows."""
    name = info.orig_filename  # because `filename` ends at a NUL
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):  # because it is in code page 437 then
            name = name.encode("cp437").decode("utf-8")
    return name.removeprefix("\ufeff").replace("\\", "/")


def _refuse_overlaps(bundle: zipfile.ZipFile, archive: Path) -> None:
    """Raise if two members share bytes, because then a small archive holds many copies of a large file."""
    entries = sorted(bundle.infolist(), key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in entries[1:]), getattr(bundle, "start_dir", 0)]
    for info, end in zip(entries, ends, strict=False):
        if info.header_offset + 30 + len(info.orig_filename) + info.compress_size > end:
            raise ArchiveError(archive, _shown(info.orig_filename), "overlaps what follows it", DISTRUST)


def _checked_name(name: str, archive: Path, *, folder: bool) -> PurePosixPath:
    path = PurePosixPath(name)
    problems = {
        "lies outside the archive's folder": path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name),
        "has a control character or an invisible one": any(unicodedata.category(letter) in _UNSHOWN for letter in name),
        "is too long": len(path.parts) > MAX_DEPTH or any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in path.parts),
        "is not a file name": not path.parts and not folder,
    }
    if problem := next((problem for problem, found in problems.items() if found), None):
        raise ArchiveError(archive, _shown(name), problem, DISTRUST)
    return path


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
