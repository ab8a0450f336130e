"""Features of frozen networks: what is embedded, and files that cannot be read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
import torch

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_warnings
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.frozen import FrozenFeatures, attach_encoders, build_frozen
from nuclass_pipeline.models.local import restore_local
from nuclass_pipeline.train.cell_task import check_windows
from nuclass_pipeline.train.dataset import SlideFiles
from nuclass_pipeline.train.features.cells import embed_cells, open_cells, restore_classifiers, run_classifiers
from nuclass_pipeline.train.features.files import running
from nuclass_pipeline.train.features.windows import embed_windows
from nuclass_pipeline.train.global_ import train_global
from nuclass_pipeline.train.local import train_local
from nuclass_pipeline.train.patch_reader import PatchReader
from tests.unit.train.toys import (
    BREAKS,
    CLASSES,
    COMPUTE,
    FEATURES,
    FROZEN,
    break_file,
    global_config,
    local_config,
    make_global,
    save_models,
    training_files,
    write_features,
    write_images,
    write_slide,
)

CELLS = 24


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    slide = write_slide(tmp_path, CELLS, 1)
    contexts = write_features(tmp_path / "context.h5", CELLS)
    return {
        **{name: slide[name] for name in ("cells", "patches", "labels", "split")},
        "contexts": contexts,
        "organ": "lung",
        **save_models(tmp_path),
    }


def embed(files: dict[str, Any], features: Path) -> None:
    embed_cells(**files, compute=COMPUTE, device="cpu", features=features)


def test_frozen_features_are_embedded_for_all_cells_but_the_training_ones(files: dict[str, Any], tmp_path: Path) -> None:
    embed(files, tmp_path / "cells.h5")
    with h5py.File(tmp_path / "cells.h5") as file:
        assert file["cell_id"].asstr()[:].tolist() == [f"cell-{number}" for number in range(CELLS) if number % 4 > 1]
        assert file["global_feature"].shape == (CELLS // 2, 64)
        np.testing.assert_allclose(file["global_p"][:].sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["contexts", "patches"])
def test_a_broken_file_is_named_and_nothing_is_written(files: dict[str, Any], tmp_path: Path, name: str, how: str) -> None:
    break_file(files[name], how)
    with pytest.raises(UserError, match=rf"{files[name].name}: file: not a readable HDF5 file"):
        embed(files, tmp_path / "cells.h5")
    assert not (tmp_path / "cells.h5").exists()


@pytest.mark.parametrize("how", BREAKS)
def test_broken_context_windows_are_named(tmp_path: Path, how: str) -> None:
    windows = write_slide(tmp_path, 4, 1)["contexts"]
    break_file(windows, how)
    with pytest.raises(UserError, match=rf"{windows.name}: file: not a readable HDF5 file"):
        embed_windows(patches=windows, config=FROZEN, compute=COMPUTE, device="cpu", features=tmp_path / "features.h5")


def chain(slides: list[dict[str, Any]], folder: Path) -> dict[str, Path]:
    """Train both paths on features of frozen encoders and embed the first slide; return the checkpoints and features."""
    folder.mkdir()
    both = {}
    for name, stored in (("patches", "local"), ("contexts", "context")):
        both[name] = [folder / f"{stored}-{number}.h5" for number in range(len(slides))]
        for slide, path in zip(slides, both[name], strict=True):
            embed_windows(patches=slide[name], config=FROZEN, compute=COMPUTE, device="cpu", features=path)
    common = {
        **training_files(slides), "patches": both["patches"], "compute": COMPUTE, "seed": 0, "device": "cpu", "resume": folder / "resume",
        "history": folder / "history.parquet",
    }  # fmt: skip
    local = local_config(backbone=FROZEN, augment=True, freeze_backbone_epochs=1)
    train_local(**common, classes=CLASSES, config=local, checkpoint=folder / "local.ckpt")
    files = {"contexts": both["contexts"], "local": folder / "local.ckpt", "checkpoint": folder / "global.ckpt"}
    train_global(**common, **files, config=global_config(context=FROZEN, augment=True))
    made = {"local": folder / "local.ckpt", "global_": folder / "global.ckpt"}
    sources = {
        "cells": slides[0]["cells"],
        "patches": both["patches"][0],
        "contexts": both["contexts"][0],
        "labels": slides[0]["labels"],
        "split": slides[0]["split"],
    }
    embed_cells(**sources, **made, organ="lung", compute=COMPUTE, device="cpu", features=folder / "cells.h5")
    return {**made, **sources, "embedded": folder / "cells.h5"}


def test_two_frozen_encoders_are_trained_on_features_and_rebuilt_from_their_weights(tmp_path: Path) -> None:
    slides = [write_slide(tmp_path / "a", 80, 1)]
    made, again = chain(slides, tmp_path / "one"), chain(slides, tmp_path / "two")
    (local, global_), meta = restore_classifiers(made["local"], made["global_"])
    assert (local.backbone, global_.local.backbone, global_.encoder, meta.backbone, meta.context) == (None,) * 5
    assert (meta.local_um, meta.context_um, meta.dims) == (8, 16, {"local": 64, "context": 64, "global": 64})
    assert meta.local_features is not None
    assert meta.local_features.spec == build_frozen(FROZEN).spec
    # Features and history of a second run with the same seed are the same, so random weights are not drawn anew.
    with h5py.File(made["embedded"]) as one, h5py.File(again["embedded"]) as two:
        assert all(np.array_equal(one[name][:], two[name][:]) for name in ("local_feature", "global_feature", "local_p", "global_p"))
        ids, stored, wide = one["cell_id"].asstr()[:].tolist(), one["local_p"][:], one["global_p"][:]
    attach_encoders(local, global_, meta)
    files = SlideFiles(slides[0]["patches"], slides[0]["labels"], slides[0]["split"], "lung", slides[0]["contexts"])
    cells = open_cells(files, meta, ("gate", "val"))
    assert cells.cells["cell_id"].tolist() == ids
    with running("cpu", COMPUTE):
        found = run_classifiers(local, global_, "cpu")(cells.__getitems__(list(range(len(cells)))))
    # Not equal, because features are stored in half precision.
    np.testing.assert_allclose(found["local_p"], stored, atol=2e-3)
    np.testing.assert_allclose(found["global_p"], wide, atol=2e-3)


def test_other_weights_than_those_of_the_training_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    config = FROZEN.model_copy(update={"weights": str(tmp_path)})
    features = FEATURES.of(config, field_um=16, mpp=0.25, dim=64, spec={})
    (tmp_path / "model.safetensors").write_bytes(b"two")
    with pytest.raises(
        UserError, match=r"model.safetensors: weights: their SHA-256 is 3fc4cc\w+, and the models were trained with 7692c3\w+. Put"
    ):
        features.build(config)


def test_an_earlier_checkpoint_has_the_usual_windows_and_needs_a_description_of_its_context(tmp_path: Path) -> None:
    model, meta = make_global()
    plain = meta.model_dump(exclude={"local_um", "context_um", "context_features", "local_features"})
    earlier = CheckpointMetadata.model_validate(plain)
    assert (earlier.local_um, earlier.context_um) == (56, 256)
    save_checkpoint(tmp_path / "global.ckpt", model, earlier)
    save_checkpoint(tmp_path / "local.ckpt", model.local, earlier.model_copy(update={"kind": "local", "global_": None}))
    with pytest.raises(UserError, match=r"global.ckpt: context_features: an earlier version wrote it, .*Train the global path again"):
        restore_classifiers(tmp_path / "local.ckpt", tmp_path / "global.ckpt")


def test_features_are_whole_or_not_there_and_say_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, features = write_slide(tmp_path, 6, 1)["contexts"], tmp_path / "f.h5"
    embed_windows(patches=windows, config=FROZEN, compute=COMPUTE, device="cpu", features=features)
    assert FrozenFeatures.read(features).model_copy(update={"spec": {}}) == FEATURES
    assert read_warnings(features) == ["frozen with random weights, so its features are those of an untrained network"]
    features.unlink()
    monkeypatch.setattr(
        "nuclass_pipeline.train.features.files.RowsWriter.append", lambda *_args, **_values: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        embed_windows(patches=windows, config=FROZEN, compute=COMPUTE, device="cpu", features=features)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("f.h5", ".f.h5"))]


def own_encoder(folder: Path, seed: int) -> BackboneConfig:
    """Return a frozen vision transformer with weights drawn by this seed."""
    folder.mkdir()
    torch.manual_seed(seed)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), folder / "pytorch_model.bin")
    return BackboneConfig(name="mine", architecture="test_vit", weights=str(folder), image_px=32, freeze=True)


def test_windows_that_are_resized_in_a_batch_give_nearly_the_same_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, forced on the CPU: windows of 64 px become 32 px after the loader."""
    slide, found = write_slide(tmp_path / "slide", 40, 1), []
    read, sides = PatchReader.read, []

    def noted(self: PatchReader, positions: Any) -> torch.Tensor:
        images = read(self, positions)
        sides.append(images.shape[-1])
        return images

    monkeypatch.setattr(PatchReader, "read", noted)
    for resizing in ("cuda", "cpu"):
        monkeypatch.setattr("nuclass_pipeline.train.features.windows.RESIZING", resizing)
        embed_windows(patches=slide["contexts"], config=FROZEN, compute=COMPUTE, device="cpu", features=tmp_path / resizing)
        with h5py.File(tmp_path / resizing) as file:
            found.append(file["feature"][...].astype(float))
    assert sides == [32, 64]
    assert np.abs(found[0] - found[1]).max() < 0.05 * found[0].std(axis=0).max()
    assert not np.array_equal(*found)


