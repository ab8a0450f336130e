"""Archives of bundles, through the job that unpacks them."""
# ruff: noqa: E501 -- a case is a row of a table.

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.wrong_inputs.case import Case, Step, both, cut, fifo, link, stage, write


def unpack(name: str) -> Step:
    """Return the job that unpacks the archive of this name."""
    return stage("data.xenium.archives:unpack_bundle", archive=Path(name), manifest=Path("out/experiment.xenium"))


def _files() -> list[Path]:
    return sorted(path for path in Path("outs").rglob("*") if path.is_file())


def zipped(
    more: Callable[[zipfile.ZipFile], object] | None = None, rename: Callable[[str], str] = str, name: str = "a.zip", **options: Any
) -> Step:
    """Return the step that zips the bundle, with further entries."""

    def run() -> None:
        with zipfile.ZipFile(name, "w", **options) as archive:
            for path in _files():
                archive.write(path, rename(str(path.relative_to("outs"))))
            if more:
                more(archive)

    return run


def tarred(more: Callable[[tarfile.TarFile], object] | None = None, name: str = "a.tar", mode: str = "w") -> Step:
    """Return the step that tars the bundle, with further entries."""

    def run() -> None:
        with tarfile.open(name, mode) as archive:  # type: ignore[call-overload]
            for path in _files():
                archive.add(path, str(path.relative_to("outs")))
            if more:
                more(archive)

    return run


def entry(name: str, content: bytes = b"x", **fields: Any) -> Callable[[Any], None]:
    """Return what adds one entry to a zip or tar."""

    def add(archive: Any) -> None:
        if isinstance(archive, zipfile.ZipFile):
            info = zipfile.ZipInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.writestr(info, content)
            return
        member = tarfile.TarInfo(name)
        member.size = len(content) if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(content))

    return add


def many(count: int, name: str = "f{}") -> Callable[[Any], None]:
    """Return what adds empty entries."""

    def add(archive: Any) -> None:
        for number in range(count):
            entry(name.format(number), b"")(archive)

    return add


def _zeros(archive: Any) -> None:
    with archive.open("big.bin", "w", force_zip64=True) as file:
        for _ in range(4000):
            file.write(bytes(1 << 20))


def _patched(old: bytes, new: bytes, name: str = "a.zip") -> Step:
    def run() -> None:
        content = Path(name).read_bytes()
        assert old in content
        Path(name).write_bytes(content.replace(old, new))

    return run


