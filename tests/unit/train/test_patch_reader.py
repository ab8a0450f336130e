"""Patches and features are read as they are stored, within the memory allowed."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.hdf5.patch_files import CHUNK_CACHE, open_source
from nuclass_pipeline.train.dataset import read_ids
from nuclass_pipeline.train.patch_reader import CacheBudget, FeatureReader, PatchReader, open_windows, resize, resize_batch
from tests.unit.train.toys import damage, write_images


@pytest.mark.parametrize("side_px", [24, 32, 50, 64, 96])
def test_a_batch_on_the_device_is_at_most_one_grey_level_apart(side_px: int) -> None:
    rng = np.random.default_rng(0)
    images = np.concatenate([rng.integers(0, 256, (6, 64, 64, 3)), np.full((1, 64, 64, 3), 255), np.zeros((1, 64, 64, 3))]).astype(np.uint8)
    found = resize_batch(torch.from_numpy(images).permute(0, 3, 1, 2), side_px)
    difference = found.permute(0, 2, 3, 1).numpy().astype(int) - resize(images, side_px)
    assert found.dtype == torch.uint8
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.2


def test_resize_is_an_area_mean_for_whole_factors_of_flat_blocks() -> None:
    blocks = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4) * 10, np.ones((8, 8), np.uint8))
    image = np.repeat(blocks[None, :, :, None], 3, axis=3)
    small = resize(image, 4)
    assert small.shape == (1, 4, 4, 3)
    assert np.abs(small[0, :, :, 0].astype(int) - blocks[4::8, 4::8]).max() <= 10
    assert resize(image, 32) is image


def test_checkerboards_do_not_alias() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = resize(np.repeat(board[None, :, :, None], 3, axis=3).astype(np.uint8), 16)
    assert np.abs(small[:, 1:-1, 1:-1].astype(int) - 127).max() <= 2


def test_features_are_read_as_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["feature"] = np.arange(12, dtype=np.float16).reshape(4, 3)
        file.create_dataset("cell_id", data=list("abcd"), dtype=h5py.string_dtype())
    assert read_ids(tmp_path / "f.h5").tolist() == list("abcd")
    windows = open_windows(tmp_path / "f.h5", np.array([3, 0]), 32, CacheBudget(0))
    assert windows.read(np.array([1, 0])).tolist() == [[0, 1, 2], [9, 10, 11]]


def test_memory_is_shared_and_bounded() -> None:
    memory = CacheBudget(100)
    assert [memory.take_rows(3, 20), memory.take_rows(9, 20), memory.take_rows(1, 1)] == [3, 2, 0]


def test_virtual_windows_are_read_through_their_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file.create_dataset("level_0", data=image, chunks=(16, 16, 3), compression="lzf")
    layout = h5py.VirtualLayout((3, 8, 8, 3), np.uint8)
    for row in range(3):
        layout[row] = h5py.VirtualSource("image.h5", "level_0", image.shape, np.uint8)[row * 9 : row * 9 + 8, 5:13]
    with h5py.File(tmp_path / "patches.h5", "w", libver="v110") as file:
        file.create_virtual_dataset("images", layout, fillvalue=255)
        file["keys"] = list("abc")
    with h5py.File(tmp_path / "patches.h5") as file:
        source = open_source(file["images"], tmp_path / "patches.h5")
        assert source is not None
        _, slots, size, _ = source.file.id.get_access_plist().get_cache()
        assert (slots, size) == (CHUNK_CACHE["rdcc_nslots"], CHUNK_CACHE["rdcc_nbytes"])
        source.file.close()
    windows = PatchReader(tmp_path / "patches.h5", np.arange(3), 8, CacheBudget(0))
    for _ in range(2):
        read = windows.read(np.array([2, 0])).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(read, np.stack([image[18:26, 5:13], image[:8, 5:13]]))
        windows.close()
    windows.close()
    (tmp_path / "image.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(UserError, match=r"image.h5: file: not a readable HDF5 file"):
        windows.read(np.array([0]))
    windows.close()
    (tmp_path / "image.h5").unlink()
    with pytest.raises(UserError, match=r"point into .*image.h5, which does not exist"):
        windows.read(np.array([0]))


def test_patches_damaged_in_the_middle_are_named(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, size=(3, 8, 8, 3), dtype=np.uint8)
    damage(write_images(tmp_path / "patches.h5", list("abc"), images), "images")
    remedy = r"file: not a readable HDF5 file \(.*\)\. Copy the file again"
    with pytest.raises(UserError, match=rf"patches\.h5: {remedy}"):
        PatchReader(tmp_path / "patches.h5", np.arange(3), 8, CacheBudget.of_gb(1))
    windows = PatchReader(tmp_path / "patches.h5", np.arange(3), 8, CacheBudget(0))
    np.testing.assert_array_equal(windows.read(np.array([2]))[0].permute(1, 2, 0), images[2])
    with pytest.raises(UserError, match=rf"patches\.h5: {remedy}"):
        windows.read(np.array([0]))


def test_windows_into_a_damaged_image_name_the_image(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["level_0"] = np.random.default_rng(0).integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
    damage(tmp_path / "image.h5", "level_0")
    layout = h5py.VirtualLayout((1, 8, 8, 3), np.uint8)
    layout[0] = h5py.VirtualSource("image.h5", "level_0", (64, 64, 3), np.uint8)[:8, :8]
    with h5py.File(tmp_path / "patches.h5", "w", libver="v110") as file:
        file.create_virtual_dataset("images", layout, fillvalue=255)
        file["keys"] = ["a"]
    with pytest.raises(UserError, match=r"image\.h5: file: not a readable HDF5 file"):
        PatchReader(tmp_path / "patches.h5", np.arange(1), 8, CacheBudget(0)).read(np.array([0]))


def test_images_of_another_kind_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "f.h5", ["a"], np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(UserError, match=r"f\.h5: images: is float32, not uint8"):
        PatchReader(tmp_path / "f.h5", np.arange(1), 8, CacheBudget(0))


def test_a_file_without_patches_and_features_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(UserError, match=r"f\.h5: file: not a readable HDF5 file"):
        PatchReader(tmp_path / "f.h5", np.arange(1), 8, CacheBudget(0))


def test_features_are_read_in_blocks_and_must_be_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclass_pipeline.train.patch_reader.BLOCK_ROWS", 3)
    values = np.arange(20, dtype=np.float16).reshape(10, 2)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["feature"] = values
    rows = np.array([9, 0, 4, 4, 2])
    reader = FeatureReader(tmp_path / "f.h5", rows)
    assert reader.read(np.array([4, 0, 1])).tolist() == values[[2, 9, 0]].tolist()
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file["feature"][4, 1] = np.nan
    with pytest.raises(UserError, match=r"f.h5: feature: a value is not finite. Remove the file and run again"):
        FeatureReader(tmp_path / "f.h5", rows)


def test_of_views_the_first_is_read_unless_all_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclass_pipeline.train.patch_reader.BLOCK_ROWS", 3)
    values = np.arange(80, dtype=np.float16).reshape(10, 4, 2)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["feature"] = values
    rows, few = np.array([9, 0, 4, 4, 2]), np.array([4, 0, 1])
    for all_views, expected in ((False, values[[2, 9, 0], 0]), (True, values[[2, 9, 0]])):
        found = FeatureReader(tmp_path / "f.h5", rows, all_views=all_views)
        np.testing.assert_array_equal(found.read(few), expected)
        opened = open_windows(tmp_path / "f.h5", rows, 0, CacheBudget(0), all_views=all_views)
        np.testing.assert_array_equal(opened.read(few), expected)
