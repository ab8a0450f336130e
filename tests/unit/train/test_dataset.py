"""Every cell gets its own images, whatever the order, the storage and the memory."""

import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import digest_ids
from nuclass_pipeline.train.cell_task import observed_classes
from nuclass_pipeline.train.dataset import CellDataset, SlideFiles, read_ids
from nuclass_pipeline.train.features.cells import EMBEDDED_SUBSETS
from nuclass_pipeline.train.loaders import EpochShuffle, make_loader
from nuclass_pipeline.train.patch_reader import CacheBudget
from tests.unit.train.toys import CLASSES, write_slide

ORGANS = ("lung", "pancreas")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[SlideFiles]:
    folder = tmp_path_factory.mktemp("slides")
    made = [write_slide(folder / name, 60, seed) for seed, name in enumerate(("a", "b"))]
    return [SlideFiles(m["patches"], m["labels"], m["split"], organ, m["contexts"]) for m, organ in zip(made, ORGANS, strict=True)]


def open_dataset(slides: list[SlideFiles], memory_gb: float = 1, **changes: Any) -> CellDataset:
    options: dict[str, Any] = {"subsets": ["train"], "classes": CLASSES, "organs": ORGANS, "image_px": 32, "context_px": 64}
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


def test_only_labelled_cells_of_the_subset(slides: list[SlideFiles]) -> None:
    dataset = open_dataset(slides)
    assert set(dataset.cells["subset"]) == {"train"}
    assert "Unresolved" not in set(dataset.cells["label"])
    everything = open_dataset(slides, subsets=["train", "gate", "val"], labelled=False)
    assert len(everything) == 120
    assert (everything.labels == -1).sum() == (everything.cells["label"] == "Unresolved").sum() > 0
    assert dataset.counts(4).sum() == len(dataset)


def test_excluded_cells_are_in_no_subset_that_is_trained_or_predicted(tmp_path: Path) -> None:
    made = write_slide(tmp_path, 40, 0, subsets=("train", "excluded", "gate", "val", "heldout"))
    slide = SlideFiles(made["patches"], made["labels"], made["split"], "lung", made["contexts"])
    everything = open_dataset([slide], subsets=["train", *EMBEDDED_SUBSETS], labelled=False)
    assert len(everything) == 32
    assert "excluded" not in set(everything.cells["subset"])


def test_loader_processes_read_the_same(slides: list[SlideFiles]) -> None:
    dataset = open_dataset(slides, 0)
    plain, parallel = (list(make_loader(dataset, 16, workers)) for workers in (0, 2))
    for one, other in zip(plain, parallel, strict=True):
        assert torch.equal(one.image, other.image)
    assert sum(len(batch.label) for batch in plain) == len(dataset)
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)


@pytest.mark.parametrize("ids", ["of the split", "of another table"])
@pytest.mark.parametrize("labels_in", ["the same order", "another order", "another order, one missing"])
def test_rows_are_found_by_the_hash_of_the_ids_or_by_the_ids(tmp_path: Path, ids: str, labels_in: str) -> None:
    """Crops are then in the order of the split, and contexts are not."""
    made = write_slide(tmp_path, 40, 0)
    labels = pd.read_parquet(made["labels"])
    if "another" in labels_in:
        labels = labels.iloc[np.random.default_rng(1).permutation(40)[int("missing" in labels_in) :]]
        labels.to_parquet(made["labels"])
    with h5py.File(made["patches"], "a") as file:
        file.attrs["ids_sha256"] = digest_ids(pd.read_parquet(made["split"])["cell_id"]) if ids == "of the split" else "0"
    slide = SlideFiles(made["patches"], made["labels"], made["split"], "lung", made["contexts"])
    dataset = open_dataset([slide], subsets=["train", "gate", "val"], labelled=False)
    assert sorted(dataset.cells["cell_id"]) == sorted(labels["cell_id"])
    batch = dataset.__getitems__(list(range(len(dataset))))
    assert batch.context is not None
    truth = labels.set_index("cell_id")["label"]
    for place, cell in enumerate(dataset.cells["cell_id"]):
        assert dataset.cells["label"][place] == truth[cell]
        assert torch.equal(batch.image[place], by_id(slide.patches, cell))
        assert torch.equal(batch.context[place], by_id(slide.context, cell))


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
    for path in (slide.patches, slide.context):
        assert f"{path}: 1 of {len(dataset) + 1} cells are missing and left out" in caplog.text


def test_absent_classes_are_named(slides: list[SlideFiles], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert observed_classes(slides, "train", ["B_Cell", *CLASSES]) == list(CLASSES)
    assert "B_Cell" in caplog.text


def test_mistakes_are_reported_in_one_line(slides: list[SlideFiles], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable cell in subset buffer"):
        open_dataset(slides, subsets=["buffer"])
    with pytest.raises(UserError, match="'lung' is not an organ of the model"):
        open_dataset(slides, organs=["heart"])
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        read_ids(tmp_path / "x.h5")


def test_a_file_that_is_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros((2, 4, 4, 3), np.uint8)
        file.create_dataset("keys", data=["a" * 200, "b" * 200], dtype=h5py.string_dtype())
    content = (tmp_path / "x.h5").read_bytes()
    # The heap of the texts, because the file can still be opened without it.
    middle = content.index(b"GCOL")
    (tmp_path / "x.h5").write_bytes(content[:middle] + b"\xff" * 4 + content[middle + 4 :])
    with pytest.raises(UserError, match=r"x.h5: file: not a readable HDF5 file"):
        read_ids(tmp_path / "x.h5")


def test_the_fingerprint_follows_the_data(slides: list[SlideFiles]) -> None:
    whole = open_dataset(slides).fingerprint()
    assert open_dataset(slides, 0).fingerprint() == whole
    assert open_dataset(slides[:1]).fingerprint() != whole
    # The position of an organ among those of the models is what a training sees of it.
    other = [replace(slides[0], organ=slides[1].organ), *slides[1:]]
    assert (open_dataset(other).fingerprint() != whole) == (slides[0].organ != slides[1].organ)
    os.utime(slides[0].patches, ns=(0, 0))
    assert open_dataset(slides).fingerprint() != whole


def test_shuffles_depend_on_seed_and_epoch() -> None:
    sampler = EpochShuffle(50, 3, 16)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
