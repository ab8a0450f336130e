"""The order of an epoch is complete, repeatable and mixed; loader processes share the cells."""

import multiprocessing
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset

from nuclass_pipeline.train.dataset import RUN_CELLS, CellDataset, SlideFiles
from nuclass_pipeline.train.loaders import RUNS_PER_CELL, EpochShuffle, RunShuffle, make_loader
from nuclass_pipeline.train.patch_reader import CacheBudget
from tests.unit.train.toys import CLASSES, write_slide

BATCH, CELLS, KINDS = 64, 2**17, 6


def tissue(cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cells in tile order: class, a feature that carries it, and the class of the patch of tissue (40 cells) around each."""
    rng = np.random.default_rng(0)
    patch = np.repeat(rng.integers(KINDS, size=-(-cells // 40)), 40)[:cells]
    label = np.where(rng.random(cells) < 0.55, patch, rng.integers(KINDS, size=cells))
    return label, rng.normal(size=(cells, 3)) + np.eye(KINDS, 3)[label], patch


def in_runs(cells: int) -> list[np.ndarray]:
    return np.split(np.arange(cells), range(RUN_CELLS, cells, RUN_CELLS))


def spread(values: np.ndarray, order: np.ndarray) -> float:
    """Return the variance of the batch means of values (N, D) in an order, summed over D."""
    return float(values[order].reshape(-1, BATCH, values.shape[1]).mean(1).var(0).sum())


def test_batches_of_runs_are_nearly_as_mixed_as_uniform_ones() -> None:
    label, feature, _ = tissue(CELLS)
    one_hot = np.eye(KINDS)[label]
    # Of a linear classifier with weights 0: the residual of each class times the features.
    gradient = ((1 / KINDS - one_hot)[:, :, None] * feature[:, None]).reshape(CELLS, -1)
    runs = RunShuffle(in_runs(CELLS), 0, RUNS_PER_CELL * BATCH, BATCH).permutation()
    uniform = EpochShuffle(CELLS, 0, BATCH).permutation()
    for values, clustered in ((one_hot, 4), (gradient, 2)):
        assert 0.9 < spread(values, runs) / spread(values, uniform) < 1.2
        # In tile order the same values would not be mixed, and in runs without the shuffle of a bucket hardly better.
        assert spread(values, np.arange(CELLS)) > clustered * spread(values, uniform)
        shuffled_runs = np.random.default_rng(0).permutation(np.arange(CELLS).reshape(-1, RUN_CELLS)).ravel()
        assert spread(values, shuffled_runs) > clustered * spread(values, uniform)


def test_every_epoch_has_each_cell_once_in_an_order_of_its_own() -> None:
    sampler = RunShuffle(in_runs(1000), 7, bucket=5, batch_size=BATCH)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert len(sampler) == 1000
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1000))
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != list(RunShuffle(in_runs(1000), 8, bucket=5, batch_size=BATCH))


@pytest.mark.parametrize("sampler", [EpochShuffle(1000, 7, BATCH), RunShuffle(in_runs(1000), 7, bucket=5, batch_size=BATCH)])
def test_a_resumed_pass_leaves_out_what_is_done_and_the_next_is_whole(sampler: EpochShuffle) -> None:
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.set_epoch(4)
    after = list(sampler)
    sampler.start(3, 640)
    assert list(sampler) == whole[640:]
    assert len(sampler) == 1000
    sampler.set_epoch(4)
    assert list(sampler) == after


def test_a_bucket_holds_whole_runs() -> None:
    order = RunShuffle(in_runs(64 * RUN_CELLS), 3, bucket=8, batch_size=BATCH).permutation()
    buckets = (order // RUN_CELLS).reshape(8, -1)
    assert [len(np.unique(bucket)) for bucket in buckets] == [8] * 8
    assert (np.diff(order.reshape(8, -1)[0]) != 1).mean() > 0.9


def write_cut_slide(folder: Path) -> SlideFiles:
    """Write a toy slide whose windows of 8 px are cut from an image of 512 × 512 px, at random places."""
    files = write_slide(folder, 200, 0)
    rng = np.random.default_rng(1)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=rng.integers(0, 255, (512, 512, 3), np.uint8), chunks=(256, 256, 3), compression="lzf")
    ids = pd.read_parquet(files["split"])["cell_id"].tolist()
    with h5py.File(files["patches"], "w") as file:
        file["origin_px"] = rng.integers(0, 504, (200, 2)).astype(np.int32)
        file.create_dataset("keys", data=ids, dtype=h5py.string_dtype())
        file.attrs.update(side_px=8, fill=255, mpp=0.25)
    return SlideFiles(files["patches"], files["labels"], files["split"], "lung")


@pytest.mark.parametrize("cached", [0.0, 1.0])
def test_runs_are_for_large_images_alone_whatever_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: float) -> None:
    slides = [write_cut_slide(tmp_path / name) for name in "ab"]
    options = {"subsets": ["train"], "classes": CLASSES, "organs": ["lung"], "image_px": 8}
    dataset = CellDataset(slides, memory=CacheBudget.of_gb(cached), **options)
    assert dataset.patch_bytes == len(dataset) * 3 * 8**2
    assert dataset.runs() is None
    monkeypatch.setattr("nuclass_pipeline.train.dataset.WHOLE_SHUFFLE_BYTES", dataset.patch_bytes - 1)
    runs = dataset.runs()
    assert runs is not None
    assert sorted(np.concatenate(runs)) == list(range(len(dataset)))
    slide = dataset.cells["slide"].to_numpy()
    assert all(len(set(slide[run])) == 1 and len(run) <= RUN_CELLS for run in runs)
    with h5py.File(slides[0].patches) as file:
        block = file["origin_px"][:][dataset.cells["row"]] // 256
    first = np.concatenate([run for run in runs if slide[run[0]] == 0])
    tiles = (2 * block[first, 1] + block[first, 0]).tolist()
    assert tiles == sorted(tiles)
    copied = CellDataset([SlideFiles(**write_slide_of_pixels(tmp_path))], memory=CacheBudget(0), **options)
    monkeypatch.setattr("nuclass_pipeline.train.dataset.WHOLE_SHUFFLE_BYTES", 0)
    assert copied.runs() is None


def write_slide_of_pixels(folder: Path) -> dict[str, object]:
    files = write_slide(folder / "pixels", 40, 0)
    return {"patches": files["patches"], "labels": files["labels"], "split": files["split"], "organ": "lung"}


def test_memory_for_blocks_is_reserved_only_if_patches_do_not_fit() -> None:
    fits, exceeds = CacheBudget.of_gb(8, processes=2), CacheBudget.of_gb(8, processes=4)
    fits.take_blocks(8 * 10**9)
    exceeds.take_blocks(8 * 10**9 + 1)
    assert (fits.free, exceeds.free) == (8e9, 4e9)
    assert exceeds.blocks.slots == 10**9 // (3 * 256**2)


class Shared(Dataset[torch.Tensor]):
    """Twelve numbers that no process may get a copy of."""

    def __init__(self) -> None:
        self.values = torch.arange(12)

    def __len__(self) -> int:
        return len(self.values)

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        return self.values[indices]

    def __getstate__(self) -> dict[str, torch.Tensor]:
        raise AssertionError("the data set was copied into a loader process")


@pytest.fixture
def spawning():
    """A Python whose processes start with copies, as from 3.14 on."""
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(usual, force=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_decoded_patches_are_not_copied_into_loader_processes(spawning, workers):
    batches = list(make_loader(Shared(), 4, workers))
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
