from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import COHORT
from nuclass_pipeline.tables import cohort
from tests.unit.tables import fakes


def test_cohort_counts_and_coverage(tmp_path: Path) -> None:
    table = cohort.build(cohort=fakes.write_cohort(tmp_path / "c.parquet"))
    assert list(table) == ["slide", "organ", "role", "cells", "labelled", "coverage", "classes", "train", "buffer", "heldout"]
    assert table.iloc[0].tolist() == ["z-1", "lung", "train", 100, 80, 0.8, 2, 90, 5, 0]
    assert table.iloc[1].tolist() == ["a-2", "ovary", "heldout", 1500, 1500, 1.0, 1, 0, 0, 1500]


def test_a_slide_without_labels_has_coverage_zero(tmp_path: Path) -> None:
    row = {"run": "r", "slide": "a", "organ": "lung", "role": "train", "subset": "all", "label": "Unresolved", "cells": 3}
    write_table(pd.DataFrame([row]), tmp_path / "c.parquet", COHORT)
    assert cohort.build(cohort=tmp_path / "c.parquet")[["labelled", "coverage", "classes"]].iloc[0].tolist() == [0, 0, 0]
