"""Features of views: what is stored, that trainings draw them and can be resumed, and that all else reads the window as it is."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.global_ import restore_global
from nuclass_pipeline.models.local import restore_local
from nuclass_pipeline.train.cell_task import TrainingCells, slide_files
from nuclass_pipeline.train.features.cells import embed_cells
from nuclass_pipeline.train.features.windows import embed_windows
from nuclass_pipeline.train.global_ import GlobalTask, train_global
from nuclass_pipeline.train.local import train_local
from tests.unit.train.toys import (
    CLASSES,
    COMPUTE,
    FROZEN,
    global_config,
    global_optim,
    local_config,
    local_optim,
    training_files,
    write_images,
    write_slide,
)

CELLS = 80


def viewed(views: int) -> BackboneConfig:
    return BackboneConfig(**{**FROZEN.model_dump(), "views": views})


def embed(windows: Path, features: Path, views: int) -> Path:
    embed_windows(patches=windows, config=viewed(views), compute=COMPUTE, device="cpu", features=features)
    return features


def stored(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["feature"][:]


def same_views(path: Path) -> Path:
    """Replace all views of each window by the first."""
    with h5py.File(path, "a") as file:
        file["feature"][:] = file["feature"][:, :1]
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_slide(tmp_path_factory.mktemp("slide"), CELLS, 1)


@pytest.fixture(scope="module")
def features(slide: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Kind of windows and number of views → file of features."""
    folder = tmp_path_factory.mktemp("features")
    return {(kind, views): embed(slide[kind], folder / f"{kind}-{views}.h5", views) for kind in ("patches", "contexts") for views in (1, 4)}


