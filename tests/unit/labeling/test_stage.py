"""Labels follow planted types, do not depend on names of clusters, and are withheld without evidence."""

import csv
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_warnings, write_table
from nuclass_pipeline.labeling import calibration
from nuclass_pipeline.labeling.accuracy import score_labels_table
from nuclass_pipeline.schemas import CLUSTERS
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests.unit.planted_types import write_planted_clusters


@pytest.fixture(scope="module")
def truth(slide):
    return ad.read_h5ad(slide / "counts.h5ad").obs


def test_labels_follow_the_planted_types(truth, labels):
    assert list(labels["cell_id"]) == list(truth.index)
    good = ~truth["poor"].to_numpy()
    scores = score_labels_table(truth["truth"][good], labels["candidate"][good], labels["label"][good])
    assert scores["accuracy"] > 0.99
    assert scores["coverage"] > 0.95
    assert scores["selective_accuracy"] > 0.99


def test_poor_cells_are_unresolved(truth, labels):
    poor = labels[truth["poor"].to_numpy()]
    assert (poor["label"] == UNRESOLVED).all()
    assert (poor["reason"] == "poor quality").all()
    assert (poor["confidence"] == 0).all()


def test_numbers_are_shares_and_reasons_go_with_abstention(labels):
    assert labels["confidence"].between(0, 1).all()
    assert labels[["support", "margin", "purity"]].dropna().apply(lambda c: c.between(0, 1)).to_numpy().all()
    assert ((labels["label"] == UNRESOLVED) == labels["reason"].notna()).all()


def test_names_of_clusters_have_no_influence(slide, label, labels, tmp_path):
    clusters = pd.read_parquet(slide / "clusters.parquet")
    renamed = {name: f"x{i}" for i, name in enumerate(sorted(clusters["cluster"].dropna().unique(), reverse=True))}
    write_table(clusters.assign(cluster=clusters["cluster"].map(renamed)), tmp_path / "clusters.parquet", CLUSTERS)
    again = label(tmp_path, clusters=tmp_path / "clusters.parquet")
    pd.testing.assert_frame_equal(again.drop(columns="cluster"), labels.drop(columns="cluster"))


def test_a_shuffled_marker_table_labels_almost_no_cell(slide, label, markers_tsv, tmp_path, monkeypatch):
    # Fewer doublets than usual, because the permutation null decides here, and 24 slides are labelled.
    monkeypatch.setattr(calibration, "N_DOUBLETS", 2000)
    with markers_tsv.open() as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    panel = set(ad.read_h5ad(slide / "counts.h5ad").var_names)
    genes = sorted({row[1] for row in rows[1:]} & panel)
    unresolved = []
    for seed in range(24):
        renamed = dict(zip(genes, np.random.default_rng(seed).permutation(genes), strict=True))
        shuffled = tmp_path / "markers.tsv"
        shuffled.write_text("".join("\t".join([row[0], renamed.get(row[1], row[1]), *row[2:]]) + "\n" for row in rows))
        unresolved.append((label(tmp_path, knowledge=shuffled)["label"] == UNRESOLVED).mean())
    assert np.mean(unresolved) > 0.95


def test_types_are_found_without_some_of_their_markers_on_the_panel(draw_cells, label, tmp_path):
    cells = draw_cells(without=("CD3D", "CD3E", "TRAC", "CD68", "PECAM1", "EPCAM", "MS4A1"))
    found = label(tmp_path, write_planted_clusters(tmp_path, cells))
    good = ~cells.obs["poor"].to_numpy()
    assert (found["label"][good].to_numpy() == cells.obs["truth"][good].to_numpy()).mean() > 0.95


def test_no_marker_on_the_panel_means_no_label(draw_cells, label, tmp_path):
    cells = draw_cells()
    cells.var_names = [name.lower() for name in cells.var_names]
    found = label(tmp_path, write_planted_clusters(tmp_path, cells))
    assert (found["label"] == UNRESOLVED).all()
    assert set(found["reason"]) == {"poor quality", "weak support"}
    assert read_warnings(tmp_path / "labels.parquet") == ["0 of 18 cell types of the lung have a marker on the panel"]


