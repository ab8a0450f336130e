"""Warnings of all kinds of files come together, each with its slide and its result."""

from pathlib import Path

import h5py
import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json, write_table
from nuclass_pipeline.schemas import PREDICTIONS, WARNINGS
from nuclass_pipeline.summary.warnings import collect_warnings
from tests.unit.evaluate.planted import one_hot, write_predictions

# Of no matter which schema, because the warnings lie beside the rows.
NO_ROWS = pd.DataFrame(columns=["slide", "stage", "warning"], dtype=object)


def _files(root: Path) -> dict[str, list[Path]]:
    folder = root / "results/demo/slides/lung-1"
    write_json({"verdict": "good", "warnings": ["shifted by 9 µm"]}, folder / "registration.json")
    with h5py.File(folder / "image.h5", "w") as file:
        file.attrs["warnings"] = '["half of it is empty"]'
    write_table(NO_ROWS, folder / "split.parquet", WARNINGS, ["small", "B_Cell: val 0"])
    quiet = write_predictions(root / "results/demo", one_hot([0], 3), ["Acinar"], slide="lung-1", seed=7)
    write_table(NO_ROWS, root / "results/demo/metrics/base/heldout.parquet", WARNINGS, ["<b>worse</b>"])
    return {
        "registration": [folder / "registration.json"],
        "image": [folder / "image.h5"],
        "split": [folder / "split.parquet"],
        "predictions": [quiet],
        "heldout_metrics": [root / "results/demo/metrics/base/heldout.parquet"],
    }


def test_warnings_of_all_kinds_of_files_are_collected(tmp_path: Path) -> None:
    collect_warnings(**_files(tmp_path), warnings=tmp_path / "w.parquet")
    assert read_table(tmp_path / "w.parquet", WARNINGS).to_numpy().tolist() == [
        ["lung-1", "registration", "shifted by 9 µm"],
        ["lung-1", "image", "half of it is empty"],
        ["lung-1", "split", "small"],
        ["lung-1", "split", "B_Cell: val 0"],
        ["", "heldout_metrics", "<b>worse</b>"],
    ]


def test_warnings_about_predictions_name_model_and_seed(tmp_path: Path) -> None:
    path = _files(tmp_path)["predictions"][0]
    write_table(pd.read_parquet(path), path, PREDICTIONS, ["96 % of 100 cells are predicted as Acinar"])
    collect_warnings(predictions=[path], warnings=tmp_path / "w.parquet")
    row = read_table(tmp_path / "w.parquet", WARNINGS).iloc[0].tolist()
    assert row == ["lung-1", "predictions", "gate, seed 7: 96 % of 100 cells are predicted as Acinar"]


def test_a_run_without_warnings_has_an_empty_table(tmp_path: Path) -> None:
    collect_warnings(predictions=_files(tmp_path)["predictions"], warnings=tmp_path / "w.parquet")
    assert read_table(tmp_path / "w.parquet", WARNINGS).empty


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"slides/a/split\.parquet: file: it does not exist"):
        collect_warnings(split=[tmp_path / "slides/a/split.parquet"], warnings=tmp_path / "w.parquet")
    assert not (tmp_path / "w.parquet").exists()
