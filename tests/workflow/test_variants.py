"""Variants of a run: which jobs each adds, and a run in which two variants are trained and compared."""

from collections import Counter

import pandas as pd
import pytest

from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.results import open_run
from nuclass_pipeline.schemas import VARIANTS
from tests.workflow.project import Project
from tests.workflow.test_frozen import frozen, write_trio

SCORING = {"train_gate": 1, "predict_slide": 4, "fit_temperatures": 1, "calibrate_models": 1, "score_predictions": 1}
"""Jobs of every variant, with four slides of training and test."""
GLOBAL = {**SCORING, "train_global": 1, "embed_cells": 4}
LOCAL = {**GLOBAL, "train_local": 1}
SHARED = {"summarize_variants": 1, "table_variants": 1}
"""Jobs of any number of variants."""
CASES = {
    "gate": ({"gate": {"hidden": [8, 8]}}, SCORING),
    "global": ({"global": {"use_context": False}}, GLOBAL),
    "plain-loss": ({"global": {"fused_weight": 0, "global_weight": 1}}, GLOBAL),
    "local": ({"local": {"conditioning": "concat"}}, LOCAL),
    "split": ({"split": {"buffer_um": 0}}, {**LOCAL, "split_variant": 4}),
    "labels": ({"labeling": {"min_confidence": 0.9}}, {**LOCAL, "label_variant": 4, "split_variant": 4}),
    "crop": ({"image": {"local_um": 32}}, {**LOCAL, "extract_windows": 4}),
    "context": ({"image": {"context_um": 128}}, {**GLOBAL, "extract_windows": 4}),
    "frozen-context": ({"global": {"context": {"freeze": True}}}, {**GLOBAL, "embed_windows": 4}),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The plan of the demo without variants."""
    return Project(tmp_path_factory.mktemp("before")).planned()


def added(project, before, variants):
    """Return the jobs that variants add to the plan of the demo."""
    project.edit(lambda raw: raw.update(variants=variants))
    after = project.planned()
    return {rule: after[rule] - before.get(rule, 0) for rule in after if after[rule] != before.get(rule) and rule != "total"}


def test_no_variant_is_no_further_job(before):
    assert before["total"] == 96
    assert not {"summarize_variants", "table_variants", "label_variant", "split_variant", "extract_windows"} & set(before)


@pytest.mark.parametrize("name", ["gate", "labels", "frozen-context"])
def test_a_variant_adds_what_it_changes(project, before, name):
    change, jobs = CASES[name]
    assert added(project, before, {name: change}) == jobs | SHARED


def test_many_variants_add_what_each_of_them_adds(project, before):
    total = sum((Counter(jobs) for _, jobs in CASES.values()), Counter())
    assert added(project, before, {name: change for name, (change, _) in CASES.items()}) == dict(total) | SHARED


def test_variants_share_what_is_equal(project, before):
    concat = {"conditioning": "concat"}
    both = {"concat": {"local": concat}, "concat-small": {"local": concat, "gate": {"hidden": [8, 8]}}}
    assert added(project, before, both) == {rule: LOCAL[rule] + SCORING.get(rule, 0) for rule in LOCAL} | SHARED


def test_results_of_the_base_need_no_variant(project):
    project.edit(lambda raw: raw.update(variants={"concat": {"local": {"conditioning": "concat"}}}))
    jobs = project.planned("table_heldout", "figures")
    assert (jobs["train_local"], jobs["predict_slide"], jobs["score_predictions"]) == (1, 5, 1)


def variant_study(raw):
    frozen(raw, "one", tables={1: "heldout", 2: "variants"})
    raw["study"] |= {"train": ["a"], "heldout": ["c"]}
    raw["local"]["organ_dropout"] = 0.2
    raw["variants"] = {
        "concat": {"local": {"conditioning": "concat"}, "split": {"buffer_um": 2}},
        "mlp": {"gate": {"kind": "mlp", "projection": 8, "hidden": [8, 8], "optim": {"max_epochs": 2}}},
    }
    raw["evaluation"] = {"bootstrap": 50}


@pytest.mark.slow
def test_variants_are_trained_and_compared(project):
    for number, name in enumerate("ac"):
        write_trio(project.folder / "trios" / name, number)
        project.add_slide(slide=name, kind="trio", organ="lung", bundle=f"trios/{name}")
    project.edit(variant_study)
    done = project.snakemake("tab2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = project.folder / "results/one"
    trained = sorted(path.parent.parent.relative_to(results / "models").as_posix() for path in results.glob("models/*/*/seed-0/best.ckpt"))
    assert trained == [*(f"{name}/{model}" for name in ("base", "concat") for model in ("gate", "global", "local")), "mlp/gate"]
    assert len(list(results.glob("slides/*/features/tiny-vit.*.h5"))) == 4
    assert sorted(path.name for path in results.glob("slides/c/features/cells.*")) == ["cells.base.seed-0.h5", "cells.concat.seed-0.h5"]
    assert sorted(path.relative_to(results).as_posix() for path in results.glob("variants/**/*.parquet")) == [
        f"variants/concat/slides/{slide}/split.parquet" for slide in "ac"
    ]
    rows = read_table(results / "metrics/variants.parquet", VARIANTS)
    assert set(rows["variant"]) == {"base", "concat", "mlp"}
    run = open_run(results)
    for name in set(rows["variant"]):
        scores = run.scores(variant=name)
        assert set(scores["variant"]) == {name}
        shown = scores[(scores["metric"] == "accuracy") & (scores["label"] == "all") & (scores["slide"] == "c")]
        shown = shown[(shown["probabilities"] == "raw") & (shown["label_set"] == "open")].set_index("model")["value"]
        found = rows[(rows["variant"] == name) & (rows["metric"] == "accuracy") & (rows["slide"] == "c")].set_index("model")["value"]
        pd.testing.assert_series_equal(found.sort_index(), shown.sort_index())
        assert run.predictions("c", variant=name)["cell_id"].is_unique
    # The gate alone differs, so both paths predict the same.
    alike = rows[(rows["variant"] == "mlp") & rows["model"].isin(["local", "global"])]
    assert (alike["difference"] == 0).all()
    assert run.classifier(variant="mlp").gate.__class__.__name__ == "Gate"
    assert run.classifier(variant="concat").meta.feature_dims["local"] == 64 + 64
    (warning,) = read_warnings(results / "metrics/variants.parquet")
    assert warning.startswith("concat: split.buffer_um is 2 µm, less than a context window (16 µm)")
    table = pd.read_csv(results / "tables/variants.tsv", sep="\t")
    assert len(table) == 3 * 3
    # What is computed stays so: another variant adds its own jobs alone.
    project.edit(lambda raw: raw["variants"].update(none={"local": {"conditioning": "none", "organ_dropout": 0}}))
    jobs = project.planned("tab2")
    assert (jobs["train_local"], jobs["train_global"], jobs["embed_cells"], jobs["score_predictions"]) == (1, 1, 2, 1)
    assert "embed_windows" not in jobs
