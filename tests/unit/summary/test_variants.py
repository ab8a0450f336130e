"""Variants beside the base: paired differences on the cells that both scored with one label."""

import pandas as pd
import pytest

from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.schemas import VARIANTS
from nuclass_pipeline.summary.variants import summarize_variants
from tests.unit.evaluate.test_two_runs import CONFIG, a_run

SCORES = {"slides": ("s", "t"), "models": ("local", "gate"), "seeds": (0, 1)}


def compared(folder, names, notes=()):
    summarize_variants(
        heldout=[], predictions=[], results=str(folder), names=names, notes=notes, run="r", config=CONFIG, variants=folder / "v.parquet"
    )
    return read_table(folder / "v.parquet", VARIANTS).set_index(["variant", "slide", "model", "metric"])


def test_each_variant_has_its_scores_and_its_difference_from_the_base(tmp_path):
    for variant, wrong in (("base", range(40)), ("better", range(20)), ("same", range(40))):
        a_run(tmp_path, wrong, variant=variant, **SCORES)
    rows = compared(tmp_path, ["better", "same"], ["better: a note"])
    accuracy = rows.xs("accuracy", level="metric")
    cells = int(accuracy.loc[("base", "s", "gate"), "n_cells"])
    assert accuracy["value"].round(9).to_dict() == pytest.approx(
        {key: 1 - {"base": 40, "better": 20, "same": 40}[key[0]] / cells for key in accuracy.index}
    )
    assert set(accuracy.index.get_level_values("slide")) == {"s", "t", "mean"}
    better = accuracy.loc[("better", "mean", "gate")]
    assert better["difference"] == pytest.approx(20 / cells)
    assert better["difference_low"] <= better["difference"] <= better["difference_high"]
    assert better["n_cells"] == 2 * cells
    same = rows.loc["same"]
    assert (same[["difference", "difference_low", "difference_high"]] == 0).all().all()
    assert rows.loc["base", "difference"].isna().all()
    assert set(rows.index.get_level_values("metric")) == {"macro_f1", "accuracy", "ece"}
    assert read_warnings(tmp_path / "v.parquet") == ["better: a note"]


def test_a_single_slide_has_no_mean(tmp_path):
    for variant in ("base", "same"):
        a_run(tmp_path, range(40), variant=variant)
    assert set(compared(tmp_path, ["same"]).index.get_level_values("slide")) == {"s"}


def test_cells_with_another_label_are_left_out_and_counted(tmp_path):
    a_run(tmp_path, range(40))
    a_run(tmp_path, range(40), variant="strict")
    for path in tmp_path.glob("predictions/strict/gate/seed-0/s.parquet"):
        table = pd.read_parquet(path)
        table.loc[:9, "label"] = "Unresolved"
        table.loc[10:14, "label"] = next(name for name in table["label"].unique() if name not in {"Unresolved", table.loc[10, "label"]})
        schema = __import__("pyarrow.parquet", fromlist=["x"]).read_schema(path)
        __import__("pyarrow.parquet", fromlist=["x"]).write_table(__import__("pyarrow").Table.from_pandas(table, schema=schema), path)
    rows = compared(tmp_path, ["strict"])
    moved = (
        int((pd.read_parquet(path)["label"] != pd.read_parquet(tmp_path / "predictions/base/gate/seed-0/s.parquet")["label"]).sum()) - 10
    )
    base, strict = (rows.loc[(name, "s", "gate", "accuracy"), "n_cells"] for name in ("base", "strict"))
    assert base - strict == 10 + moved
    warning = (
        f"strict: labelled cells of s that are not compared with the base: {moved} have another label, 10 are scored in one of the two only"
    )
    assert read_warnings(tmp_path / "v.parquet") == [warning]
