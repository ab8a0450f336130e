"""HDF5 files that reach other files, or are larger than they look, are refused in one line before a value is read."""

import os
import resource
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_h5, read_texts
from tests import ROOT

SHAPE = (3, 8, 8, 3)
NAME = "patches_224x224.h5"
MIB = 2**20


def external(name, dtype):
    def make(file, folder):
        (folder / "secret.txt").write_text("root:x:0:0\n" * 100)
        file.create_dataset(name, (100,), dtype, external=[(str(folder / "secret.txt"), 0, h5py.h5f.UNLIMITED)])

    return make


def window(file, source, dataset="images", name="images"):
    layout = h5py.VirtualLayout(SHAPE, np.uint8)
    layout[:] = h5py.VirtualSource(source, dataset, SHAPE, np.uint8)
    file.create_virtual_dataset(name, layout, fillvalue=255)


def one_window_of_many(file, folder):
    layout = h5py.VirtualLayout(SHAPE, np.uint8)
    for row in range(3):
        source = folder / "other.h5" if row == 1 else "image.h5"
        layout[row] = h5py.VirtualSource(str(source), "level_0", (20, 20, 3), np.uint8)[:8, :8]
    file.create_virtual_dataset("images", layout)


def to_image(make):
    def write(file, folder):
        make(folder / "image.h5")
        window(file, "image.h5", "level_0")

    return write


def image_of_another_slide(file, folder):
    with h5py.File(folder / "image.h5", "w") as image:
        image["level_0"] = np.zeros(SHAPE, np.uint8)
    window(file, "image.h5", "level_0")
    file.attrs["source_shape"] = (3, 9, 8, 3)


def image_with_values_elsewhere(path):
    with h5py.File(path, "w") as image:
        external("level_0", "u1")(image, path.parent)


def soft_loop(file, _):
    file["images"], file["back"] = h5py.SoftLink("/back"), h5py.SoftLink("/images")


def hard_loop(file, _):
    group = file.create_group("a/b")
    group["up"] = file["a"]


def nested(file, _):
    group = file
    for _ in range(3000):
        group = group.create_group("g")


def bomb(shape, chunks, dtype="u1", name="x"):
    """All chunks inflate to zeros."""

    def make(file, _):
        dataset = file.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip")
        packed = zlib.compress(bytes(int(np.prod(chunks)) * dataset.dtype.itemsize), 9)
        for start in range(0, shape[0], chunks[0]):
            dataset.id.write_direct_chunk((start, *[0] * (len(shape) - 1)), packed)

    return make


def chunk_that_overflows(file, _):
    dataset = file.create_dataset("images", (1, 224, 224, 3), np.uint8, chunks=(1, 224, 224, 3), compression="gzip")
    dataset.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(64 * MIB), 1))


def filtered(*codes):
    def make(file, _):
        layout = h5p.create(h5p.DATASET_CREATE)
        layout.set_chunk((1, *SHAPE[1:]))
        for code in codes:
            layout.set_filter(code, 1, (9,))
        h5d.create(file.id, b"images", h5t.STD_U8LE, h5s.create_simple(SHAPE), layout)

    return make


def named_type(file, _):
    file["type"] = np.dtype("S3")
    file.create_dataset("keys", (3,), dtype=file["type"])
    del file["type"]


