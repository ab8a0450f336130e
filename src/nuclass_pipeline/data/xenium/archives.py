"""Unpack a Xenium bundle from a zip or tar archive, without trusting it."""

import logging
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from nuclass_pipeline.data.xenium.members import BROKEN_ARCHIVE, DISTRUST, UNPACK_BLOCK, ArchiveError, Member, open_members
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line, whole_file

logger = logging.getLogger(__name__)

# Far above the 1 to 10 of bundles, because their tables and images are compressed already, and far below the 1000 of deflated zeros.
MAX_COMPRESSION_RATIO = 200
"""Unpacked bytes per byte of the archive."""
_INNER = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")


def unpack_bundle(*, archive: Path, manifest: Path) -> None:
    """Unpack a bundle into the manifest's folder, without a common top folder, the manifest last.

    Zip, tar and the compression of a tar are recognised by the content, not by the name. Files that an earlier try left complete are not
    written again. Nothing is written before every member's name and kind and the total size have been checked.

    Parameters
    ----------
    archive
        Zip or tar file; a tar may be compressed by gzip, bzip2 or xz.
    manifest
        Path that `experiment.xenium` gets; the other files of its folder in the archive lie beside it.

    Raises
    ------
    UserError
        If the archive is too large for the disk, or the folder cannot be written.
    ArchiveError
        If the archive is broken, cut off, encrypted or a bomb, or holds no manifest or two bundles. If one of its members is a link or a
        device, or has a path outside the folder.
    """
    try:
        with open_members(archive) as members:
            _unpack_members(_listed(members, archive), archive, manifest)
    except BROKEN_ARCHIVE as error:
        problem = f"not a readable archive, or cut off ({first_line(error)})"
        raise ArchiveError(archive, "file", problem, "Remove it, then get it again.") from error
    except OSError as error:
        remedy = "Remove the cause and run the same command again; complete files are kept."
        raise UserError(archive, "file", f"cannot be unpacked ({error})", remedy) from error


def check_room(folder: Path, needed: int) -> None:
    """Raise a `UserError` if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        problem = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        raise UserError(folder, "disk", problem, "Free some space, or link resources/ to a larger disk.")


def _unpack_members(members: dict[PurePosixPath, Member], archive: Path, manifest: Path) -> None:
    files = _place(members, archive, manifest)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    missing = sum(member.size for path, member in files.items() if not _has_size(path, member.size))
    check_room(manifest.parent, missing)
    logger.info("%s: %d files, %.2f GB to write", archive.name, len(files), missing / 1e9)
    # First, because a folder with a manifest counts as a whole bundle; for the same reason the new one comes last.
    manifest.unlink(missing_ok=True)
    written: list[Path] = []
    try:
        with whole_file(manifest) as partial:
            for path, member in files.items():
                written += [path] if _write(member, partial if path == manifest else path, archive) else []
    except (ArchiveError, *BROKEN_ARCHIVE):
        # All of this archive, because another copy of it may hold other files; after a full disk they are kept instead.
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _listed(members: Iterable[Member], archive: Path) -> dict[PurePosixPath, Member]:
    """Return the members by name; stop at the first that makes the archive a bomb, before it is read."""
    listed: dict[PurePosixPath, Member] = {}
    spelled: dict[str, PurePosixPath] = {}
    total, most = 0, MAX_COMPRESSION_RATIO * archive.stat().st_size
    for member in members:
        total += abs(member.size)  # because a tar may declare a negative one, to make up for a bomb
        if total > most:
            problem = f"makes the unpacked files {total:,} bytes, over {MAX_COMPRESSION_RATIO} times the archive"
            raise ArchiveError(archive, f"{str(member.name)!r}", problem, DISTRUST)
        if member.name in listed:
            raise ArchiveError(archive, f"{str(member.name)!r}", "occurs twice in the archive", "Pack the bundle again.")
        for path in (member.name, *member.name.parents):
            # Other disks take them for one name, and a reader on this one may open either.
            if (other := spelled.setdefault(unicodedata.normalize("NFKC", str(path)).casefold(), path)) != path:
                problem = f"differs from {str(other)!r} only by capitals or by how characters are encoded"
                raise ArchiveError(archive, f"{str(path)!r}", problem, "Rename one of them and pack the bundle again.")
        listed[member.name] = member
    if clash := next((parent for name in listed for parent in name.parents if parent in listed), None):
        raise ArchiveError(archive, f"{str(clash)!r}", "is both a file and a folder", DISTRUST)
    return listed


def _place(members: dict[PurePosixPath, Member], archive: Path, manifest: Path) -> dict[Path, Member]:
    """Return the bundle's members by the path that each gets, in the order of the archive."""
    homes = sorted((name.parent for name in members if name.name == manifest.name), key=lambda home: len(home.parts))
    if not homes:
        inner = next((name for name in members if name.name.lower().endswith(_INNER) and len(members) < 4), None)
        problem = f"is not in the archive, which holds {str(inner)!r}" if inner else "is not in the archive"
        remedy = "Unpack it, and name the inner archive." if inner else "Pack the output folder of a Xenium run."
        raise ArchiveError(archive, manifest.name, problem, remedy)
    if other := next((home for home in homes if not home.is_relative_to(homes[0])), None):
        raise ArchiveError(archive, manifest.name, f"is in {str(homes[0])!r} and in {str(other)!r}", "Pack one bundle per archive.")
    files = {manifest.parent / name.relative_to(homes[0]): member for name, member in members.items() if name.is_relative_to(homes[0])}
    # After links are followed, because a folder of an earlier try may hold one that leads elsewhere.
    for path, member in files.items():
        if not path.resolve().is_relative_to(manifest.parent.resolve()):
            raise UserError(archive, f"{str(member.name)!r}", f"leads out of {manifest.parent} through a link", "Remove the link.")
    return files


def _write(member: Member, path: Path, archive: Path) -> bool:
    """Write a member, and return whether it was not there already."""
    if _has_size(path, member.size) and _holds(path, member):
        return False
    done = 0
    with whole_file(path) as partial, member.open() as source, partial.open("wb") as stream:
        while block := source.read(min(UNPACK_BLOCK, member.size + 1 - done)):
            done += len(block)
            stream.write(block)
        if done != member.size:
            more = "more" if done > member.size else "fewer"
            raise ArchiveError(archive, f"{str(member.name)!r}", f"holds {more} bytes than the {member.size:,} it declares", DISTRUST)
    return True


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _holds(path: Path, member: Member) -> bool:
    with path.open("rb") as stream, member.open() as source:
        while block := source.read(UNPACK_BLOCK):
            if stream.read(len(block)) != block:
                return False
    return True
