"""Batches on the device, and what all slides of a training have in common."""

import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.layers import Standardization
from nuclass_pipeline.train.augment import AugmentRanges
from nuclass_pipeline.train.cell_task import (
    CellTask,
    as_float,
    check_windows,
    frozen_features,
    observed_classes,
    pixel_size,
    slide_files,
    window_field,
)
from nuclass_pipeline.train.dataset import CellBatch
from nuclass_pipeline.train.features import standardization
from nuclass_pipeline.train.features.standardization import set_standardization
from tests.unit.train.toys import (
    BREAKS,
    CLASSES,
    FEATURES,
    FROZEN,
    break_file,
    local_optim,
    make_global,
    write_features,
    write_images,
    write_slide,
)


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


def test_organ_dropout_hides_organs_in_training_alone() -> None:
    batch = make_batch(None)._replace(image=torch.zeros(20_000, 1), organ=torch.arange(20_000) % 3)
    for training, share in ((True, 0.3), (False, 0.3), (True, 0.0)):
        task = make_task(training=training, augmented=False)
        task.organ_dropout = share
        organ = task.on_after_batch_transfer(batch, 0).organ
        hidden = organ == -1
        assert float(hidden.float().mean()) == pytest.approx(share if training else 0, abs=0.01)
        assert torch.equal(organ[~hidden], batch.organ[~hidden])


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


def test_the_smallest_pixel_size_is_recorded_and_others_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = make_batch(None).image.permute(0, 2, 3, 1).numpy()
    files = [write_images(tmp_path / f"{number}.h5", list("abc"), images) for number in range(2)]
    assert pixel_size(files) == 0.25
    with h5py.File(files[1], "a") as file:
        file.attrs["mpp"] = 0.5
    assert not caplog.records
    assert pixel_size(files[::-1]) == 0.25
    assert re.search(r"differ in pixel size, and so in detail, µm: 0.5 in .*1.h5, 0.25 in .*0.h5", caplog.text)
    with h5py.File(files[1], "a") as file:
        del file.attrs["mpp"]
    with pytest.raises(UserError, match=r"1.h5: mpp: the attribute is missing"):
        pixel_size(files)


def test_the_windows_have_one_side(tmp_path: Path) -> None:
    images = make_batch(None).image.permute(0, 2, 3, 1).numpy()
    files = [write_images(tmp_path / "windows.h5", list("abc"), images), write_features(tmp_path / "features.h5", 3)]
    assert [window_field([path], "context_um") for path in files] == [images.shape[1] * 0.25, 16]
    if images.shape[1] * 0.25 != 16:
        with pytest.raises(UserError, match=r"windows.h5: context_um: windows differ in side: .* in .*windows.h5, 16.0 in .*features.h5"):
            window_field(files, "context_um")


def test_one_view_of_each_cell_is_drawn_for_crop_and_context() -> None:
    cells, views = 6000, 4
    numbered = (10 * torch.arange(cells)[:, None] + torch.arange(views))[..., None].expand(-1, -1, 3).float()
    batch = CellBatch(numbered, -numbered, *(torch.zeros(cells, dtype=torch.long) for _ in range(3)))
    drawn = [make_task(training=True).on_after_batch_transfer(batch, 0) for _ in range(2)]
    image, context = drawn[0].image, drawn[0].context
    assert context is not None
    assert torch.equal(image, -context)
    assert torch.equal(image, drawn[1].image)
    assert torch.equal(image, image[:, :1].expand(-1, 3))
    found = image[:, 0].long() - 10 * torch.arange(cells)
    np.testing.assert_allclose(torch.bincount(found).numpy() / cells, [0.25] * views, atol=0.02)
    task = make_task(training=True)
    first, second = (task.on_after_batch_transfer(batch, 0).image for _ in range(2))
    assert float((first != second).any(dim=1).float().mean()) == pytest.approx(0.75, abs=0.02)
    # Of a crop with views beside a context without, the crop alone is drawn.
    mixed = make_task(training=True).on_after_batch_transfer(batch._replace(context=-numbered[:, 0]), 0)
    assert torch.equal(mixed.image, image)
    assert mixed.context is not None
    assert torch.equal(mixed.context, -numbered[:, 0])


