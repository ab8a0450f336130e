"""Cells find their images, whatever the order, the storage and the memory."""

import logging
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train.cell_task import observed_classes
from nuclass_pipeline.train.dataset import CacheBudget, CellDataset, PatchReader, SlideFiles, read_ids, resize
from nuclass_pipeline.train.loaders import EpochShuffle, make_loader
from tests.unit.train.toys import CLASSES, write_slide

ORGANS = ("lung", "pancreas")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[SlideFiles]:
    folder = tmp_path_factory.mktemp("slides")
    made = [write_slide(folder / name, 60, seed) for seed, name in enumerate(("a", "b"))]
    return [SlideFiles(m["patches"], m["labels"], m["split"], organ, m["contexts"]) for m, organ in zip(made, ORGANS, strict=True)]


def open_dataset(slides: list[SlideFiles], memory_gb: float = 1, **changes: Any) -> CellDataset:
    options: dict[str, Any] = {"parts": ["train"], "classes": CLASSES, "organs": ORGANS, "image_px": 32, "context_px": 64}
    return CellDataset(slides, memory=CacheBudget.of_gb(memory_gb), **{**options, **changes})


def by_id(path: Path, cell: str) -> torch.Tensor:
    with h5py.File(path) as file:
        return torch.from_numpy(file["images"][list(file["keys"].asstr()).index(cell)]).permute(2, 0, 1)


@pytest.mark.parametrize("memory_gb", [1, 200_000 / 1e9, 0])
def test_every_cell_gets_its_own_images(slides: list[SlideFiles], memory_gb: float) -> None:
    dataset = open_dataset(slides, memory_gb)
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    batch = dataset.__getitems__(order)
    assert batch.context is not None
    for place, index in enumerate(order):
        row = dataset.cells.iloc[index]
        slide = slides[row["slide"]]
        assert torch.equal(batch.image[place], by_id(slide.patches, row["cell_id"]))
        assert slide.context is not None
        assert torch.equal(batch.context[place], by_id(slide.context, row["cell_id"]))
        assert CLASSES[int(batch.label[place])] == row["label"]
        assert ORGANS[int(batch.organ[place])] == slide.organ


def test_only_labelled_cells_of_the_part(slides: list[SlideFiles]) -> None:
    dataset = open_dataset(slides)
    assert set(dataset.cells["part"]) == {"train"}
    assert "Unresolved" not in set(dataset.cells["label"])
    everything = open_dataset(slides, parts=["train", "gate", "val"], labelled=False)
    assert len(everything) == 120
    assert (everything.labels == -1).sum() == (everything.cells["label"] == "Unresolved").sum() > 0
    assert dataset.counts(4).sum() == len(dataset)


def test_loader_processes_read_the_same(slides: list[SlideFiles]) -> None:
    dataset = open_dataset(slides, 0)
    plain, parallel = (list(make_loader(dataset, 16, workers)) for workers in (0, 2))
    for one, other in zip(plain, parallel, strict=True):
        assert torch.equal(one.image, other.image)
    assert sum(len(batch.label) for batch in plain) == len(dataset)
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)


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
    windows = PatchReader(tmp_path / "f.h5", np.array([3, 0]), 32, CacheBudget(0))
    assert windows.read(np.array([1, 0])).tolist() == [[0, 1, 2], [9, 10, 11]]


def test_memory_is_shared_and_bounded() -> None:
    memory = CacheBudget(100)
    assert [memory.take_rows(3, 20), memory.take_rows(9, 20), memory.take_rows(1, 1)] == [3, 2, 0]


def test_cells_without_patches_are_counted(slides: list[SlideFiles], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = pd.read_parquet(slides[0].split)
    extra = pd.concat([split, split.head(1).assign(cell_id="ghost")])
    labels = pd.read_parquet(slides[0].labels)
    for frame, name in ((extra, "split"), (pd.concat([labels, labels.head(1).assign(cell_id="ghost")]), "labels")):
        frame.to_parquet(tmp_path / f"{name}.parquet")
    slide = SlideFiles(slides[0].patches, tmp_path / "labels.parquet", tmp_path / "split.parquet", "lung", slides[0].context)
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset([slide])
    assert "ghost" not in set(dataset.cells["cell_id"])
    assert "1 of" in caplog.text


def test_absent_classes_are_named(slides: list[SlideFiles], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert observed_classes(slides, "train", ["B_Cell", *CLASSES]) == list(CLASSES)
    assert "B_Cell" in caplog.text


def test_mistakes_are_told_in_one_line(slides: list[SlideFiles], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cell to use in guard"):
        open_dataset(slides, parts=["guard"])
    with pytest.raises(UserError, match="'lung' is unknown to the model"):
        open_dataset(slides, organs=["heart"])
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        read_ids(tmp_path / "x.h5")


def test_the_fingerprint_follows_the_data(slides: list[SlideFiles]) -> None:
    whole = open_dataset(slides).fingerprint()
    assert open_dataset(slides, 0).fingerprint() == whole
    assert open_dataset(slides[:1]).fingerprint() != whole


def test_shuffles_depend_on_seed_and_epoch() -> None:
    sampler = EpochShuffle(50, 3)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_virtual_windows_are_read_through_their_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file.create_dataset("level_0", data=image, chunks=(16, 16, 3), compression="lzf")
    layout = h5py.VirtualLayout((3, 8, 8, 3), np.uint8)
    for row in range(3):
        layout[row] = h5py.VirtualSource("image.h5", "level_0", image.shape, np.uint8)[row * 9 : row * 9 + 8, 5:13]
    with h5py.File(tmp_path / "patches.h5", "w", libver="v110") as file:
        file.create_virtual_dataset("images", layout, fillvalue=255)
    windows = PatchReader(tmp_path / "patches.h5", np.arange(3), 8, CacheBudget(0))
    for _ in range(2):
        read = windows.read(np.array([2, 0])).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(read, np.stack([image[18:26, 5:13], image[:8, 5:13]]))
        windows.close()
    (tmp_path / "image.h5").unlink()
    with pytest.raises(UserError, match=r"point into .*image.h5, which does not exist"):
        windows.read(np.array([0]))
