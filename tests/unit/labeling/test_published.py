"""Labels against published ones: planted cells have the right scores, and each broken file is reported."""

import json

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.published import label_lineages, score_counts

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
    def run(organ="lung", **labeling):
        config = {"clustering": ClusteringConfig(components=10), "labeling": LabelingConfig(**labeling)}
        return score_counts(**files, organ=organ, knowledge=markers_tsv, **config)

    return run


def test_planted_lineages_are_found(score, draw_cells):
    found, truth = score(), draw_cells().obs
    poor = truth["poor"] & (truth["truth"] != "Endothelial")
    assert found["n_cells"] == (truth["truth"] != "Endothelial").sum()
    # Below 1, because poor cells fail quality control and count as wrong and not covered.
    assert found["accuracy"] == pytest.approx(1 - poor.sum() / found["n_cells"], abs=0.01)
    assert found["coverage"] == pytest.approx(found["accuracy"], abs=0.05)
    assert found["selective_accuracy"] == 1
    assert set(found["f1"]) == {"Lymphocytes", "Myeloid", "Epithelial", "Stromal"}
    assert min(found["f1"].values()) > 0.95
    assert found["accuracy_at_coverage"]["0.5"] == 1
    assert found["accuracy_at_coverage"]["1"] == pytest.approx(found["accuracy"])
    assert set(found["unscored_unresolved"]) == {"Endothelial"}
    json.dumps(found, allow_nan=False)


def test_published_labels_do_not_change_the_labels(score, files):
    before = score()
    labels = pd.read_csv(files["cells"])
    labels["label"] = np.random.default_rng(0).permutation(labels["label"])
    labels.to_csv(files["cells"], index=False)
    after = score()
    assert after["accuracy"] < 0.5
    # As many cells are covered as before, over scored and unscored cells together.
    covered = [run["coverage"] * run["n_cells"] + (1 - run["unscored_unresolved"]["Endothelial"]) * 60 for run in (before, after)]
    assert covered[0] == pytest.approx(covered[1])


def test_the_min_confidence_of_the_config_decides_which_cells_are_labelled(score):
    assert score(min_confidence=1)["coverage"] == 0
    assert score(min_confidence=0)["coverage"] == 1


def test_the_seed_of_the_config_draws_the_doublets(draw_cells, markers_tsv):
    known = draw_cells(), "lung", ["Lymphocytes", "Stromal"], markers_tsv, ClusteringConfig(components=10)
    first, again, other = (label_lineages(*known, LabelingConfig(seed=seed)) for seed in (0, 0, 7))
    pd.testing.assert_frame_equal(first, again)
    assert (first["confidence"] != other["confidence"]).sum() > 400
    assert (first["candidate"] == other["candidate"]).all()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("counts", "cell,A\n1,2\n", "cell_id"),
        ("counts", "cell_id,A\ncell0,1.5\n", "1.5 is not a count"),
        ("counts", "cell_id,A\ncell0,x\n", "not numbers"),
        ("counts", "cell_id,A\ncell0,1\ncell0,1\n", "occurs twice"),
        ("counts", "cell_id,A\ncell0,-1\n", "-1 is not a count"),
        ("counts", "cell_id,A\ncell0,\n", "not numbers|nan is not a count"),
        ("cells", "cell_id,label\ncell0,T_Cell\n", "has no row"),
        ("cells", "cell_id,name\ncell0,T_Cell\n", "label"),
        ("lineages", "label\tlineage\nT_Cell\tT\n", "has no row"),
        ("lineages", "".join(["label\tlineage\n", *(f"{name}\tGremlin\n" for name in LINEAGES)]), "Gremlin"),
    ],
)
def test_errors_are_one_line_with_the_file(score, files, name, text, message):
    path = files[name] = files[name].with_name(f"broken_{name}.txt")
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        score()
    assert path.name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_organ_is_an_error(score):
    with pytest.raises(UserError, match="toe"):
        score(organ="toe")