def test_without_views_nothing_is_drawn() -> None:
    task = make_task(training=True, augmented=False)
    state, features = task.generator.get_state(), torch.randn(3, 5)
    prepared = task.on_after_batch_transfer(make_batch(features)._replace(image=features), 0)
    assert prepared.image is prepared.context is features
    assert torch.equal(task.generator.get_state(), state)


OTHERS = {
    "encoder": ("tiny-resnet", "is tiny-resnet in the file, and tiny-vit in the run file or .*0.h5. Remove the file and run again"),
    "field_um": (32.0, "is 32.0 in the file, and 16.0 in .*. Set image.context_um to 16, or train the models again"),
    "image_px": (64, "is 64 in the file, and 32 in .*. Remove the file"),
    "layers": ("[1, 2]", r"is \[1, 2\] in the file, and .*. Remove the file"),
    "pool": ("mean", "is mean in the file, and cls in .*. Remove the file"),
    "weights_sha256": ("0f" * 32, "is (0f){32} in the file, and none in .*. Remove the file"),
    "views": (4, r"is 4 in the file, and 1 in .*. Remove the file"),
    "mpp": (0.5, r"is 0.5 µm in the file, and 0.25 µm in .* another magnification. Use one pixel size for all slides"),
    "key": ("00000000", f"is 00000000 in the file, and {FROZEN.key} in .*. Remove the file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_features_of_another_encoder_or_other_windows_are_refused(tmp_path: Path, name: str) -> None:
    files = [write_features(tmp_path / f"{number}.h5", 4) for number in range(2)]
    found = frozen_features(files, FROZEN, "context_um")
    assert found == FEATURES
    value, message = OTHERS[name]
    with h5py.File(files[1], "a") as file:
        file.attrs[name] = value
        if name == "views":
            values = file["feature"][:]
            del file["feature"]
            file["feature"] = np.stack([values] * value, axis=1)
    with pytest.raises(UserError, match=f"1.h5: {name}: {message}"):
        frozen_features(files, FROZEN, "context_um")
    with pytest.raises(UserError, match=f"1.h5: {name}: .* in the checkpoint"):
        check_windows(files[1], make_global()[1], "context_um", FEATURES)
    with h5py.File(files[1], "a") as file:
        del file.attrs[name]
    # Files of earlier versions have no views.
    with pytest.raises(UserError, match=f"1.h5: {'feature' if name == 'views' else name}: "):
        frozen_features(files, FROZEN, "context_um")


@pytest.mark.parametrize("mpp", [0.2125, 0.2738])
def test_features_of_another_pixel_size_of_one_magnification_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mpp: float
) -> None:
    files = [write_features(tmp_path / f"{number}.h5", 4) for number in range(2)]
    with h5py.File(files[1], "a") as file:
        file.attrs["mpp"] = mpp
    assert frozen_features(files, FROZEN, "context_um") == FEATURES
    check_windows(files[1], make_global()[1], "context_um", FEATURES)
    assert caplog.text.count(f"1.h5: its pixel size is {mpp} µm, and that of the models 0.25") == 2
    with pytest.raises(UserError, match=r"mpp: is 0.125 µm in the file, and 0.25 µm in the checkpoint"):
        FEATURES.check(write_features(tmp_path / "fine.h5", 4, mpp=0.125), "context_um", "the checkpoint")


@pytest.mark.parametrize(("views", "shape"), [(1, (4, 8, 64)), (8, (4, 64)), (8, (4, 4, 64)), (1, (4,))])
def test_features_with_other_views_than_they_say_are_refused(tmp_path: Path, views: int, shape: tuple[int, ...]) -> None:
    path = write_features(tmp_path / "f.h5", 4, views=views)
    with h5py.File(path, "a") as file:
        del file["feature"]
        file["feature"] = np.zeros(shape, np.float16)
    message = rf"f.h5: feature: its shape is {re.escape(str(list(shape)))}, and the attribute views is {views}. Remove the file"
    with pytest.raises(UserError, match=message):
        frozen_features([path], FROZEN, "context_um")


def test_windows_of_another_side_are_refused_and_those_of_another_pixel_size_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_images(tmp_path / "w.h5", ["a"], np.zeros((1, 24, 24, 3), np.uint8))
    with pytest.raises(UserError, match=r"w.h5: local_um: is 6 µm, .* trained on 8 µm. Set image.local_um to 8,"):
        check_windows(path, make_global()[1], "local_um")
    coarse = write_images(tmp_path / "coarse.h5", ["a"], np.zeros((1, 16, 16, 3), np.uint8))
    with h5py.File(coarse, "a") as file:
        file.attrs["mpp"] = 0.5
    check_windows(coarse, make_global()[1], "local_um")
    assert "coarse.h5: its pixel size is 0.5 µm, and that of the models 0.25: it differs in detail" in caplog.text
    right = write_images(tmp_path / "right.h5", ["a"], np.zeros((1, 32, 32, 3), np.uint8))
    check_windows(right, make_global()[1], "local_um")
    with pytest.raises(UserError, match=r"features\.h5: images: the dataset is missing, and the encoder is part of the model"):
        check_windows(write_features(tmp_path / "features.h5", 4), make_global()[1], "local_um")


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    slide = write_slide(tmp_path, 24, 1)
    files = slide_files([slide["patches"]], [slide["labels"]], [slide["split"]], ["lung"])
    assert observed_classes(files, "train", CLASSES[2:]) == list(CLASSES[2:])
    with pytest.raises(UserError, match=r"labels.parquet: label: all labelled cells in subset train are T_Cell, and a classifier needs"):
        observed_classes(files, "train", CLASSES[3:])


def test_a_feature_that_hardly_varied_stays_bounded() -> None:
    layer = Standardization(2)
    layer.set(torch.tensor([0.0, 1.0]), torch.tensor([1e-4, 0.5]))
    assert layer(torch.tensor([[1.0, 2.0], [-1.0, 0.0]])).tolist() == [[10.0, 2.0], [-10.0, -2.0]]


class Cells:
    """Training cells with these context features (N, D)."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitems__(self, rows: range) -> CellBatch:
        return make_batch(torch.from_numpy(self.values[rows.start : rows.stop]))


def test_features_are_standardized_over_all_training_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardization, "MOMENT_ROWS", 64)
    values = np.random.default_rng(0).normal([5, -300, 0.1], [2, 0.5, 1e-3], (150, 3)).astype(np.float32)
    values[:, 2] = 0.1
    layer = Standardization(3)
    set_standardization(layer, Cells(values), "context")  # type: ignore[arg-type]
    found = layer(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(found[:, 0], (values[:, 0] - values[:, 0].mean()) / values[:, 0].std(), atol=1e-4)
    set_standardization(nn.Identity(), Cells(values), "context")  # type: ignore[arg-type]
    views = Standardization(3)
    set_standardization(views, Cells(values.reshape(50, 3, 3)), "context")  # type: ignore[arg-type]
    torch.testing.assert_close(views.mean, layer.mean)
    torch.testing.assert_close(views.scale, layer.scale)


@pytest.mark.parametrize("how", BREAKS)
def test_broken_files_are_named(tmp_path: Path, how: str) -> None:
    path = write_features(tmp_path / "features.h5", 4)
    break_file(path, how)
    for read in (pixel_size, lambda files: window_field(files, "local_um"), lambda files: frozen_features(files, FROZEN, "local_um")):
        with pytest.raises(UserError, match=r"features.h5: file: not a readable HDF5 file"):
            read([path])