def _encrypted() -> None:
    content = bytearray(Path("a.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(mark, start + 4)
    Path("a.zip").write_bytes(content)


def _method(method: int) -> Step:
    def run() -> None:
        content = bytearray(Path("a.zip").read_bytes())
        for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            start = content.find(mark)
            while start >= 0:
                content[start + offset : start + offset + 2] = struct.pack("<H", method)
                start = content.find(mark, start + 4)
        Path("a.zip").write_bytes(content)

    return run


def _unpacked() -> None:
    assert Path("out/experiment.xenium").is_file()
    assert Path("out/cells.parquet").read_bytes() == Path("outs/cells.parquet").read_bytes()
    assert not list(Path("out").glob("**/._*")) and not Path("out/__MACOSX").exists()


def _gz_of(pack: Callable[[bytes], bytes], name: str) -> Step:
    return both(tarred(), lambda: Path(name).write_bytes(pack(Path("a.tar").read_bytes())))


def _case(name: str, wrong: str, make: Step, archive: str = "a.zip", says: str = "", **named: Any) -> Case:
    return Case("archives", name, wrong, make, unpack(archive), says=says or archive, cpu_s=10, **named)


GOOD: dict[str, Any] = {"expects": "accepted", "check": _unpacked}
OUTS = {"rename": lambda name: f"outs/{name}"}
CASES = [
    _case("zip", "nothing", zipped(), **GOOD),
    _case("zip with a folder", "outs/ within", zipped(**OUTS), **GOOD),
    _case("zip of Windows", "backslashes", zipped(rename=lambda name: "outs\\" + name.replace("/", "\\")), **GOOD),
    _case("zip of macOS", "__MACOSX, .DS_Store and ._ files", zipped(lambda a: [entry(n)(a) for n in ("__MACOSX/._cells.parquet", ".DS_Store", "._experiment.xenium")]), **GOOD),
    _case("capital ending", "A.ZIP", zipped(name="A.ZIP"), "A.ZIP", **GOOD),
    _case("tar.gz", "nothing", tarred(name="a.tar.gz", mode="w:gz"), "a.tar.gz", **GOOD),
    _case("tar.xz", "nothing", _gz_of(lzma.compress, "a.tar.xz"), "a.tar.xz", **GOOD),
    _case("tar.bz2", "nothing", _gz_of(bz2.compress, "a.tar.bz2"), "a.tar.bz2", **GOOD),
    _case("zip named tar.gz", "renamed", zipped(name="a.tar.gz"), "a.tar.gz", expects="refused or accepted"),
    _case("gzip of one file", "a gz, no tar", lambda: Path("a.tar.gz").write_bytes(gzip.compress(b"hello" * 100)), "a.tar.gz"),
    _case("two bundles", "a zip of two outs folders", both(zipped(lambda a: [a.write(p, "other/" + str(p)) for p in _files()], **OUTS))),
    _case("no bundle", "a zip of something else", lambda: zipfile.ZipFile("a.zip", "w").writestr("readme.txt", "x")),
    _case("manifest twice", "experiment.xenium twice", zipped(entry("experiment.xenium", b"{}"))),
    _case("up a folder", "../../outside/pwned", zipped(entry("../../../outside/pwned"))),
    _case("absolute", "/tmp", zipped(entry("/../outside/pwned"))),
    _case("drive letter", "C:\\x", zipped(entry("C:\\pwned.txt"))),
    _case("backslash up", "..\\..\\pwned", zipped(entry("..\\..\\..\\outside\\pwned"))),
    _case("zip symlink", "a link, then a file through it", zipped(lambda a: (entry("l", b"../../outside", external_attr=0o120777 << 16, create_system=3)(a), entry("l/pwned")(a)))),
    _case("tar symlink", "a link, then a file through it", tarred(lambda a: (entry("l", type=tarfile.SYMTYPE, linkname="../../outside")(a), entry("l/pwned")(a))), "a.tar"),
    _case("tar hard link", "a hard link outside", tarred(entry("l", type=tarfile.LNKTYPE, linkname="../outside/secret.txt")), "a.tar"),
    _case("tar device", "a character device", tarred(entry("d", type=tarfile.CHRTYPE, devmajor=1, devminor=5)), "a.tar"),
    _case("tar fifo", "a FIFO within", tarred(entry("d", type=tarfile.FIFOTYPE)), "a.tar"),
    _case("tar huge size", "a size of 2⁶⁰", tarred(lambda a: a.fileobj.write(_huge_header())), "a.tar"),
    _case("control characters", "a line break in a name", zipped(entry("a\nb.csv"))),
    _case("escape codes", "a name that colours the terminal", zipped(entry("\x1b[31mred.csv"))),
    _case("nul in a name", "cells\\0.csv", both(zipped(entry("cellsX.csv")), _patched(b"cellsX.csv", b"cells\0.csv"))),
    _case("capital collision", "Cells.parquet and cells.parquet", zipped(entry("Cells.parquet"))),
    _case("normal form collision", "é twice", zipped(lambda a: (entry("é.csv")(a), entry("e\u0301.csv")(a)))),
    _case("file as folder", "cells.parquet/x", zipped(entry("cells.parquet/x"))),
    _case("200,000 entries", "empty files", zipped(many(200_000)), says="a.zip.*(more than|5,000|too many)"),
    _case("tar 200,000 entries", "empty files", tarred(many(200_000)), "a.tar", says="a.tar.*(more than|5,000|too many)"),
    _case("deep folders", "a path of 3000 letters", zipped(entry("d/" * 1500 + "x"))),
    _case("long name", "a name of 300 letters", zipped(entry("n" * 300))),
    _case("bomb", "4 GB of zeros", zipped(_zeros, compression=zipfile.ZIP_DEFLATED)),
    _case("tar bomb", "4 GB of zeros in xz", lambda: _xz_bomb(), "a.tar.xz"),
    _case("overlapping files", "two entries, one place", both(zipped(lambda a: (entry("one.csv", b"x" * 500)(a), entry("two.csv", b"x" * 500)(a))), lambda: _overlap())),
    _case("encrypted", "a password", both(zipped(), _encrypted)),
    _case("deflate64", "Windows Explorer above 2 GB", both(zipped(), _method(9)), says="a.zip.*Deflate64|a.zip"),
    _case("method unknown", "method 99", both(zipped(), _method(99))),
    _case("cut", "download broke off", both(zipped(), cut("a.zip", 0.6))),
    _case("tar.gz cut", "download broke off", both(tarred(name="a.tar.gz", mode="w:gz"), cut("a.tar.gz", 0.6)), "a.tar.gz"),
    _case("damaged", "a byte within is wrong", both(zipped(), lambda: _damage("a.zip"))),
    _case("empty", "0 bytes", write("a.zip", b"")),
    _case("html", "a login page", write("a.zip", "<html>sign in</html>")),
    _case("fifo", "a FIFO", fifo("a.zip")),
    _case("device", "a link to /dev/zero", link("a.zip", "/dev/zero")),
    _case("planted link", "a link waits at the place of the bundle", both(zipped(), lambda: (Path("out").mkdir(), Path("out/cells.parquet").symlink_to("../../outside/target.txt"))),
          expects="accepted or refused"),
]  # fmt: skip


def _huge_header() -> bytes:
    member = tarfile.TarInfo("huge")
    member.size = 2**60
    return member.tobuf(tarfile.GNU_FORMAT)


def _xz_bomb() -> None:
    with tarfile.open("a.tar.xz", "w:xz", preset=1) as archive:
        for path in _files():
            archive.add(path, str(path.relative_to("outs")))
        member = tarfile.TarInfo("big.bin")
        member.size = 2 << 30
        archive.addfile(member, open("/dev/zero", "rb"))  # noqa: PTH123, SIM115


def _overlap() -> None:
    content = bytearray(Path("a.zip").read_bytes())
    first = content.find(b"one.csv") - 30
    central = content.rfind(b"two.csv") - 46
    content[central + 42 : central + 46] = struct.pack("<I", first)
    Path("a.zip").write_bytes(content)


def _damage(name: str) -> None:
    content = bytearray(Path(name).read_bytes())
    content[len(content) // 2] ^= 255
    Path(name).write_bytes(content)
