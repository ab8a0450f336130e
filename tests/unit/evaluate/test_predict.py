"""Predictions are those of the stored probabilities and of the gate, cell by cell."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from nuclass_pipeline.config.models import GateConfig, LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.predict import collapse, predict_slide
from nuclass_pipeline.io import read_table, read_warnings, write_table
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.gate import Gate
from nuclass_pipeline.schemas import METRICS, PREDICTIONS
from tests.unit.train.toys import BREAKS, break_file, damage

CLASSES = ("Acinar", "Ductal", "T_Cell")
GATE = GateConfig(projection=4, hidden=(6, 5))
META = CheckpointMetadata(
    kind="global",
    classes=CLASSES,
    organs=("lung",),
    mpp=0.25,
    local=LocalConfig(),
    backbone={},
    dims={"local": 8, "global": 6, "context": 3},
    seed=0,
)
N = 20


def write_features(path: Path, rng: np.random.Generator) -> np.ndarray:
    ids = np.array([f"c{number}" for number in rng.permutation(N)], dtype=object)
    with h5py.File(path, "w") as file:
        file.create_dataset("cell_id", data=ids, dtype=h5py.string_dtype())
        for name, size in (("local", 8), ("global", 6)):
            file[f"{name}_feature"] = rng.normal(size=(N, size)).astype(np.float16)
            file[f"{name}_p"] = rng.dirichlet(np.ones(3), size=N).astype(np.float32)
        file.attrs["meta"] = META.model_dump_json()
    return ids


def write_tables(folder: Path) -> dict[str, Path]:
    ids = [f"c{number}" for number in range(N + 3)]
    labels = pd.DataFrame({"cell_id": ids, "label": ["Acinar"] * N + ["Unresolved"] * 3, "confidence": 0.9})
    split = pd.DataFrame({"cell_id": ids, "subset": "heldout", "block": [f"b{n % 3}" for n in range(N + 3)]})
    cells = pd.DataFrame({"cell_id": ids, "x_um": np.arange(N + 3.0), "y_um": 2.0})
    for name, frame in (("labels", labels), ("split", split), ("cells", cells)):
        frame.to_parquet(folder / f"{name}.parquet")
    with h5py.File(folder / "patches.h5", "w") as file:
        file.create_dataset("keys", data=ids[::-1], dtype=h5py.string_dtype())
        file["padded"] = np.array([cell == "c4" for cell in ids[::-1]])
    return {name: folder / f"{name}.parquet" for name in ("labels", "split", "cells")} | {"patches": folder / "patches.h5"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    write_features(tmp_path / "features.h5", np.random.default_rng(0))
    gate = Gate(8, 6, GATE).eval()
    save_checkpoint(tmp_path / "gate.ckpt", gate, META.model_copy(update={"kind": "gate", "gate": GATE}))
    outputs = {name: tmp_path / f"out/{name}.parquet" for name in ("local", "global_", "gate")}
    return {"features": tmp_path / "features.h5", "checkpoint": tmp_path / "gate.ckpt", **write_tables(tmp_path), **outputs}


def test_three_tables_of_one_truth(files: dict[str, Any]) -> None:
    predict_slide(**files)
    tables = {name: read_table(files[name], PREDICTIONS) for name in ("local", "global_", "gate")}
    columns = [f"p_{name}" for name in CLASSES]
    with h5py.File(files["features"]) as file:
        for name, key in (("local", "local_p"), ("global_", "global_p")):
            np.testing.assert_array_equal(tables[name][columns], file[key][:])
        assert tables["gate"]["cell_id"].tolist() == file["cell_id"].asstr()[:].tolist()
    assert (tables["local"]["gate_weight"] == 0).all()
    assert (tables["global_"]["gate_weight"] == 1).all()
    mixed = tables["gate"]
    assert mixed["gate_weight"].between(0, 1).all()
    assert mixed["gate_weight"].std() > 0
    g = mixed["gate_weight"].to_numpy()[:, None]
    np.testing.assert_allclose(mixed[columns], (1 - g) * tables["local"][columns] + g * tables["global_"][columns], atol=1e-6)
    np.testing.assert_allclose(mixed[columns].sum(axis=1), 1, atol=1e-5)
    for table in tables.values():
        assert (table["predicted"] == [CLASSES[i] for i in table[columns].to_numpy().argmax(1)]).all()


def test_blocks_of_any_size_give_the_same_tables(files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(files["features"], "a") as file:
        file.attrs["warnings"] = '["of the features"]'
    predict_slide(**files)
    one = {name: tmp_path / f"one/{name}.parquet" for name in ("local", "global_", "gate")}
    monkeypatch.setattr("nuclass_pipeline.evaluate.predict.PREDICT_BATCH", 3)
    monkeypatch.setattr("nuclass_pipeline.evaluate.predict.WRITTEN_ROWS", 7)
    predict_slide(**{**files, **one})
    for name, path in one.items():
        assert [pq.ParquetFile(path).metadata.row_group(group).num_rows for group in range(3)] == [7, 7, 6]
        pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(files[name]), rtol=1e-6)
        assert read_warnings(path) == read_warnings(files[name]) == ["of the features"]
        assert pd.read_parquet(path).dtypes.astype(str).tolist()[:8] == ["object"] * 4 + ["float64"] * 2 + ["bool", "object"]


def test_a_failed_block_leaves_no_table(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclass_pipeline.evaluate.predict.WRITTEN_ROWS", 7)
    with h5py.File(files["features"], "a") as file:
        file["local_p"][15] = 3
    with pytest.raises(UserError, match="local_p: the probabilities of a cell do not sum to 1"):
        predict_slide(**files)
    assert not [path for name in ("local", "global_", "gate") for path in files[name].parent.glob("*")]


def test_a_cell_named_twice_is_refused(files: dict[str, Any]) -> None:
    with h5py.File(files["features"], "a") as file:
        file["cell_id"][3] = file["cell_id"][5]
    with pytest.raises(UserError, match=r"features\.h5: cell_id: .* occurs twice"):
        predict_slide(**files)


def test_cells_keep_their_attributes(files: dict[str, Any]) -> None:
    predict_slide(**files)
    table = read_table(files["gate"], PREDICTIONS).set_index("cell_id")
    assert len(table) == N
    assert (table["x_um"] == [float(cell[1:]) for cell in table.index]).all()
    assert (table["block"] == [f"b{int(cell[1:]) % 3}" for cell in table.index]).all()
    assert table.index[table["padded"]].tolist() == ["c4"]


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_calibrated_probabilities_stand_beside_the_raw_ones(files: dict[str, Any], tmp_path: Path, temperature: float) -> None:
    rows = [
        {
            "run": "r",
            "model": model,
            "variant": "base",
            "probabilities": "calibrated",
            "seed": seed,
            "slide": "pooled",
            "organ": "all",
            "label": "all",
        }
        | {"label_set": "open", "metric": "temperature", "value": value, "ci_low": np.nan, "ci_high": np.nan, "n_cells": 9}
        for seed in (0, 7)
        for model, value in {"local": 1.0, "global": 9.0, "gate": temperature if seed else 8.0}.items()
    ]
    write_table(pd.DataFrame(rows), tmp_path / "temperatures.parquet", METRICS)
    predict_slide(**files, temperatures=tmp_path / "temperatures.parquet", seed=7)
    gate, local = (read_table(files[name], PREDICTIONS) for name in ("gate", "local"))
    raw, calibrated = (gate[[f"{letter}_{name}" for name in CLASSES]].to_numpy(float) for letter in "pc")
    power = raw ** (1 / temperature)
    np.testing.assert_allclose(calibrated, power / power.sum(axis=1, keepdims=True), atol=1e-6)
    assert (gate["confidence"] == calibrated.max(axis=1).astype(np.float32)).all()
    assert (gate["predicted"] == [CLASSES[i] for i in calibrated.argmax(axis=1)]).all()
    np.testing.assert_allclose(local[[f"c_{name}" for name in CLASSES]], local[[f"p_{name}" for name in CLASSES]], atol=1e-6)
    with pytest.raises(UserError, match=r"temperatures\.parquet: model: there is no temperature for local, seed 1"):
        predict_slide(**files, temperatures=tmp_path / "temperatures.parquet", seed=1)


def test_a_training_slide_has_no_calibrated_columns(files: dict[str, Any]) -> None:
    predict_slide(**files)
    assert not [name for name in read_table(files["gate"], PREDICTIONS) if name.startswith("c_") or name == "confidence"]


@pytest.mark.parametrize(
    ("predicted", "labels", "warned"),
    [
        (["A"] * 96 + ["B"] * 4, ["A"] * 50 + ["B"] * 50, ["96 % of 100 cells are predicted as A; 50 % of its labels are"]),
        (["A"] * 96 + ["B"] * 4, ["Unresolved"] * 100, ["96 % of 100 cells are predicted as A; the slide has no labels to compare with"]),
        (["A"] * 96 + ["B"] * 4, ["A"] * 97 + ["Unresolved"] * 3, []),
        (["A"] * 95 + ["B"] * 5, ["A"] * 50 + ["B"] * 50, []),
        ([], [], []),
    ],
)
def test_a_collapsed_prediction_is_a_warning(predicted: list[str], labels: list[str], warned: list[str]) -> None:
    assert collapse(Counter(predicted), Counter(labels)) == warned


def test_a_table_without_the_cells_is_refused(files: dict[str, Any]) -> None:
    pd.read_parquet(files["labels"]).head(5).to_parquet(files["labels"])
    with pytest.raises(UserError, match=r"labels.parquet: cell_id: \d+ cells of .* are missing"):
        predict_slide(**files)
    assert not files["gate"].exists()


def test_a_gate_of_other_models_is_refused(files: dict[str, Any]) -> None:
    other = META.model_copy(update={"kind": "gate", "gate": GATE, "classes": ("Acinar", "Ductal", "B_Cell")})
    save_checkpoint(files["checkpoint"], Gate(8, 6, GATE), other)
    with pytest.raises(UserError, match="trained on other models"):
        predict_slide(**files)


def test_a_foreign_feature_file_is_refused(files: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not a file of embed_cells"):
        predict_slide(**{**files, "features": files["patches"]})


def test_a_feature_file_that_contradicts_itself_is_refused(files: dict[str, Any]) -> None:
    with h5py.File(files["features"], "r+") as file:
        file.attrs["classes"] = list(CLASSES)
    predict_slide(**files)
    with h5py.File(files["features"], "r+") as file:
        file.attrs["classes"] = list(CLASSES[::-1])
    with pytest.raises(UserError, match=r"features\.h5: classes: the attribute differs from that in meta"):
        predict_slide(**files)


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["features", "patches"])
def test_a_broken_file_is_named(files: dict[str, Any], name: str, how: str) -> None:
    break_file(files[name], how)
    with pytest.raises(UserError, match=rf"{files[name].name}: file: not a readable HDF5 file"):
        predict_slide(**files)
    assert not files["gate"].exists()


@pytest.mark.parametrize("name", ["local_feature", "global_feature", "local_p", "global_p"])
def test_a_feature_file_without_a_dataset_is_refused(files: dict[str, Any], name: str) -> None:
    with h5py.File(files["features"], "a") as file:
        del file[name]
    with pytest.raises(UserError, match=rf"features\.h5: {name}: the dataset is missing\. Remove the file"):
        predict_slide(**files)


@pytest.mark.parametrize("name", ["keys", "padded"])
def test_context_patches_without_a_dataset_are_refused(files: dict[str, Any], name: str) -> None:
    with h5py.File(files["patches"], "a") as file:
        del file[name]
    with pytest.raises(UserError, match=rf"patches\.h5: {name}: the dataset is missing\. Make the patches again"):
        predict_slide(**files)


@pytest.mark.parametrize(("name", "dataset"), [("features", "local_p"), ("patches", "padded")])
def test_a_file_damaged_in_the_middle_is_named(files: dict[str, Any], name: str, dataset: str) -> None:
    damage(files[name], dataset)
    with pytest.raises(UserError, match=rf"{files[name].name}: file: not a readable HDF5 file \(.*\)\. Copy the file again"):
        predict_slide(**files)
    assert not files["gate"].exists()


def _change(dataset: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        values = change(file[dataset][:])
        del file[dataset]
        file[dataset] = values

    return apply


@pytest.mark.parametrize(
    ("dataset", "change", "problem"),
    [
        ("local_p", lambda p: p * 3, "local_p: the probabilities of a cell do not sum to 1"),
        ("global_p", lambda p: np.where(p == p.max(), np.nan, p), "global_p: a value is not finite"),
        ("local_feature", lambda x: x[:, :-1], r"local_feature: has the shape \("),
        ("global_feature", lambda x: x[:-1], r"global_feature: has the shape \("),
    ],
)
def test_features_of_another_model_are_refused(
    files: dict[str, Any], dataset: str, change: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    with h5py.File(files["features"], "r+") as file:
        _change(dataset, change)(file)
    with pytest.raises(UserError, match=rf"{files['features'].name}: {problem}.* Remove the file and run again"):
        predict_slide(**files)