def test_a_mouse_panel_is_refused_unless_a_person_labels_the_cells(draw_cells, label, tmp_path):
    cells = draw_cells()
    cells.var_names = [name.capitalize() for name in cells.var_names]
    folder = write_planted_clusters(tmp_path, cells)
    with pytest.raises(UserError) as caught:
        label(tmp_path, folder)
    assert str(caught.value) == (
        f"{tmp_path}/counts.h5ad: panel: 1 of 18 cell types of the lung have a marker on the panel; the gene names look like those of a "
        "mouse. Name a marker table with the genes of the panel: --markers FILE, or "
        "labeling.markers in the run file."
    )
    assert not (tmp_path / "labels.parquet").exists()
    (tmp_path / "mine.csv").write_text("".join(["cell_id,label\n", *(f"{name},T_Cell\n" for name in cells.obs_names)]))
    (tmp_path / "map.tsv").write_text("raw\tclass\treason\nT_Cell\tT_Cell\t\n")
    found = label(tmp_path, folder, provided=tmp_path / "mine.csv", label_map=tmp_path / "map.tsv")
    assert set(found["label"]) == {"T_Cell"}
    (warning,) = read_warnings(tmp_path / "labels.parquet")
    assert warning.startswith("1 of 18 cell types of the lung have a marker on the panel; the gene names look like those of a mouse")


def test_a_type_outside_the_study_keeps_its_candidate(label, truth, tmp_path):
    found = label(tmp_path, classes=("T_Cell", "Macrophage"))
    assert set(found["label"]) == {"T_Cell", "Macrophage", UNRESOLVED}
    fibroblasts = found[(truth["truth"] == "Fibroblast").to_numpy() & ~truth["poor"].to_numpy()]
    assert (fibroblasts["candidate"] == "Fibroblast").mean() > 0.95
    assert (fibroblasts["reason"] == "not a class of the study").mean() > 0.95


def test_a_type_absent_from_the_slide_gets_no_cells(truth, labels):
    assert set(labels["label"]) <= {*truth["truth"], UNRESOLVED}


def test_one_type_alone(draw_cells, label, markers_tsv, tmp_path):
    cells = draw_cells()
    alone = cells[(cells.obs["truth"] == "T_Cell") & ~cells.obs["poor"]].copy()
    knowledge = tmp_path / "markers.tsv"
    knowledge.write_text("".join(line for line in markers_tsv.open() if line.startswith(("class", "T_Cell"))))
    found = label(tmp_path, write_planted_clusters(tmp_path, alone), knowledge=knowledge)
    assert (found["label"] == "T_Cell").mean() > 0.95


@pytest.mark.parametrize("n", [1, 7, 23])
def test_a_handful_of_cells_is_enough(draw_cells, label, tmp_path, n):
    assert len(label(tmp_path, write_planted_clusters(tmp_path, draw_cells()[:n].copy()))) == n


@pytest.mark.parametrize("min_confidence", [0.0, 0.6, 0.95, 1.0])
def test_cells_below_the_min_confidence_of_the_config_are_unresolved(draw_cells, label, tmp_path, min_confidence):
    # A slide with faint markers, because its confidences spread from 0.1 to 0.99.
    folder = write_planted_clusters(tmp_path, draw_cells(depth=30, purity=0.25))
    found = label(tmp_path, folder, config=LabelingConfig(min_confidence=min_confidence))
    passed = found["reason"] != "poor quality"
    labelled = found["label"] != UNRESOLVED
    assert (labelled == (passed & (found["confidence"] >= min_confidence))).all()
    assert (found["label"][labelled] == found["candidate"][labelled]).all()
    between = (found["confidence"] >= min(0.83, min_confidence)) & (found["confidence"] < max(0.83, min_confidence))
    assert between[passed].any()


def test_the_seed_of_the_config_draws_the_doublets(label, labels, tmp_path):
    found = label(tmp_path, config=LabelingConfig(seed=7))
    pd.testing.assert_frame_equal(found, label(tmp_path, config=LabelingConfig(seed=7)))
    passed = labels["reason"] != "poor quality"
    assert (found["confidence"][passed] != labels["confidence"][passed]).all()
    np.testing.assert_allclose(found["confidence"], labels["confidence"], atol=0.05)
    measured = ["candidate", "lineage", "support", "margin", "purity"]
    pd.testing.assert_frame_equal(found[measured], labels[measured])


def test_labelling_does_not_need_scanpy():
    code = "import sys, nuclass_pipeline.labeling.stage; raise SystemExit('scanpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
