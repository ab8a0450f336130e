"""Batches on the device, and what all slides of a training have in common."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
import torch
from torch import nn

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train.augment import AugmentRanges
from nuclass_pipeline.train.cell_task import CellTask, as_float, feature_dim, pixel_size
from nuclass_pipeline.train.dataset import CellBatch
from tests.unit.train.toys import BREAKS, break_file, local_optim, write_features, write_images


def make_task(*, training: bool, augmented: bool = True) -> CellTask:
    task = CellTask(nn.Identity(), classes=2, optim=local_optim(), seed=0)
    task.augmented, task.ranges = augmented, AugmentRanges()
    task.generator = torch.Generator().manual_seed(0)
    # In place of Lightning's trainer, which only says here whether a batch is one of the training.
    task._trainer = SimpleNamespace(training=training)  # type: ignore[assignment]
    return task


def make_batch(context: torch.Tensor | None) -> CellBatch:
    image = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return CellBatch(image, context, *(torch.zeros(3, dtype=torch.long) for _ in range(3)))


WINDOWS = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


@pytest.mark.parametrize(("training", "augmented"), [(False, True), (False, False), (True, False)])
def test_a_validation_is_never_augmented(training: bool, augmented: bool) -> None:
    batch = make_batch(WINDOWS)
    task = make_task(training=training, augmented=augmented)
    state = task.generator.get_state()
    prepared = task.on_after_batch_transfer(batch, 0)
    assert torch.equal(prepared.image, batch.image.float() / 255)
    assert prepared.context is not None
    assert torch.equal(prepared.context, WINDOWS.float() / 255)
    assert torch.equal(task.generator.get_state(), state)


def test_training_augments_crop_and_context_but_no_features() -> None:
    batch = make_batch(WINDOWS)
    prepared = make_task(training=True).on_after_batch_transfer(batch, 0)
    assert prepared.context is not None
    assert not torch.allclose(prepared.image, as_float(batch.image), atol=0.05)
    assert not torch.allclose(prepared.context, as_float(WINDOWS), atol=0.05)
    features = torch.randn(3, 5)
    with_features = make_task(training=True).on_after_batch_transfer(make_batch(features), 0)
    assert torch.equal(with_features.image, prepared.image)
    assert with_features.context is features


def test_crop_and_context_share_their_parameters() -> None:
    batch = make_batch(None)._replace(context=make_batch(None).image)
    prepared = make_task(training=True).on_after_batch_transfer(batch, 0)
    assert prepared.context is not None
    assert torch.equal(prepared.image, prepared.context)


def test_the_pixel_size_is_one_and_known(tmp_path: Path) -> None:
    images = make_batch(None).image.permute(0, 2, 3, 1).numpy()
    files = [write_images(tmp_path / f"{number}.h5", list("abc"), images) for number in range(2)]
    assert pixel_size(files) == 0.25
    with h5py.File(files[1], "a") as file:
        file.attrs["mpp"] = 0.5
    with pytest.raises(UserError, match=r"patches differ in pixel size: 0.25 in .*0.h5, 0.5 in .*1.h5"):
        pixel_size(files)
    with h5py.File(files[1], "a") as file:
        del file.attrs["mpp"]
    with pytest.raises(UserError, match=r"1.h5: mpp: the attribute is missing"):
        pixel_size(files)


def test_all_features_are_of_one_size(tmp_path: Path) -> None:
    files = [write_features(tmp_path / f"{number}.h5", 4) for number in range(2)]
    assert feature_dim(files) == 64
    with h5py.File(files[1], "a") as file:
        del file["feature"]
        file["feature"] = torch.zeros(4, 32).numpy()
    with pytest.raises(UserError, match=r"features differ in size: 64 in .*0.h5, 32 in .*1.h5"):
        feature_dim(files)


@pytest.mark.parametrize("how", BREAKS)
def test_broken_files_are_named(tmp_path: Path, how: str) -> None:
    path = write_features(tmp_path / "features.h5", 4)
    break_file(path, how)
    for read in (pixel_size, feature_dim):
        with pytest.raises(UserError, match=r"features.h5: file: not a readable HDF5 file"):
            read([path])