def test_features_of_another_encoder_other_weights_another_side_or_another_magnification_are_refused(tmp_path: Path) -> None:
    slide = write_slide(tmp_path, CELLS, 1)
    with h5py.File(slide["patches"]) as file:
        ids, crops = file["keys"].asstr()[:].tolist(), file["images"][:]
    coarse = write_images(tmp_path / "coarse.h5", ids, crops[:, ::2, ::2])
    with h5py.File(coarse, "a") as file:
        file.attrs["mpp"] = 0.5
    one, two = own_encoder(tmp_path / "one", 1), own_encoder(tmp_path / "two", 2)
    made = {}
    for name, windows, config in (
        ("right", slide["patches"], one),
        ("encoder", slide["patches"], FROZEN),
        ("weights", slide["patches"], two),
        ("side", write_images(tmp_path / "narrow.h5", ids, crops[:, 8:-8, 8:-8]), one),
        ("mpp", coarse, one),
    ):
        made[name] = tmp_path / f"{name}-features.h5"
        embed_windows(patches=windows, config=config, compute=COMPUTE, device="cpu", features=made[name])
    common = {"classes": CLASSES, "config": local_config(backbone=one), "compute": COMPUTE, "seed": 0, "device": "cpu"}
    common |= {"checkpoint": tmp_path / "local.ckpt", "history": tmp_path / "history.parquet", "resume": tmp_path / "resume"}

    def train(*patches: Path) -> None:
        train_local(**training_files([slide] * len(patches)) | common | {"patches": patches})

    train(made["right"])
    _, meta = restore_local(tmp_path / "local.ckpt")
    for name, problem in (
        ("encoder", "encoder: is tiny-vit in the file, and mine in"),
        ("weights", r"weights_sha256: is \w{64} in the file, and \w{64} in"),
        ("side", "field_um: is 4.0 in the file, and 8.0 in"),
        ("mpp", "mpp: is 0.5 µm in the file, and 0.25 µm in"),
    ):
        with pytest.raises(UserError, match=f"{name}-features.h5: {problem} the run file or .*right-features.h5") as caught:
            train(made["right"], made[name])
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=f"{name}-features.h5: {problem} the checkpoint"):
            check_windows(made[name], meta, "local_um", meta.local_features)