def test_views_are_the_features_of_turned_windows(slide: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(slide["patches"]) as file:
        ids, images = file["keys"].asstr()[:6].tolist(), file["images"][:6]
    windows = write_images(tmp_path / "w.h5", ids, images)
    plain, eight = stored(embed(windows, tmp_path / "1.h5", 1)), stored(embed(windows, tmp_path / "8.h5", 8))
    assert (plain.shape, eight.shape, eight.dtype) == ((6, 64), (6, 8, 64), np.float16)
    np.testing.assert_array_equal(stored(embed(windows, tmp_path / "4.h5", 4)), eight[:, :4])
    for view in range(8):
        turned = np.rot90(images if view < 4 else images[:, :, ::-1], view % 4, (1, 2))
        expected = stored(embed(write_images(tmp_path / "turned.h5", ids, turned), tmp_path / "turned-1.h5", 1))
        # Within rounding, because turned pixels lie otherwise in memory.
        np.testing.assert_allclose(eight[:, view], expected, rtol=2e-3, atol=2e-3)
        assert view == 0 or np.abs(eight[:, view] - plain).max() > 0.05
    np.testing.assert_array_equal(eight[:, 0], plain)


def train(slide: dict[str, Any], folder: Path, patches: Path, contexts: Path, views: int, **changes: Any) -> dict[str, Path]:
    """Train both paths on features with so many views, and return the checkpoints."""
    common = {**training_files([slide]), "patches": [patches], "compute": COMPUTE, "seed": 0, "device": "cpu", "resume": folder / "resume"}
    made = {"local": folder / "local.ckpt", "global_": folder / "global.ckpt"}
    if not made["local"].exists():
        config = local_config(backbone=viewed(views), optim=local_optim(max_epochs=2), **changes)
        train_local(**common, classes=CLASSES, config=config, checkpoint=made["local"], history=folder / "local.parquet")
    config = global_config(context=viewed(views), optim=global_optim(max_epochs=3), **changes)
    files = {"contexts": [contexts], "local": made["local"], "checkpoint": made["global_"], "history": folder / "global.parquet"}
    train_global(**common, **files, config=config)
    return made


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state"]
    return state


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_trainings_draw_views_and_views_that_are_alike_change_nothing(
    slide: dict[str, Any], features: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    found = {}
    for name, views in (("plain", 1), ("turned", 4), ("alike", 4)):
        (tmp_path / name).mkdir()
        sources = [features[kind, views] for kind in ("patches", "contexts")]
        if name == "alike":
            copies = [tmp_path / path.name for path in sources]
            for path, copy in zip(sources, copies, strict=True):
                copy.write_bytes(path.read_bytes())
            sources = [same_views(path) for path in copies]
        found[name] = train(slide, tmp_path / name, *sources, views)
    for model in ("local", "global_"):
        assert equal(found["plain"][model], found["alike"][model])
        assert not equal(found["plain"][model], found["turned"][model])
    assert restore_local(found["turned"]["local"])[1].local_features.views == 4  # type: ignore[union-attr]
    assert restore_global(found["turned"]["global_"])[1].context_features.views == 4  # type: ignore[union-attr]


class PulledPlugError(Exception):
    pass


def test_a_resumed_training_draws_the_same_views(
    slide: dict[str, Any], features: dict[tuple[str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = features["patches", 4], features["contexts", 4]
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = train(slide, tmp_path / "whole", *sources, 4, standardize=True)
    start_epoch = GlobalTask.start_epoch

    def pull_plug(self: GlobalTask, epoch: int) -> None:
        if epoch == 2:
            raise PulledPlugError
        start_epoch(self, epoch)

    with monkeypatch.context() as patch, pytest.raises(PulledPlugError):
        patch.setattr(GlobalTask, "start_epoch", pull_plug)
        train(slide, tmp_path / "cut", *sources, 4, standardize=True)
    assert (tmp_path / "cut/resume/last.ckpt").exists()
    resumed = train(slide, tmp_path / "cut", *sources, 4, standardize=True)
    assert equal(whole["global_"], resumed["global_"])
    tables = [pd.read_parquet(tmp_path / name / "global.parquet") for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*tables)


def test_validation_and_predictions_read_the_window_as_it_is(
    slide: dict[str, Any], features: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    read = {}
    for views in (1, 4):
        files = training_files([slide]) | {"patches": [features["patches", views]], "contexts": [features["contexts", views]]}
        names = ("patches", "labels", "splits", "organs", "contexts")
        cells = TrainingCells.open(slide_files(*(files[name] for name in names)), COMPUTE, classes=CLASSES, organs=("lung",), image_px=32)
        read[views] = {name: getattr(cells, name).__getitems__(range(10)) for name in ("train", "validation")}
    assert torch.equal(read[4]["validation"].image, read[1]["validation"].image)
    assert torch.equal(read[4]["validation"].context, read[1]["validation"].context)
    assert read[4]["train"].image.shape == read[4]["train"].context.shape == (10, 4, 64)
    assert torch.equal(read[4]["train"].image[:, 0], read[1]["train"].image)
    assert torch.equal(read[4]["train"].context[:, 0], read[1]["train"].context)
    sources = features["patches", 4], features["contexts", 4]
    made = train(slide, tmp_path, *sources, 4)
    common = {**{name: slide[name] for name in ("cells", "labels", "split")}, "organ": "lung", "compute": COMPUTE, "device": "cpu"}
    embed_cells(**common, **made, patches=sources[0], contexts=sources[1], features=tmp_path / "cells.h5")
    model, meta = restore_local(made["local"])
    plain = stored(features["patches", 1])
    with h5py.File(tmp_path / "cells.h5") as file, torch.inference_mode():
        rows = [int(name.removeprefix("cell-")) for name in file["cell_id"].asstr()[:]]
        out = model(torch.from_numpy(plain[rows]).float(), torch.full((len(rows),), meta.organ_index("lung")))
        np.testing.assert_allclose(file["local_p"][:], out.logits.softmax(-1), atol=1e-6)


def test_views_of_crops_and_contexts_that_differ_are_refused(
    slide: dict[str, Any], features: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    eight = embed(slide["contexts"], tmp_path / "8.h5", 8)
    train(slide, tmp_path, features["patches", 4], features["contexts", 4], 4)
    with pytest.raises(UserError, match=r"global.context.views: is 8, and 4 in the features of the local path. Set it to 4 or 1."):
        train(slide, tmp_path, features["patches", 4], eight, 8)
    with pytest.raises(UserError, match=r"contexts-4.h5: views: is 4 in the file, and 1 in the run file"):
        train(slide, tmp_path, features["patches", 4], features["contexts", 4], 1)
