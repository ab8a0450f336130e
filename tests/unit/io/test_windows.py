"""Windows are read from where their pixels lie, in any order and any process, without opening virtual datasets."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image import patches
from nuclass_pipeline.data.image.patches import write_patches
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader, cut_square
from nuclass_pipeline.units import ImagePixel

HEIGHT, WIDTH, SIDE = 700, 900, 64
CELLS = 50


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """An image with cells in it, at its edges and far outside."""
    folder = tmp_path_factory.mktemp("slide")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=image, chunks=(256, 256, 3), compression="lzf")
    xy_px = rng.uniform((-80, -80), (WIDTH + 80, HEIGHT + 80), (CELLS, 2))
    xy_px[:4] = [[0, 0], [WIDTH, HEIGHT], [-500, 10], [10.5, 11.5]]
    config = ImageConfig(local_um=SIDE * 0.25, fill=200)
    write_patches(folder / "patches.h5", folder / "image.h5", [f"c{i}" for i in range(CELLS)], ImagePixel(xy_px), SIDE, config)
    return folder, image, xy_px


def expected(image, xy_px):
    """Each window by padding the whole image, as a reader would write it down."""
    margin = 600
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=200)
    corners = [(round(y - SIDE / 2) + margin, round(x - SIDE / 2) + margin) for x, y in xy_px]
    return np.stack([padded[top : top + SIDE, left : left + SIDE] for top, left in corners])


def test_windows_are_those_of_the_padded_image_in_the_order_asked_for(slide):
    folder, image, xy_px = slide
    windows = WindowReader(folder / "patches.h5")
    assert (windows.cells, windows.side_px, windows.ids[7]) == (CELLS, SIDE, "c7")
    rows = np.random.default_rng(1).integers(0, CELLS, 200)
    np.testing.assert_array_equal(windows.read(rows), expected(image, xy_px)[rows])
    assert windows.read([]).shape == (0, SIDE, SIDE, 3)


@pytest.mark.parametrize("corners", [np.zeros((CELLS, 3), np.int32), np.zeros((CELLS, 2)), np.zeros(CELLS, np.int64)])
def test_corners_that_are_no_pairs_of_whole_numbers_are_refused(slide, tmp_path, corners):
    folder = slide[0]
    (tmp_path / "image.h5").symlink_to(folder / "image.h5")
    (tmp_path / "p.h5").write_bytes((folder / "patches.h5").read_bytes())
    with h5py.File(tmp_path / "p.h5", "a") as file:
        del file["origin_px"]
        file["origin_px"] = corners
    with pytest.raises(UserError, match=r"p.h5: origin_px: is \w+ of shape .*, not whole numbers \(N, 2\). Remove the file and run again."):
        WindowReader(tmp_path / "p.h5")


def test_the_side_of_windows_is_not_taken_from_a_linked_file(slide, tmp_path):
    (tmp_path / "image.h5").symlink_to(slide[0] / "image.h5")
    (tmp_path / "p.h5").write_bytes((slide[0] / "patches.h5").read_bytes())
    with h5py.File(tmp_path / "p.h5", "a") as file:
        del file.attrs["side_px"], file["images"]
        file["images"] = h5py.ExternalLink("other.h5", "images")
    with pytest.raises(UserError, match=r"p.h5: side_px: the attribute is missing. Remove the file and run again."):
        WindowReader(tmp_path / "p.h5")


@pytest.mark.parametrize("block_rows", [1, 7, 50, 4096])
def test_other_programs_read_the_same_pixels(slide, tmp_path, monkeypatch, block_rows):
    folder, image, xy_px = slide
    monkeypatch.setattr(patches, "VIRTUAL_ROWS", block_rows)
    (tmp_path / "image.h5").symlink_to(folder / "image.h5")
    config = ImageConfig(local_um=SIDE * 0.25, fill=200)
    write_patches(tmp_path / "p.h5", tmp_path / "image.h5", [f"c{i}" for i in range(CELLS)], ImagePixel(xy_px), SIDE, config)
    with h5py.File(tmp_path / "p.h5") as file:
        np.testing.assert_array_equal(file["images"][...], expected(image, xy_px))
        assert len(file["blocks"]) == -(-CELLS // block_rows)


def test_a_pickled_reader_reads_in_another_process(slide):
    folder, image, xy_px = slide
    windows = WindowReader(folder / "patches.h5")
    windows.read([0])
    # 16 bytes per cell, and nothing of the image.
    assert len(pickle.dumps(windows)) < 16 * CELLS + 1000
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(windows.read, [3, 1]).result(), expected(image, xy_px)[[3, 1]])
    np.testing.assert_array_equal(windows.read([3, 1]), expected(image, xy_px)[[3, 1]])


def test_virtual_windows_are_never_opened(slide, tmp_path):
    """Because each takes 25 kB of memory in every process: here they point into an image that is not there."""
    folder, image, xy_px = slide
    (tmp_path / "image.h5").symlink_to(folder / "image.h5")
    with h5py.File(folder / "patches.h5") as old, h5py.File(tmp_path / "p.h5", "w", libver="v110") as new:
        for name in ("keys", "origin_px", "padded"):
            old.copy(name, new)
        new.attrs.update(old.attrs)
        layout = h5py.VirtualLayout((CELLS, SIDE, SIDE, 3), np.uint8)
        layout[:] = h5py.VirtualSource("elsewhere.h5", "images", (CELLS, SIDE, SIDE, 3), np.uint8)
        new.create_virtual_dataset("images", layout)
    np.testing.assert_array_equal(WindowReader(tmp_path / "p.h5").read([9]), expected(image, xy_px)[[9]])


def test_an_image_that_was_replaced_is_read_anew(slide, tmp_path):
    folder, *_ = slide
    for value in (1, 2):
        with h5py.File(tmp_path / "new.h5", "w") as file:
            file["level_0"] = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
        (tmp_path / "new.h5").replace(tmp_path / "image.h5")
        (tmp_path / "patches.h5").write_bytes((folder / "patches.h5").read_bytes())
        assert set(np.unique(WindowReader(tmp_path / "patches.h5").read([20]))) <= {value, 200}


def test_cells_and_corners_that_differ_in_number_are_one_line(slide, tmp_path):
    folder, *_ = slide
    (tmp_path / "image.h5").symlink_to(folder / "image.h5")
    (tmp_path / "p.h5").write_bytes((folder / "patches.h5").read_bytes())
    with h5py.File(tmp_path / "p.h5", "a") as file:
        del file["origin_px"]
        file["origin_px"] = np.zeros((3, 2), np.int32)
    with pytest.raises(UserError, match=r"p\.h5: keys: names 50 cells, and 3 have a place"):
        WindowReader(tmp_path / "p.h5")


@given(st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 40))
def test_any_square_of_a_small_image(left, top, side):
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    padded = np.pad(image, ((80, 120), (80, 120), (0, 0)), constant_values=9)
    np.testing.assert_array_equal(cut_square(image, left, top, side, 9), padded[top + 80 : top + 80 + side, left + 80 : left + 80 + side])