HOSTILE = {
    "values in a text file": (external("images", "u1"), "images: keeps its values in another file"),
    "ids in a text file": (external("keys", "S10"), "keys: keeps its values in another file"),
    "external link": (lambda f, _: f.update({"a/b/c": h5py.ExternalLink("/etc/passwd", "/")}), "a/b/c: is a link to another file"),
    "window by path": (lambda f, d: window(f, str(d / "other.h5")), "images: its windows point into .*other.h5, not into the image.h5"),
    "window beside": (lambda f, _: window(f, "other.h5"), "point into other.h5, not"),
    "window upwards": (lambda f, _: window(f, "../image.h5"), "point into ../image.h5, not"),
    "window into itself": (lambda f, _: window(f, ".", "x"), "images: points into its own file"),
    "window of the same name into itself": (lambda f, d: window(f, str(d / NAME), "x"), "points? into .*"),
    "one window of many": (one_window_of_many, "point into .*other.h5, not"),
    "no image": (lambda f, _: window(f, "image.h5"), "image.h5, which does not exist. Copy image.h5 with it, or .*`nuclass export-trio"),
    "image is a folder": (to_image(Path.mkdir), "image.h5, which does not exist"),
    "image is a pipe": (to_image(os.mkfifo), "image.h5, which does not exist"),
    "image is a device": (to_image(lambda path: path.symlink_to("/dev/zero")), "image.h5, which does not exist"),
    "image reaches out": (to_image(image_with_values_elsewhere), "image.h5: level_0: keeps its values in another file"),
    "image is empty": (to_image(lambda path: h5py.File(path, "w").close()), r"made for level_0 .* but .*image.h5 has none"),
    "image of another slide": (image_of_another_slide, r"of shape \(3, 9, 8, 3\), but .*image.h5 has \(3, 8, 8, 3\)"),
    "virtual keys": (lambda f, _: window(f, "image.h5", name="keys"), "keys: is virtual, which only images"),
    "soft loop": (soft_loop, "is a soft link"),
    "hard loop": (hard_loop, "a/b/up: is a group within itself"),
    "deep groups": (nested, "within 32 others"),
    "references": (lambda f, _: f.update({"r": np.array([f.ref], dtype=h5py.ref_dtype)}), "r: holds references"),
    "references in a compound": (lambda f, _: f.create_dataset("r", (2,), [("i", "i4"), ("r", h5py.ref_dtype)]), "r: holds references"),
    "type": (lambda f, _: f.update({"t": np.dtype("i4")}), "t: is neither a group nor a dataset"),
    "named type": (named_type, "keys: has a named type"),
    "terabytes without chunks": (lambda f, _: f.create_dataset("keys", (10**12,), "i8"), "keys: would grow to more than 200 times"),
    "terabytes in chunks": (lambda f, _: f.create_dataset("keys", (10**12,), "S8", chunks=(99,)), "keys: would grow"),
    "gigabytes in a text": (lambda f, _: f.create_dataset("keys", (3,), "S1000000000"), "keys: would grow"),
    "gigabytes in a chunk": (lambda f, _: f.create_dataset("images", (3, 2**30), "u1", chunks=(1, 2**30)), "images: has chunks of more"),
    "bomb": (bomb((64 * 16 * MIB,), (16 * MIB,)), "x: would grow to more than 200 times"),
    "bomb of ids": (bomb((64 * 2 * MIB,), (2 * MIB,), "S8", "keys"), "keys: would grow"),
    "chunk that overflows": (chunk_that_overflows, "images: has a chunk that is larger than the dataset declares"),
    "unknown filter": (filtered(32015), "images: is compressed by a filter that is not installed"),
    "twice compressed": (filtered(1, 1), "images: is compressed twice"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_at_once_in_one_line(tmp_path, kind):
    make, message = HOSTILE[kind]
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in" / NAME, "w", libver="v110") as file:
        make(file, tmp_path / "in")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError, match=message) as refusal:
        open_h5(tmp_path / "in" / NAME)
    assert "\n" not in str(refusal.value)
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "it is a pipe or a device, not a regular file"),
        (Path.mkdir, "it is a folder, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or a device, not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "it does not exist"),
        (lambda path: path.symlink_to(path.name), "it does not exist"),
        (lambda path: path.write_bytes(b""), "not a readable HDF5 file"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500)), "not a readable HDF5 file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, make, message):
    make(tmp_path / "x.h5")
    with pytest.raises(UserError, match=rf"x\.h5: file: {message}"):
        open_h5(tmp_path / "x.h5")


def test_our_own_windows_pass_beside_their_image_also_through_a_link(tmp_path):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in/image.h5", "w") as image:
        image["level_0"] = np.full(SHAPE, 7, np.uint8)
    with h5py.File(tmp_path / "in" / NAME, "w", libver="v110") as file:
        window(file, "image.h5", "level_0")
        file.attrs["source_shape"] = SHAPE
    (tmp_path / "link.h5").symlink_to(tmp_path / "in" / NAME)
    for path in (tmp_path / "in" / NAME, tmp_path / "link.h5"):
        with open_h5(path) as file:
            assert (file["images"][...] == 7).all()


def test_blocks_of_windows_may_point_into_the_image_and_nowhere_else(tmp_path):
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["level_0"] = np.full(SHAPE, 7, np.uint8)

    def write(name, source, dataset):
        with h5py.File(tmp_path / name, "w", libver="v110") as file:
            window(file, source, dataset, name="blocks/000000")
            window(file, ".", "/blocks/000000")
        return tmp_path / name

    with open_h5(write("good.h5", "image.h5", "level_0")) as file:
        assert (file["images"][...] == 7).all()
    with pytest.raises(UserError, match=r"other.h5, not into the image\.h5 beside it"):
        open_h5(write("outside.h5", "other.h5", "level_0"))
    with pytest.raises(UserError, match=r"blocks/000000: points into its own file"):
        open_h5(write("loop.h5", ".", "/blocks/000000"))


def test_texts_of_any_length_in_a_small_file_are_refused_by_blocks(tmp_path):
    path, rows = tmp_path / "x.h5", 3000
    with h5py.File(path, "w") as file:
        file.create_dataset("keys", data=["x" * (MIB // 16), *["a"] * (rows - 1)], dtype=h5py.string_dtype(), chunks=(rows,))
    with h5py.File(path) as file:
        offset = file["keys"].id.get_chunk_info(0).byte_offset
    # Every row now shows the first text, 200 MB in all.
    content = bytearray(path.read_bytes())
    content[offset : offset + 16 * rows] = content[offset : offset + 16] * rows
    path.write_bytes(content)
    with open_h5(path) as file, pytest.raises(ValueError, match="/keys has a text of 65536 characters"):
        read_texts(file["keys"])


def test_every_byte_of_a_file_may_be_wrong(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(SHAPE, np.uint8)
        file.create_dataset("keys", data=list("abc"), dtype=h5py.string_dtype())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    opened = 0
    for place in rng.integers(8, len(whole), 400):
        path.write_bytes(whole[:place] + bytes([int(rng.integers(256))]) + whole[place + 1 :])
        try:
            open_h5(path).close()
            opened += 1
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
    assert 0 < opened < 400


def test_real_files_pass():
    data = Path(os.environ.get("NUCLASS_TEST_DATA", ROOT.parent / "shared/data"))
    files = sorted(data.rglob("cell_feature_matrix.h5"))
    if not files:
        pytest.skip("no real bundles here")
    for path in files:
        with open_h5(path) as file:
            assert "matrix" in file
