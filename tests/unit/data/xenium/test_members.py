"""Archives made to do harm, or by programs with other habits: one line and nothing written, or the whole bundle."""

import gzip
import io
import lzma
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib

import pytest

from nuclass_pipeline.data.xenium.archives import unpack_bundle
from nuclass_pipeline.data.xenium.members import MAX_MEMBERS, ArchiveError
from tests.unit.data.xenium.test_archives import NOISE, TREE, outs, pack, tree


@pytest.fixture
def manifest(tmp_path):
    return tmp_path / "slide/outs/experiment.xenium"


@pytest.fixture
def refuse(tmp_path, manifest):
    """Check that an archive is refused in one line, within seconds and without much memory, and that nothing was written."""

    def check(archive, message, most_mb=None):
        before = sorted(tmp_path.rglob("*"))
        if most_mb:
            tracemalloc.start()
        begun = time.process_time()
        try:
            with pytest.raises(ArchiveError, match=message) as caught:
                unpack_bundle(archive=archive, manifest=manifest)
            assert time.process_time() - begun < 10
            assert not most_mb or tracemalloc.get_traced_memory()[1] < most_mb * 1e6
        finally:
            tracemalloc.stop()
        assert "\n" not in str(caught.value)
        assert str(caught.value).isprintable()
        assert sorted(tmp_path.rglob("*")) == before

    return check


def write_headers(path, names, opener=open):
    """Write a tar of empty files, header by header, because `tarfile` would take minutes."""
    with opener(path, "wb") as stream:
        for name in names:
            stream.write(tarfile.TarInfo(name).tobuf())
        stream.write(bytes(1024))
    return path


def write_empty_entries(path, count):
    """Write a zip of empty entries, all of them in one directory, record by record."""
    names = [b"outs/%06d" % number for number in range(count)]
    local = b"".join(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name for name in names)
    at, central = 0, []
    for name in names:
        central.append(struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, at) + name)
        at += 30 + len(name)
    directory = b"".join(central)
    few = min(count, 0xFFFF)
    path.write_bytes(local + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, len(directory), len(local), 0))
    return path


@pytest.mark.parametrize("count", [MAX_MEMBERS + 1, 200_000])
def test_too_many_entries_are_refused(tmp_path, refuse, count):
    refuse(
        write_empty_entries(tmp_path / "outs.zip", count),
        "more than 5,000 files",
        most_mb=50 if count > 10_000 else None,
    )


@pytest.mark.parametrize(("opener", "end"), [(open, ""), (gzip.open, "/")], ids=["files", "compressed folders"])
def test_too_many_headers_of_a_tar_are_refused(tmp_path, refuse, opener, end):
    refuse(write_headers(tmp_path / "outs.tar", (f"outs/{n}{end}" for n in range(5200)), opener), "holds more than 5,000 files and folders")


