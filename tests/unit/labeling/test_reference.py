"""Labels of a reference, transferred to a slide."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.reference import MIN_SHARED_GENES, check_reference, label_by_reference, transfer_labels
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests import ROOT
from tests.unit.planted_types import draw


def parts(cells):
    return cells.X, list(cells.var_names)


def test_planted_types_are_found_whatever_the_efficiency_of_each_gene():
    """The reference is deeper, has genes in another order, some of its own, and each with another efficiency."""
    slide, other = draw(seed=1), draw(seed=2, depth=600)
    efficiency = np.random.default_rng(0).lognormal(0, 1, other.n_vars)
    distorted = sparse.csr_matrix(np.random.default_rng(0).poisson(other.X.toarray() * efficiency))[:, ::-1]
    names = [*other.var_names[::-1][:-5], *(f"ELSE{i}" for i in range(5))]
    truth = other.obs["truth"].astype(str).where(~other.obs["poor"], "")
    found, accuracy = transfer_labels(*parts(slide), distorted, names, list(truth))
    rich = ~slide.obs["poor"].to_numpy()
    assert (found.idxmax(axis=1).to_numpy() == slide.obs["truth"].to_numpy())[rich].mean() > 0.97
    assert accuracy > 0.95
    np.testing.assert_allclose(found.sum(axis=1)[rich], 1)


def test_rare_labels_and_empty_cells_have_no_probability():
    slide, other = draw(seed=1), draw(seed=2)
    slide.X = sparse.csr_matrix(slide.X.toarray() * (np.arange(slide.n_obs) > 0)[:, None])
    labels = other.obs["truth"].astype(str).to_numpy(object)
    labels[np.flatnonzero(labels == "T_Cell")[9:]] = ""
    found, _ = transfer_labels(*parts(slide), *parts(other), labels)
    assert "T_Cell" not in found
    assert found.iloc[0].isna().all()
    assert found.iloc[1:].notna().all(axis=None)


def test_the_same_seed_gives_the_same_probabilities():
    slide, other = draw(seed=1), draw(seed=2)
    first, second = (transfer_labels(*parts(slide), *parts(other), list(other.obs["truth"]), seed=3)[0] for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_references_that_fit_nothing_are_refused():
    slide, other = draw(seed=1), draw(seed=2)
    few = other[:, : MIN_SHARED_GENES - 1]
    with pytest.raises(UserError, match=r"reference: genes: 19 genes are in common with the slide, and 20 are needed; here .*, there "):
        transfer_labels(*parts(slide), *parts(few), list(other.obs["truth"]))
    with pytest.raises(UserError, match=r"reference: labels: 1 labels have 10 cells or more, and two are needed"):
        transfer_labels(*parts(slide), *parts(other), ["T_Cell"] * other.n_obs)


def test_the_stage_compares_with_the_labels(labels, slide, tmp_path):
    other = draw(seed=2)
    other.obs["my type"] = other.obs["truth"].replace({"T_Cell": "CD8+ T cells", "Endothelial": "odd one"})
    # Of joined slides: their labels go by row.
    other.obs["barcode"] = "same"
    other.write_h5ad(tmp_path / "atlas.h5ad")
    check_reference(tmp_path / "atlas.h5ad", "my type")
    labels.to_parquet(tmp_path / "labels.parquet")
    made = {"probabilities": tmp_path / "reference.csv", "agreement": tmp_path / "reference.json"}
    given = {"counts": slide / "counts.h5ad", "labels": tmp_path / "labels.parquet", "label_map": ROOT / "config/labels.tsv"}
    label_by_reference(**given, reference=tmp_path / "atlas.h5ad", column="my type", seed=0, **made)
    frame = pd.read_csv(made["probabilities"]).set_index("cell_id")
    assert {"label", "probability", "p_T_Cell", "p_odd one"} <= set(frame.columns)
    own = labels.set_index("cell_id")["label"]
    labelled = own[own != UNRESOLVED]
    expected = int((frame["label"].loc[labelled.index] == labelled).sum())
    record = json.loads(made["agreement"].read_text())
    assert (record["agree"], record["labelled"]) == (expected, len(labelled))
    others = labelled[labelled != "Endothelial"]
    assert (frame["label"].loc[others.index] == others).mean() > 0.9
    assert set(frame["label"].loc[labelled.index[labelled == "Endothelial"]]) >= {"odd one"}
    assert record["held_out_accuracy"] > 0.9


def test_half_of_a_real_slide_labels_the_other(real_data):
    """The numbers of docs/labels.md: the published lineages of 8,568 breast cells."""
    data = real_data / "breast_rep1_labelled"
    counts = pd.read_csv(data / "counts.csv.gz", index_col=0)
    cells = pd.read_csv(data / "cells.csv.gz", index_col=0).groupby(level=0).first().loc[counts.index]
    lineages = pd.read_csv(data / "lineages.tsv", sep="\t").set_index("label")["lineage"]
    truth = cells["label"].map(lineages).fillna("").to_numpy(object)
    half = (cells["aligned_y"] < cells["aligned_y"].median()).to_numpy()
    ours, theirs = counts.to_numpy()[~half], counts.to_numpy()[half]
    efficiency = np.random.default_rng(0).lognormal(0, 1, counts.shape[1])
    for reference, expected in ((theirs, 0.88), (np.random.default_rng(0).poisson(theirs * efficiency), 0.87)):
        found, _ = transfer_labels(sparse.csr_matrix(ours), list(counts), sparse.csr_matrix(reference), list(counts), truth[half])
        scored = truth[~half] != ""
        right = (found.idxmax(axis=1).to_numpy() == truth[~half])[scored]
        assert right.mean() == pytest.approx(expected, abs=0.01)
        assert "Mast" not in found
