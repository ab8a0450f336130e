import io
import re
import shutil
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.data.xenium.archives import unpack_bundle
from nuclass_pipeline.errors import UserError

NOISE = bytes(zlib.crc32(bytes([i % 251, i // 251])) & 255 for i in range(5000))
TREE = {"experiment.xenium": b"{}", "cells.parquet": NOISE, "sub/deep/empty": b"", "sub/text.csv": b"a,b\n" * 90}
INNER = io.BytesIO()
with zipfile.ZipFile(INNER, "w") as inner:
    inner.writestr("0.0", b"a zarr chunk")
MODES = {"zip": "zip", "tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def pack(path, members, kind="zip"):
    """Write `members` (pairs of name and bytes, or of name and `TarInfo` type) under whatever name `path` has."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in members:
                bundle.writestr(name, content)
        return path
    with tarfile.open(path, MODES[kind]) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def outs(tree=TREE):
    return [(f"outs/{name}", content) for name, content in tree.items()]


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def manifest(tmp_path):
    return tmp_path / "slide/outs/experiment.xenium"


@pytest.mark.parametrize("kind", MODES)
def test_zip_and_tar_give_the_same_tree_whatever_the_name(tmp_path, manifest, kind):
    unpack_bundle(archive=pack(tmp_path / "archive.bin", [*outs(), ("other/readme", b"y")], kind), manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path, manifest):
    archive = pack(tmp_path / "outs.tar", [*outs(), ("outs/cells.zarr.zip", INNER.getvalue())], "tar")
    assert zipfile.is_zipfile(archive)
    unpack_bundle(archive=archive, manifest=manifest)
    assert tree(manifest.parent) == TREE | {"cells.zarr.zip": INNER.getvalue()}


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("name", ["../escape", "/escape", "outs/../../escape", "outs\\..\\escape", "C:/escape", "c:escape"])
def test_a_name_outside_the_folder_is_refused_before_anything_is_written(tmp_path, manifest, kind, name):
    archive = pack(tmp_path / "archive", [*outs(), (name, b"x")], kind)
    shown = name.replace("\\", "/") if kind == "zip" else name
    with pytest.raises(UserError, match=rf"{archive}: {re.escape(repr(shown))}: lies outside"):
        unpack_bundle(archive=archive, manifest=manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, manifest, kind):
    link = tarfile.TarInfo("outs/link")
    link.type, link.linkname = kind, "cells.parquet"
    archive = pack(tmp_path / "archive", [*outs(), (link, b"")], "tar.gz")
    with pytest.raises(UserError, match=rf"{archive}: 'outs/link': is a link or a device"):
        unpack_bundle(archive=archive, manifest=manifest)
    assert not manifest.parent.exists()


def test_a_symlink_in_a_zip_is_refused(tmp_path, manifest):
    link = zipfile.ZipInfo("outs/link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with pytest.raises(UserError, match="'outs/link': is a link or a device"):
        unpack_bundle(archive=pack(tmp_path / "archive", [*outs(), (link, "/etc")]), manifest=manifest)
    assert not manifest.parent.exists()


def test_a_link_that_lies_in_the_folder_is_not_followed_out_of_it(tmp_path, manifest):
    manifest.parent.mkdir(parents=True)
    (manifest.parent / "sub").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads out of"):
        unpack_bundle(archive=pack(tmp_path / "archive", outs()), manifest=manifest)
    assert not (tmp_path / "text.csv").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("readme", b"x")], r"experiment.xenium: is not in the archive"),
        ([("a/experiment.xenium", b"x"), ("b/experiment.xenium", b"y")], r"is in 'a' and in 'b'"),
        ([*outs(), ("outs/sub/text.csv/more", b"x")], r"'outs/sub/text.csv': is both a file and a folder"),
        ([*outs(), ("outs//cells.parquet", b"x")], r"'outs/cells.parquet': occurs twice"),
    ],
)
@pytest.mark.parametrize("kind", MODES)
def test_an_archive_that_is_not_a_single_bundle_is_refused(tmp_path, manifest, kind, members, message):
    with pytest.raises(UserError, match=message):
        unpack_bundle(archive=pack(tmp_path / "archive", members, kind), manifest=manifest)
    assert not manifest.parent.exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(tmp_path, manifest, kind):
    archive = pack(tmp_path / "archive", [*outs(), ("outs/bomb", bytes(20_000_000))], kind)
    assert archive.stat().st_size < 100_000
    with pytest.raises(UserError, match=rf"{archive}: 'outs/bomb': makes the unpacked files 20,\d+,\d+ bytes, over 200 times"):
        unpack_bundle(archive=archive, manifest=manifest)
    assert not manifest.parent.exists()


def test_a_header_that_declares_a_terabyte_is_refused_unread(tmp_path, manifest):
    info = tarfile.TarInfo("outs/huge")
    info.size = 10**12
    archive = tmp_path / "archive"
    archive.write_bytes(info.tobuf() + bytes(100_000))
    with pytest.raises(UserError, match="1,000,000,000,000 bytes, over 200 times"):
        unpack_bundle(archive=archive, manifest=manifest)


def test_a_negative_size_does_not_make_up_for_a_bomb(tmp_path, manifest):
    info = tarfile.TarInfo("outs/debt")
    info.size = -(10**12)
    archive = tmp_path / "archive"
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    with pytest.raises(UserError, match="'outs/debt': makes the unpacked files 1,000,000,000,000 bytes"):
        unpack_bundle(archive=archive, manifest=manifest)


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 5361))
    whole = sum(map(len, TREE.values()))
    assert whole == 5362
    with pytest.raises(UserError, match=r"disk: 0.0 GB needed, 0.0 GB free"):
        unpack_bundle(archive=pack(tmp_path / "archive", outs()), manifest=manifest)
    assert tree(manifest.parent) == {}
    (manifest.parent / "cells.parquet").write_bytes(NOISE)
    unpack_bundle(archive=tmp_path / "archive", manifest=manifest)
    assert tree(manifest.parent) == TREE


@pytest.mark.parametrize(("declared", "word"), [(10, "more"), (6000, "fewer")])
def test_a_member_with_an_untrue_size_is_refused(tmp_path, manifest, declared, word):
    archive = pack(tmp_path / "archive", outs())
    raw = bytearray(archive.read_bytes())
    entry = raw.rindex(b"outs/cells.parquet") - 46
    assert raw[entry : entry + 4] == b"PK\x01\x02"
    raw[entry + 24 : entry + 28] = declared.to_bytes(4, "little")
    if word == "more":  # a checksum that is right for the declared bytes and one more, because zipfile reads that far
        raw[entry + 16 : entry + 20] = zlib.crc32(NOISE[: declared + 1]).to_bytes(4, "little")
    archive.write_bytes(raw)
    with pytest.raises(UserError, match=rf"'outs/cells.parquet': holds {word} bytes than the {declared:,} it declares"):
        unpack_bundle(archive=archive, manifest=manifest)
    assert not manifest.exists()
    assert not (manifest.parent / "cells.parquet").exists()


@pytest.mark.parametrize("kind", MODES)
def test_an_archive_cut_anywhere_is_one_line_or_whole(tmp_path, manifest, kind):
    archive = pack(tmp_path / "archive", outs(), kind)
    whole = archive.read_bytes()
    refused = 0
    for length in [*range(0, len(whole), 41), len(whole) - 1]:
        archive.write_bytes(whole[:length])
        shutil.rmtree(manifest.parent, ignore_errors=True)
        try:
            unpack_bundle(archive=archive, manifest=manifest)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{archive}: file: not a readable archive, or cut off (")
            assert str(error).endswith("Remove it, then get it again.")
            assert not manifest.exists()
        else:
            assert kind == "tar"
            assert length > whole.rindex(b"a,b\n")
            assert tree(manifest.parent) == TREE
    assert refused >= 40


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_flipped_byte_is_one_line_or_does_no_harm(tmp_path, manifest, kind):
    archive = pack(tmp_path / "archive", outs(), kind)
    whole = archive.read_bytes()
    refused = 0
    for position in range(0, len(whole), 23):
        archive.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        shutil.rmtree(manifest.parent, ignore_errors=True)
        try:
            unpack_bundle(archive=archive, manifest=manifest)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{archive}: ")
            assert "\n" not in str(error)
            assert not manifest.exists()
        else:
            contents = tree(manifest.parent).values()
            assert set(contents) <= set(TREE.values())
    assert refused >= 0.7 * len(range(0, len(whole), 23))


@pytest.mark.parametrize("kind", MODES)
def test_complete_files_of_an_earlier_try_are_not_written_again(tmp_path, manifest, kind):
    archive = pack(tmp_path / "archive", outs(), kind)
    blocker = manifest.parent / "sub/text.csv"
    blocker.mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{archive}: file: cannot be unpacked .*complete files are kept"):
        unpack_bundle(archive=archive, manifest=manifest)
    assert not manifest.exists()
    before = (manifest.parent / "cells.parquet").stat()
    blocker.rmdir()
    unpack_bundle(archive=archive, manifest=manifest)
    after = (manifest.parent / "cells.parquet").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert tree(manifest.parent) == TREE


@pytest.mark.parametrize("kind", MODES)
def test_another_file_of_the_same_size_is_written_again(tmp_path, manifest, kind):
    manifest.parent.mkdir(parents=True)
    (manifest.parent / "cells.parquet").write_bytes(NOISE[:-1] + bytes([NOISE[-1] ^ 1]))
    unpack_bundle(archive=pack(tmp_path / "archive", outs(), kind), manifest=manifest)
    assert tree(manifest.parent) == TREE


def test_the_old_manifest_is_removed_first_and_the_new_one_is_written_last(tmp_path, manifest):
    unpack_bundle(archive=pack(tmp_path / "old", outs()), manifest=manifest)
    renewed = pack(tmp_path / "new", outs(TREE | {"cells.parquet": b"renewed"}))
    (manifest.parent / "sub/text.csv").unlink()
    (manifest.parent / "sub/text.csv").mkdir()
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack_bundle(archive=renewed, manifest=manifest)
    assert not manifest.exists()


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", b"\x1f\x8b\x08"])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path, manifest, content):
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(UserError, match="not a readable archive"):
        unpack_bundle(archive=tmp_path / "archive", manifest=manifest)


@given(name=st.text(st.sampled_from("a./\\:C"), min_size=1, max_size=8), kind=st.sampled_from(["zip", "tar"]))
def test_no_name_writes_outside(tmp_path_factory, name, kind):
    folder = tmp_path_factory.mktemp("names")
    archive = pack(folder / "archive", [("experiment.xenium", b"{}"), (name, b"")], kind)
    try:
        unpack_bundle(archive=archive, manifest=folder / "slide/outs/experiment.xenium")
    except UserError as error:
        assert str(error).startswith(str(archive))
    assert all(path.is_relative_to(folder / "slide/outs") for path in folder.rglob("*") if path.is_file() and path != archive)
