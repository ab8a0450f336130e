"""Windows cut from cached blocks are those cut from the image, whatever fits in the cache."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from nuclass_pipeline.io import BlockCache, cut_square
from nuclass_pipeline.io.hdf5.blocks import BLOCK_BYTES

HEIGHT, WIDTH = 700, 530


@pytest.fixture
def level(tmp_path: Path) -> h5py.Dataset:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file.create_dataset("level_0", data=image, chunks=(256, 256, 3), compression="lzf")
    return h5py.File(tmp_path / "image.h5", rdcc_nbytes=0)["level_0"]


def cut(blocks: BlockCache, image: str, level: object, left: int, top: int, side: int, fill: int) -> np.ndarray:
    window = np.full((side, side, 3), 77, np.uint8)
    blocks.cut(image, level, left, top, window, fill)  # type: ignore[arg-type]
    return window


@pytest.mark.parametrize("slots", [1, 3, 100])
def test_windows_are_those_of_the_image(level: h5py.Dataset, slots: int) -> None:
    blocks, rng = BlockCache(slots * BLOCK_BYTES), np.random.default_rng(1)
    for side in (1, 40, 256, 600):
        for left, top in rng.integers(-650, 750, (40, 2)):
            expected = cut_square(level, int(left), int(top), side, 9)
            np.testing.assert_array_equal(cut(blocks, "image", level, int(left), int(top), side, 9), expected)


class Counted:
    """An image that counts what is decoded."""

    def __init__(self, level: h5py.Dataset) -> None:
        self.level, self.shape, self.reads = level, level.shape, 0

    def read_direct(self, *arguments: object) -> None:
        self.reads += 1
        self.level.read_direct(*arguments)


def test_a_block_is_decoded_once_until_others_need_its_place(level: h5py.Dataset) -> None:
    image, blocks = Counted(level), BlockCache(2 * BLOCK_BYTES)
    for _ in range(3):
        cut(blocks, "a", image, 10, 10, 20, 0)
    assert image.reads == 1
    cut(blocks, "a", image, 250, 10, 20, 0)
    assert image.reads == 2
    cut(blocks, "b", image, 10, 10, 20, 0)
    assert image.reads == 3
    # The last used of the two before stays.
    cut(blocks, "a", image, 300, 10, 20, 0)
    assert image.reads == 3
    assert pickle.loads(pickle.dumps(blocks))._memory is None


def test_cleared_blocks_are_read_again(level: h5py.Dataset) -> None:
    blocks, window = BlockCache(), np.empty((8, 8, 3), np.uint8)
    blocks.cut("image", level, 0, 0, window, 0)
    assert len(blocks._found) == 1
    blocks.clear()
    assert (len(blocks._found), blocks._memory) == (0, None)
    blocks.cut("image", level, 0, 0, window, 0)
    np.testing.assert_array_equal(window, level[:8, :8])


def test_a_failed_reading_leaves_no_wrong_pixels(level: h5py.Dataset) -> None:
    blocks, expected = BlockCache(2 * BLOCK_BYTES), cut_square(level, 0, 0, 300, 0)
    cut(blocks, "image", level, 0, 0, 300, 0)

    class Broken(Counted):
        def read_direct(self, *arguments: object) -> None:
            raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        cut(blocks, "other", Broken(level), 0, 0, 20, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(cut(blocks, "image", level, 0, 0, 300, 0), expected)
