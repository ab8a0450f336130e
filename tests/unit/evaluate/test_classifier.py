"""What the models say of images in memory is what the workflow writes for the same cells."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import nuclass_pipeline
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.classifier import load_classifier
from nuclass_pipeline.evaluate.predict import predict_slide
from nuclass_pipeline.io import read_table
from nuclass_pipeline.models.checkpoint import load_checkpoint, save_checkpoint
from nuclass_pipeline.models.gate import Gate
from nuclass_pipeline.schemas import PREDICTIONS
from nuclass_pipeline.train.features import embed_cells
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
        (folder / name / "seed-0").mkdir(parents=True)
        (folder / name / "seed-0/best.ckpt").write_bytes(Path(source).read_bytes())
    return folder


def test_images_in_memory_get_what_the_workflow_writes(models: Path, trained: dict[str, Any], tmp_path: Path) -> None:  # noqa: F811
    slide = {name: trained[name] for name in ("patches", "contexts", "labels", "split", "organ", "local", "global_")}
    embed_cells(**slide, compute=Compute(precision="32-true"), device="cpu", features=tmp_path / "features.h5")
    ids = pd.read_parquet(trained["split"])["cell_id"]
    pd.DataFrame({"cell_id": ids, "x_um": 1.0, "y_um": 2.0}).to_parquet(tmp_path / "cells.parquet")
    with h5py.File(trained["contexts"], "r+") as file:
        file["padded"] = np.zeros(len(ids), bool)
    outputs = {name: tmp_path / f"{name}.parquet" for name in ("local", "global_", "gate")}
    tables = {"cells": tmp_path / "cells.parquet", "labels": trained["labels"], "split": trained["split"], "patches": trained["contexts"]}
    predict_slide(features=tmp_path / "features.h5", checkpoint=models / "gate/seed-0/best.ckpt", **tables, **outputs)
    written = read_table(outputs["gate"], PREDICTIONS).set_index("cell_id")
    with h5py.File(trained["patches"]) as narrow, h5py.File(trained["contexts"]) as wide:
        rows = [list(narrow["keys"].asstr()[:]).index(cell) for cell in written.index]
        found = load_classifier(models).classify(narrow["images"][:][rows], wide["images"][:][rows], organ="lung")
    columns = ["p_Acinar", "p_T_Cell"]
    assert len(written) == 9
    np.testing.assert_allclose(found[columns], written[columns], atol=1e-6)
    np.testing.assert_allclose(found["gate_weight"], written["gate_weight"], atol=1e-6)
    assert list(found["predicted"]) == list(written["predicted"])


def test_an_unknown_organ_is_refused(models: Path) -> None:
    images = np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 128, 128, 3), np.uint8)
    with pytest.raises(UserError, match=r"'colon' is not an organ of the model\. Use one of lung"):
        load_classifier(models).classify(*images, organ="colon")


def test_the_package_exports_what_its_help_says(models: Path) -> None:
    (models.parent / "slides").mkdir()
    run = nuclass_pipeline.open_run(models.parent)
    assert run.slides == []
    assert run.classifier().meta.classes == ("Acinar", "T_Cell")
    assert set(nuclass_pipeline.__all__) <= set(dir(nuclass_pipeline))
    assert "open_run" in (nuclass_pipeline.__doc__ or "")
    with pytest.raises(UserError, match="there is no result 'label'"):
        run.path("label")
    with pytest.raises(UserError, match="it holds no run"):
        nuclass_pipeline.open_run(models)
