"""What the models say of images in memory is what the workflow writes for the same cells."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.classifier import CellClassifier, load_classifier
from nuclass_pipeline.evaluate.predict import predict_slide
from nuclass_pipeline.io import read_table
from nuclass_pipeline.models.checkpoint import load_checkpoint, save_checkpoint
from nuclass_pipeline.models.gate import Gate
from nuclass_pipeline.models.neighbors import NeighborGate
from nuclass_pipeline.schemas import PREDICTIONS
from nuclass_pipeline.train.features.cells import embed_cells
from tests.unit.evaluate.test_attribution import files as trained  # noqa: F401


@pytest.fixture
def models(trained: dict[str, Any], tmp_path: Path) -> Path:  # noqa: F811
    """Return a folder `models` of a run."""
    folder = tmp_path / "run/models"
    meta, _ = load_checkpoint(trained["global_"], "global")
    config = GateConfig(projection=4, hidden=(6, 5))
    torch.manual_seed(1)
    save_checkpoint(
        tmp_path / "gate.ckpt",
        Gate(meta.dims["local"], meta.dims["global"], config),
        meta.model_copy(update={"kind": "gate", "gate": config}),
    )
    for name, source in (("local", trained["local"]), ("global", trained["global_"]), ("gate", tmp_path / "gate.ckpt")):
        (folder / "base" / name / "seed-0").mkdir(parents=True)
        (folder / "base" / name / "seed-0/best.ckpt").write_bytes(Path(source).read_bytes())
    return folder


def load_toy(models: Path) -> CellClassifier:
    """Load models whose windows are smaller than those of a run."""
    return replace(load_classifier(models), crop_px=64, context_px=128)


def images(cells: int, side: int) -> np.ndarray:
    return np.zeros((cells, side, side, 3), np.uint8)


def test_images_in_memory_get_what_the_workflow_writes(models: Path, trained: dict[str, Any], tmp_path: Path) -> None:  # noqa: F811
    slide = {name: trained[name] for name in ("patches", "contexts", "labels", "split", "organ", "local", "global_")}
    ids = pd.read_parquet(trained["split"])["cell_id"]
    places = pd.DataFrame({"cell_id": ids, "x_um": 7.0 * np.arange(len(ids)), "y_um": 2.0})
    empty = {"transcripts": 0, "controls": 0, "cell_area_um2": np.nan, "nucleus_area_um2": np.nan, "nucleus_transcripts": np.nan}
    places.assign(**empty).to_parquet(tmp_path / "cells.parquet")
    slide["cells"] = tmp_path / "cells.parquet"
    embed_cells(**slide, compute=Compute(precision="32-true"), device="cpu", features=tmp_path / "features.h5")
    with h5py.File(trained["contexts"], "r+") as file:
        file["padded"] = np.zeros(len(ids), bool)
    outputs = {name: tmp_path / f"{name}.parquet" for name in ("local", "global_", "gate")}
    tables = {"cells": tmp_path / "cells.parquet", "labels": trained["labels"], "split": trained["split"], "patches": trained["contexts"]}
    predict_slide(features=tmp_path / "features.h5", checkpoint=models / "base/gate/seed-0/best.ckpt", **tables, **outputs)
    written = read_table(outputs["gate"], PREDICTIONS).set_index("cell_id")
    with h5py.File(trained["patches"]) as narrow, h5py.File(trained["contexts"]) as wide:
        rows = [list(narrow["keys"].asstr()[:]).index(cell) for cell in written.index]
        found = load_toy(models).classify(narrow["images"][:][rows], wide["images"][:][rows], organ="lung")
    columns = ["p_Acinar", "p_T_Cell"]
    assert len(written) == 9
    np.testing.assert_allclose(found[columns], written[columns], atol=1e-6)
    np.testing.assert_allclose(found["gate_weight"], written["gate_weight"], atol=1e-6)
    assert list(found["predicted"]) == list(written["predicted"])


def test_the_gate_of_neighbors_needs_places(models: Path) -> None:
    path = models / "base/gate/seed-0/best.ckpt"
    meta, _ = load_checkpoint(path, "gate")
    torch.manual_seed(2)
    save_checkpoint(path, NeighborGate(2, 20.0), meta.model_copy(update={"gate": GateConfig(kind="neighbors")}))
    rng = np.random.default_rng(0)
    crops, contexts = (rng.integers(0, 255, (3, side, side, 3), np.uint8) for side in (64, 128))
    near = load_toy(models).classify(crops, contexts, organ="lung", xy_um=[[0, 0], [5, 0], [0, 5]])
    far = load_toy(models).classify(crops, contexts, organ="lung", xy_um=[[0, 0], [500, 0], [0, 500]])
    columns = ["p_Acinar", "p_T_Cell"]
    np.testing.assert_allclose(near[columns].sum(axis=1), 1, atol=1e-6)
    assert not np.allclose(near[columns], far[columns], atol=1e-3)
    with pytest.raises(UserError, match=r"classify: xy_um: missing, and the gate is of kind neighbors"):
        load_toy(models).classify(crops, contexts, organ="lung")
    with pytest.raises(UserError, match=r"found shape \(2, 2\).*Pass the centroids of the cells in µm, an array of shape \(3, 2\)"):
        load_toy(models).classify(crops, contexts, organ="lung", xy_um=np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"xy_um: a value is not finite\."):
        load_toy(models).classify(crops, contexts, organ="lung", xy_um=np.full((3, 2), np.nan))
    with pytest.raises(UserError, match=r"xy_um: not an array of numbers"):
        load_toy(models).classify(crops, contexts, organ="lung", xy_um=[[0, 0], [1], ["x", 2]])


def test_places_are_checked_before_the_paths_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models / "base/gate/seed-0/best.ckpt"
    meta, _ = load_checkpoint(path, "gate")
    save_checkpoint(path, NeighborGate(2, 20.0), meta.model_copy(update={"gate": GateConfig(kind="neighbors")}))
    classifier = load_toy(models)
    monkeypatch.setattr("nuclass_pipeline.train.features.cells.run_classifiers", lambda *_: pytest.fail("the paths ran"))
    with pytest.raises(UserError, match="xy_um: missing"):
        classifier.classify(images(1, 64), images(1, 128), organ="lung")


def test_an_unknown_organ_is_refused(models: Path) -> None:
    with pytest.raises(UserError, match=r"'colon' is not an organ of the model\. Use one of lung"):
        load_toy(models).classify(images(1, 64), images(1, 128), organ="colon")


def test_an_organ_without_training_is_taken_as_unknown_by_models_that_learnt_it(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in models.glob("base/*/seed-0/best.ckpt"):
        content = torch.load(path, weights_only=True)
        content["meta"].update(trained_organs=["lung"], local=content["meta"]["local"] | {"organ_dropout": 0.2})
        torch.save(content, path)
    classifier, two = load_toy(models), (images(2, 64), images(2, 128))
    assert classifier.meta.usable_organs == ("lung", "unknown")
    pd.testing.assert_frame_equal(classifier.classify(*two, organ="colon"), classifier.classify(*two, organ="unknown"))
    assert "no training slide is of colon, so the models take its organ as unknown" in caplog.text
    assert not np.allclose(classifier.classify(*two, organ="lung")["p_Acinar"], classifier.classify(*two, organ="unknown")["p_Acinar"])
    with pytest.raises(UserError, match=r"'lugn' is not an organ of the model\. Use one of lung, unknown\."):
        classifier.classify(*two, organ="lugn")


def test_a_flipped_view_is_read_as_its_copy(models: Path) -> None:
    rng = np.random.default_rng(0)
    crops, contexts = (rng.integers(0, 255, (2, side, side, 3), dtype=np.uint8)[:, ::-1] for side in (64, 128))
    classifier = load_toy(models)
    pd.testing.assert_frame_equal(
        classifier.classify(crops, contexts, organ="lung"), classifier.classify(crops.copy(), contexts.copy(), organ="lung")
    )


WRONG_PIXELS: dict[str, tuple[Any, str]] = {
    "float": (images(2, 64).astype(np.float32), r"dtype float32 and shape \(2, 64, 64, 3\)"),
    "uint16": (images(2, 64).astype(np.uint16), "dtype uint16"),
    "RGBA": (np.zeros((2, 64, 64, 4), np.uint8), r"shape \(2, 64, 64, 4\)"),
    "grey": (np.zeros((2, 64, 64), np.uint8), r"shape \(2, 64, 64\)"),
    "channels first": (np.zeros((2, 3, 64, 64), np.uint8), r"shape \(2, 3, 64, 64\)"),
    "single image": (images(2, 64)[0], r"shape \(64, 64, 3\)"),
    "other side": (images(2, 32), r"shape \(2, 32, 32, 3\)"),
    "no image": (images(0, 64), r"shape \(0, 64, 64, 3\)"),
    "list": (list(images(2, 64)), "a list, not a NumPy array"),
    "tensor": (torch.zeros(2, 64, 64, 3, dtype=torch.uint8), "a Tensor, not a NumPy array"),
}


@pytest.mark.parametrize("how", WRONG_PIXELS)
def test_pixels_of_another_kind_are_refused(models: Path, how: str) -> None:
    pixels, problem = WRONG_PIXELS[how]
    with pytest.raises(UserError, match=rf"^classify: crops: found .*{problem}") as refusal:
        load_toy(models).classify(pixels, images(2, 128), organ="lung")
    assert str(refusal.value).endswith("Pass a NumPy array of RGB images with dtype uint8 and shape (N, 64, 64, 3), N ≥ 1.")
    with pytest.raises(UserError, match=r"^classify: contexts: found .*shape \(N, 128, 128, 3\), N ≥ 1\.$"):
        load_toy(models).classify(images(2, 64), pixels, organ="lung")


def test_swapped_or_unequal_arguments_are_refused(models: Path) -> None:
    classifier = load_toy(models)
    with pytest.raises(UserError, match=r"^classify: crops: found dtype uint8 and shape \(1, 128, 128, 3\)"):
        classifier.classify(images(1, 128), images(1, 64), organ="lung")
    with pytest.raises(UserError, match="contexts: found 1 contexts for 2 crops"):
        classifier.classify(images(2, 64), images(1, 128), organ="lung")


def test_the_sides_are_those_of_the_patch_files(models: Path) -> None:
    classifier = load_classifier(models)
    assert (classifier.crop_px, classifier.context_px) == (64, 128)
    with pytest.raises(UserError, match=r"shape \(N, 64, 64, 3\), N ≥ 1\.$"):
        classifier.classify(images(1, 224), images(1, 128), organ="lung")


@pytest.mark.parametrize("device", ["gpu", "meta", None, *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_torch_cannot_use_is_refused(models: Path, device: str) -> None:
    with pytest.raises(UserError, match=rf"device: torch cannot use {device!r} \(.*\)\. Use cpu, or cuda") as refusal:
        load_classifier(models, device=device)
    assert "\n" not in str(refusal.value)


def test_a_seed_that_was_not_trained_is_refused(models: Path) -> None:
    with pytest.raises(UserError, match=r"local/seed-7/best\.ckpt: file: it does not exist\. Choose the seed of a trained model"):
        load_classifier(models, seed=7)
