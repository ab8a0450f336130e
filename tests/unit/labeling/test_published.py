"""Labels compared with those of others: planted cells score right, and each broken file is told."""

import json

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.published import score_counts

LINEAGES = {
    "T_Cell": "Lymphocytes",
    "B_Cell": "Lymphocytes",
    "Macrophage": "Myeloid",
    "Epithelial_Malignant": "Epithelial",
    "Fibroblast": "Stromal",
    "Tumor_Associated_Fibroblast": "Stromal",
    "Endothelial": "",
}


@pytest.fixture
def files(draw_cells, tmp_path):
    cells = draw_cells()
    counts = pd.DataFrame(cells.X.toarray().astype(int), cells.obs_names.rename("cell_id"), cells.var_names)
    counts.to_csv(tmp_path / "counts.csv.gz")
    labels = cells.obs["truth"].rename("label").rename_axis("cell_id").sample(frac=1, random_state=0)
    labels.to_csv(tmp_path / "cells.csv")
    pd.Series(LINEAGES, name="lineage").rename_axis("label").to_csv(tmp_path / "lineages.tsv", sep="\t")
    return {"counts": tmp_path / "counts.csv.gz", "cells": tmp_path / "cells.csv", "lineages": tmp_path / "lineages.tsv"}


@pytest.fixture
def score(files, markers_tsv):
    def run(organ="lung", seed=0):
        config = {"clustering": ClusteringConfig(components=10, seed=seed), "labeling": LabelingConfig()}
        return score_counts(**files, organ=organ, knowledge=markers_tsv, **config)

    return run


def test_planted_lineages_are_found(score, draw_cells):
    found, truth = score(), draw_cells().obs
    poor = truth["poor"] & (truth["truth"] != "Endothelial")
    assert found["n"] == (truth["truth"] != "Endothelial").sum()
    # The poor cells fail quality control, and count as wrong and not covered.
    assert found["accuracy"] == pytest.approx(1 - poor.sum() / found["n"], abs=0.01)
    assert found["coverage"] == pytest.approx(found["accuracy"], abs=0.05)
    assert found["selective_accuracy"] == 1
    assert set(found["f1"]) == {"Lymphocytes", "Myeloid", "Epithelial", "Stromal"}
    assert min(found["f1"].values()) > 0.95
    assert found["accuracy_at_coverage"]["0.5"] == 1
    assert found["accuracy_at_coverage"]["1"] == pytest.approx(found["accuracy"])
    assert set(found["unscored_unresolved"]) == {"Endothelial"}
    json.dumps(found, allow_nan=False)


def test_the_published_labels_do_not_reach_the_labels(score, files):
    before = score()
    labels = pd.read_csv(files["cells"])
    labels["label"] = np.random.default_rng(0).permutation(labels["label"])
    labels.to_csv(files["cells"], index=False)
    after = score()
    assert after["accuracy"] < 0.5
    # As many cells are covered as before, over scored and unscored cells together.
    covered = [run["coverage"] * run["n"] + (1 - run["unscored_unresolved"]["Endothelial"]) * 60 for run in (before, after)]
    assert covered[0] == pytest.approx(covered[1])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("counts", "cell,A\n1,2\n", "cell_id"),
        ("counts", "cell_id,A\ncell0,1.5\n", "no counts"),
        ("counts", "cell_id,A\ncell0,x\n", "not numbers"),
        ("counts", "cell_id,A\ncell0,1\ncell0,1\n", "occurs twice"),
        ("cells", "cell_id,label\ncell0,T_Cell\n", "has no row"),
        ("cells", "cell_id,name\ncell0,T_Cell\n", "label"),
        ("lineages", "label\tlineage\nT_Cell\tT\n", "has no row"),
        ("lineages", "".join(["label\tlineage\n", *(f"{name}\tGremlin\n" for name in LINEAGES)]), "Gremlin"),
    ],
)
def test_mistakes_are_told(score, files, name, text, message):
    path = files[name] = files[name].with_name(f"broken_{name}.txt")
    path.write_text(text)
    with pytest.raises(UserError, match=message) as told:
        score()
    assert path.name in str(told.value)
    assert "\n" not in str(told.value)


def test_an_unknown_organ_is_told(score):
    with pytest.raises(UserError, match="toe"):
        score(organ="toe")
