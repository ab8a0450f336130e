"""Maps follow the equation of Grad-CAM and are drawn for validation and held-out cells."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from nuclass_pipeline.config.evaluation import AttributionConfig
from nuclass_pipeline.config.models import BackboneConfig, GlobalConfig, LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.attribution import choose_cells, explain_cells, field_px, grad_cam
from nuclass_pipeline.io import read_table
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.global_ import GlobalClassifier
from nuclass_pipeline.models.local import LocalClassifier
from nuclass_pipeline.schemas import ATTRIBUTION
from tests.unit.train.toys import BREAKS, break_file

CLASSES = ("Acinar", "T_Cell")
N = 12


def test_grad_cam_equation() -> None:
    grid = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]]], requires_grad=True)
    score = (grid[:, 0].sum() * 2 - grid[:, 1].sum() * 4) / 4
    # Mean gradients are 0.5 and −1, so the map is ReLU(0.5·A₀ − A₁) = [[0, 1], [1.5, 1]].
    np.testing.assert_allclose(grad_cam(score, grid), [[0, 1 / 1.5], [1, 1 / 1.5]], atol=1e-6)


def test_a_map_without_evidence_is_empty() -> None:
    grid = torch.ones(1, 2, 3, 3, requires_grad=True)
    assert (grad_cam(-grid.sum(), grid) == 0).all()


def test_cells_are_spread_over_the_labels() -> None:
    labels = pd.Series(["T_Cell"] * 50 + ["Acinar"] * 3 + ["Unresolved"] * 20)
    chosen = choose_cells(labels, 4, seed=0)
    assert sorted(labels.iloc[chosen]) == ["Acinar", "Acinar", "T_Cell", "T_Cell"]
    assert choose_cells(labels, 4, seed=0) == chosen
    assert choose_cells(labels, 4, seed=1) != chosen
    assert len(choose_cells(labels, 500, seed=0)) == 53


def write_patches(path: Path, side: int) -> Path:
    with h5py.File(path, "w") as file:
        file["images"] = np.random.default_rng(side).integers(0, 255, size=(N, side, side, 3), dtype=np.uint8)
        file.create_dataset("keys", data=[f"c{n}" for n in range(N)], dtype=h5py.string_dtype())
    return path


@pytest.fixture(params=["tiny-resnet", "tiny-vit"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    encoder = BackboneConfig(name=request.param, image_px=64)
    local_config, global_config = LocalConfig(backbone=encoder, organ_dim=4), GlobalConfig(context=encoder, projection=8)
    local = LocalClassifier(build_backbone(encoder), classes=2, organs=1, config=local_config)
    context = build_backbone(encoder)
    wide = GlobalClassifier(local, context, context.dim, classes=2, config=global_config)
    meta = CheckpointMetadata(
        kind="local",
        classes=CLASSES,
        organs=("lung",),
        mpp=0.5,
        local=local_config,
        backbone=local.backbone.spec,
        dims={"local": local.backbone.dim, "context": context.dim, "global": 16},
        seed=0,
    )
    save_checkpoint(tmp_path / "local.ckpt", local, meta)
    save_checkpoint(
        tmp_path / "global.ckpt", wide, meta.model_copy(update={"kind": "global", "global_": global_config, "context": context.spec})
    )
    pd.DataFrame({"cell_id": [f"c{n}" for n in range(N)], "label": ["Acinar", "T_Cell", "Unresolved"] * 4, "confidence": 1.0}).to_parquet(
        tmp_path / "labels.parquet"
    )
    subsets = ["val", "train", "val", "val"] * 3
    pd.DataFrame({"cell_id": [f"c{n}" for n in range(N)], "subset": subsets, "block": "0"}).to_parquet(tmp_path / "split.parquet")
    return {
        "patches": write_patches(tmp_path / "narrow.h5", 64),
        "contexts": write_patches(tmp_path / "wide.h5", 128),
        "labels": tmp_path / "labels.parquet",
        "split": tmp_path / "split.parquet",
        "local": tmp_path / "local.ckpt",
        "global_": tmp_path / "global.ckpt",
        "attribution": tmp_path / "attribution.parquet",
        "organ": "lung",
        "slide": "s",
        "seed": 0,
        "device": "cpu",
    }


def test_both_paths_are_explained(files: dict[str, Any]) -> None:
    explain_cells(**files, config=AttributionConfig(cells=3))
    table = read_table(files["attribution"], ATTRIBUTION)
    assert len(table) == 6
    assert table["cell_id"].nunique() == 3
    assert set(table["label"]) == set(CLASSES)
    train = {f"c{n}" for n in (1, 5, 9)}
    assert not train & set(table["cell_id"])
    assert table.groupby("model")["field_um"].unique().map(list).to_dict() == {"local": [32.0], "global": [64.0]}
    for row in table.itertuples():
        heat = np.array(row.heat)
        side = round(len(heat) ** 0.5)
        assert side == 4  # a sixteenth of 64 px
        assert side**2 == len(heat)
        assert heat.min() == 0
        assert heat.max() in (0, pytest.approx(1))
        assert Image.open(io.BytesIO(row.image)).size == (64, 64)
    assert (table["heat"].map(max) > 0).any()


def test_features_cannot_be_explained(files: dict[str, Any]) -> None:
    with h5py.File(files["contexts"], "a") as file:
        file["feature"] = np.zeros((N, 4), np.float16)
        file.move("keys", "cell_id")
        del file["images"]
    with pytest.raises(UserError, match="images: the dataset is missing"):
        explain_cells(**files, config=AttributionConfig(cells=3))


@pytest.mark.parametrize("files", ["tiny-resnet"], indirect=True)
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["patches", "contexts"])
def test_a_broken_patch_file_is_named(files: dict[str, Any], name: str, how: str) -> None:
    break_file(files[name], how)
    with pytest.raises(UserError, match=rf"{files[name].name}: file: not a readable HDF5 file"):
        explain_cells(**files, config=AttributionConfig(cells=3))
    assert not files["attribution"].exists()


@pytest.mark.parametrize("how", BREAKS)
def test_the_window_of_a_broken_file_is_not_guessed(tmp_path: Path, how: str) -> None:
    path = write_patches(tmp_path / "wide.h5", 128)
    assert field_px(path) == 128
    break_file(path, how)
    with pytest.raises(UserError, match=r"wide.h5: file: not a readable HDF5 file"):
        field_px(path)
