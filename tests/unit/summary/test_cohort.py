from pathlib import Path

import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import COHORT, LABELS, SPLIT
from nuclass_pipeline.summary.cohort import summarize_cohort
from nuclass_pipeline.tables.cohort import build


def _write(root: Path, slide: str, labels: list[str], parts: list[str]) -> tuple[Path, Path]:
    cells = [f"c{i}" for i in range(len(labels))]
    optional = dict.fromkeys(["cluster", "candidate", "lineage", "reason"], "")
    label = pd.DataFrame(
        {
            "cell_id": cells,
            "label": labels,
            "confidence": 1.0,
            "lineage_confidence": 1.0,
            "source": None,
            "support": 1.0,
            "margin": 1.0,
            "purity": 1.0,
            **optional,
        }
    )
    write_table(label, root / slide / "labels.parquet", LABELS)
    split = pd.DataFrame({"cell_id": cells[: len(parts)], "subset": parts, "block": "b", "reason": None})
    write_table(split, root / slide / "split.parquet", SPLIT)
    return root / slide / "labels.parquet", root / slide / "split.parquet"


def _summarize(root: Path, files: dict[str, tuple[Path, Path]]) -> pd.DataFrame:
    labels, splits = zip(*files.values(), strict=True)
    summarize_cohort(
        labels=labels,
        splits=splits,
        slides=list(files),
        organs={"a": "lung", "b": "ovary"},
        roles={"a": "train", "b": "heldout"},
        run="r",
        cohort=root / "cohort.parquet",
    )
    return read_table(root / "cohort.parquet", COHORT)


def test_a_slide_that_is_only_labelled_has_no_subset(tmp_path: Path) -> None:
    first, (labels, _) = _write(tmp_path, "a", ["T_Cell"], ["train"]), _write(tmp_path, "b", ["B_Cell", "Unresolved"], [])
    summarize_cohort(
        labels=[first[0], labels],
        splits=[first[1]],
        slides=["a", "b"],
        organs={"a": "lung", "b": "ovary"},
        roles={"a": "train", "b": "label"},
        run="r",
        cohort=tmp_path / "cohort.parquet",
    )
    frame = read_table(tmp_path / "cohort.parquet", COHORT).set_index(["slide", "role", "subset", "label"])["cells"]
    assert frame["b"].to_dict() == {("label", "all", "B_Cell"): 1, ("label", "all", "Unresolved"): 1}
    summarize_cohort(
        labels=[labels], splits=[], slides=["b"], organs={"b": "ovary"}, roles={"b": "label"}, run="r", cohort=tmp_path / "one.parquet"
    )
    row = build(cohort=tmp_path / "one.parquet").iloc[0].to_dict()
    assert row == {"slide": "b", "organ": "ovary", "role": "label", "cells": 2, "labelled": 1, "coverage": 0.5, "classes": 1}


def test_counts_by_slide_subset_and_class(tmp_path: Path) -> None:
    first = _write(tmp_path, "a", ["T_Cell", "T_Cell", "Unresolved", "B_Cell", "B_Cell"], ["train", "train", "train", "excluded"])
    frame = _summarize(tmp_path, {"a": first, "b": _write(tmp_path, "b", ["T_Cell"], ["heldout"])})
    cells = frame.set_index(["slide", "subset", "label"])["cells"]
    assert cells["a"].to_dict() == {
        ("all", "B_Cell"): 2,
        ("all", "T_Cell"): 2,
        ("all", "Unresolved"): 1,
        ("excluded", "B_Cell"): 1,
        ("train", "T_Cell"): 2,
        ("train", "Unresolved"): 1,
    }
    assert cells["b", "heldout", "T_Cell"] == 1
    assert frame.groupby("slide")[["organ", "role"]].first().to_numpy().tolist() == [["lung", "train"], ["ovary", "heldout"]]


def test_a_split_of_other_cells_is_refused(tmp_path: Path) -> None:
    labels, _ = _write(tmp_path, "a", ["T_Cell"], ["train"])
    _, split = _write(tmp_path, "b", ["T_Cell", "T_Cell"], ["train", "train"])
    with pytest.raises(UserError, match="'c1' is not in"):
        _summarize(tmp_path, {"a": (labels, split)})