NAMES = {
    "newline": "outs/a\nb",
    "escape sequence": "outs/\x1b[31mred",
    "delete": "outs/a\x7f",
    "reversed text": "outs/cells\u202etxt.parquet",
    "zero width": "outs/cells\u200b.parquet",
    "line separator": "outs/a\u2028b",
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_that_cannot_be_shown_are_refused(tmp_path, refuse, kind, name):
    refuse(pack(tmp_path / "archive", [*outs(), (name, b"x")], kind), "has a control character or an invisible one")


def test_a_name_that_ends_at_a_zero_byte_is_refused(tmp_path, refuse):
    archive = pack(tmp_path / "archive", [*outs(), ("outs/aXb", b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"outs/aXb", b"outs/a\0b"))
    refuse(archive, r"'outs/a\\x00b': has a control character")


def test_bytes_that_are_no_text_are_refused_in_a_tar(tmp_path, refuse):
    info = tarfile.TarInfo("outs/caf\udce9")
    with tarfile.open(tmp_path / "archive", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(info)
    refuse(tmp_path / "archive", r"'outs/caf\\udce9': has a control character")


@pytest.mark.parametrize("name", ["outs/" + "a" * 200, "/".join("d" * 30) + "/x", "outs/" + "é" * 120], ids=["name", "depth", "bytes"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_no_disk_takes_are_refused(tmp_path, refuse, kind, name):
    refuse(pack(tmp_path / "archive", [*outs(), (name, b"x")], kind), "is too long")


@pytest.mark.parametrize(
    "name",
    ["outs/Cells.parquet", "outs/SUB/other", "outs/ｃells.parquet", "Outs/readme"],
    ids=["file", "folder", "full width", "top folder"],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_another_disk_takes_for_one_are_refused(tmp_path, refuse, kind, name):
    refuse(pack(tmp_path / "archive", [*outs(), (name, b"x")], kind), "differs from .* only by capitals or by how characters are encoded")


def test_normal_forms_of_one_name_are_refused(tmp_path, refuse):
    refuse(pack(tmp_path / "archive", [*outs(), ("outs/\u00e9", b"x"), ("outs/e\u0301", b"y")]), "'outs/é': differs|differs from 'outs/é'")


def test_a_single_name_in_any_normal_form_is_read(tmp_path, manifest):
    unpack_bundle(archive=pack(tmp_path / "archive", [*outs(), ("outs/e\u0301", b"y")]), manifest=manifest)
    assert tree(manifest.parent) == TREE | {"e\u0301": b"y"}


def test_overlapping_members_are_refused(tmp_path, refuse):
    """Two entries of the directory that point at one member: the start of a bomb without nesting."""
    archive = pack(tmp_path / "archive", [*outs(), ("outs/first", NOISE), ("outs/other", NOISE)])
    raw = bytearray(archive.read_bytes())
    entries = [raw.rindex(name) - 46 for name in (b"outs/first", b"outs/other")]
    raw[entries[1] + 42 : entries[1] + 46] = raw[entries[0] + 42 : entries[0] + 46]
    archive.write_bytes(raw)
    refuse(archive, "overlaps what follows it")


def test_an_encrypted_zip_says_so(tmp_path, refuse):
    archive = pack(tmp_path / "archive", outs())
    raw = bytearray(archive.read_bytes())
    raw[raw.rindex(b"outs/cells.parquet") - 46 + 8] |= 1
    archive.write_bytes(raw)
    refuse(archive, r"'outs/cells.parquet': is encrypted. Pack the bundle again, without a password")


@pytest.mark.parametrize(("method", "named"), [(9, "Deflate64"), (14, "method 14"), (93, "method 93")])
def test_a_method_that_is_not_read_is_named(tmp_path, refuse, method, named):
    archive = pack(tmp_path / "archive", outs())
    raw = bytearray(archive.read_bytes())
    raw[raw.rindex(b"outs/cells.parquet") - 46 + 10] = method
    archive.write_bytes(raw)
    refuse(archive, f"is compressed by {named}, which is not read. Pack the bundle again, as .zip or .tar.gz")


def test_an_archive_in_an_archive_is_named(tmp_path, refuse):
    refuse(pack(tmp_path / "archive", [("data/outs.zip", NOISE)]), "is not in the archive, which holds 'data/outs.zip'. Unpack it")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, refuse, kind):
    info = tarfile.TarInfo("outs/x")
    info.type, info.size = kind, 4 * 10**9
    with gzip.open(tmp_path / "archive", "wb", compresslevel=1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    refuse(tmp_path / "archive", "not a readable archive", most_mb=50)


def test_a_chain_of_headers_is_refused(tmp_path, refuse):
    info = tarfile.TarInfo("outs/x")
    info.type, info.size = tarfile.XHDTYPE, 512
    header = info.tobuf(tarfile.GNU_FORMAT) + b"9 a=bcde\n".ljust(512, b"\0")
    (tmp_path / "archive").write_bytes(header * 5000 + bytes(1024))
    refuse(tmp_path / "archive", "not a readable archive")


def test_zeros_after_the_end_are_not_read_for_ever(tmp_path, refuse):
    with tarfile.open(tmp_path / "plain", "w") as tar:
        tar.addfile(tarfile.TarInfo("experiment.xenium"))
    # A gzip file may be many of them, one after the other.
    zeros = gzip.compress(bytes(1 << 24), 9)
    (tmp_path / "archive").write_bytes(gzip.compress((tmp_path / "plain").read_bytes()) + zeros * 500)
    refuse(tmp_path / "archive", "bytes after the end mark")


def test_a_dictionary_that_would_fill_the_memory_is_refused(tmp_path, refuse):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    raw = bytearray(lzma.compress(bytes(10_000), filters=filters))
    size = raw.index(b"\x21\x01", 12) + 2
    raw[size] = 40  # 4 GiB
    end = 12 + 4 * (raw[12] + 1)
    raw[end - 4 : end] = zlib.crc32(raw[12 : end - 4]).to_bytes(4, "little")
    (tmp_path / "archive").write_bytes(raw)
    refuse(tmp_path / "archive", "Memory usage limit")


def test_a_pipe_in_place_of_the_archive_does_not_wait(tmp_path, refuse):
    os.mkfifo(tmp_path / "outs.zip")
    refuse(tmp_path / "outs.zip", "is not a regular file")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_without_a_name_is_refused(tmp_path, refuse, kind):
    refuse(pack(tmp_path / "archive", [*outs(), (".", b"x")], kind), "is not a file name")


@pytest.mark.parametrize("encoded", [True, False], ids=["UTF-8 without its flag", "code page 437"])
def test_a_zip_of_windows_is_read(tmp_path, manifest, encoded):
    archive = pack(tmp_path / "archive", [(f"Größe\\{name.replace('/', chr(92))}", content) for name, content in TREE.items()])
    raw = archive.read_bytes()
    if encoded:
        for at in (at for at in range(len(raw)) if raw[at : at + 4] in (b"PK\1\2", b"PK\3\4")):
            flags = at + (8 if raw[at : at + 4] == b"PK\1\2" else 6)
            raw = raw[:flags] + bytes([raw[flags], raw[flags + 1] & ~8]) + raw[flags + 2 :]
        archive.write_bytes(raw)
    else:
        with zipfile.ZipFile(archive, "w") as bundle:
            for name, content in TREE.items():
                info = zipfile.ZipInfo(f"outs{chr(92)}{name}")
                info.create_system = 0
                bundle.writestr(info, content)
    unpack_bundle(archive=archive, manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_a_byte_order_mark_before_a_name_is_dropped(tmp_path, manifest):
    unpack_bundle(archive=pack(tmp_path / "archive", [(f"\ufeff{name}", content) for name, content in outs()]), manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_folders_of_windows_are_folders(tmp_path, manifest):
    with zipfile.ZipFile(tmp_path / "archive", "w") as bundle:
        for name, content in [("outs\\", b""), ("outs\\sub\\", b""), *outs()]:
            bundle.writestr(name, content)
    unpack_bundle(archive=tmp_path / "archive", manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_what_macos_adds_is_left_out(tmp_path, manifest):
    litter = [("__MACOSX/outs/._experiment.xenium", b"x"), ("outs/.DS_Store", b"x"), ("outs/._cells.parquet", b"x")]
    unpack_bundle(archive=pack(tmp_path / "archive", [*litter, *outs()]), manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_members_without_a_top_folder_are_read(tmp_path, manifest):
    members = [*TREE.items(), ("__MACOSX/._cells.parquet", b"x")]
    unpack_bundle(archive=pack(tmp_path / "archive", members, "tar.xz"), manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_a_gzipped_file_that_is_no_tar_is_refused(tmp_path, refuse):
    (tmp_path / "archive").write_bytes(gzip.compress(io.BytesIO(NOISE).read()))
    refuse(tmp_path / "archive", "neither zip nor tar")
