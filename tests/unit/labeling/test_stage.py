"""Labels follow planted types, do not depend on names of clusters, and are withheld without evidence."""

import csv
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.labeling.accuracy import accuracy_at_coverage, score_labels, score_labels_table
from nuclass_pipeline.schemas import CLUSTERS, LABELS, METRICS, TRUTH
from nuclass_pipeline.vocabulary import UNRESOLVED


def _slide(folder: Path, cells: ad.AnnData) -> Path:
    from nuclass_pipeline.expression.clustering import cluster_cells

    cells.write_h5ad(folder / "counts.h5ad")
    cluster_cells(
        counts=folder / "counts.h5ad",
        config=ClusteringConfig(components=10),
        clusters=folder / "clusters.parquet",
        stability=folder / "clustering.json",
    )
    return folder


@pytest.fixture(scope="module")
def truth(slide):
    return ad.read_h5ad(slide / "counts.h5ad").obs


@pytest.fixture(scope="module")
def labels(label, tmp_path_factory):
    return label(tmp_path_factory.mktemp("labels"))


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


def test_names_of_clusters_play_no_part(slide, label, labels, tmp_path):
    clusters = pd.read_parquet(slide / "clusters.parquet")
    renamed = {name: f"x{i}" for i, name in enumerate(sorted(clusters["cluster"].dropna().unique(), reverse=True))}
    write_table(clusters.assign(cluster=clusters["cluster"].map(renamed)), tmp_path / "clusters.parquet", CLUSTERS)
    again = label(tmp_path, clusters=tmp_path / "clusters.parquet")
    pd.testing.assert_frame_equal(again.drop(columns="cluster"), labels.drop(columns="cluster"))


def test_a_shuffled_marker_table_labels_next_to_nothing(slide, label, markers_tsv, tmp_path):
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


def test_genes_missing_from_the_panel_are_no_obstacle(draw_cells, label, tmp_path):
    cells = draw_cells(without=("CD3D", "CD3E", "TRAC", "CD68", "PECAM1", "EPCAM", "MS4A1"))
    found = label(tmp_path, _slide(tmp_path, cells))
    good = ~cells.obs["poor"].to_numpy()
    assert (found["label"][good].to_numpy() == cells.obs["truth"][good].to_numpy()).mean() > 0.95


def test_no_marker_on_the_panel_means_no_label(draw_cells, label, tmp_path):
    cells = draw_cells()
    cells.var_names = [name.lower() for name in cells.var_names]
    found = label(tmp_path, _slide(tmp_path, cells))
    assert (found["label"] == UNRESOLVED).all()
    assert set(found["reason"]) == {"poor quality", "weak support"}


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
    found = label(tmp_path, _slide(tmp_path, alone), knowledge=knowledge)
    assert (found["label"] == "T_Cell").mean() > 0.95


@pytest.mark.parametrize("n", [1, 7, 23])
def test_a_handful_of_cells_is_enough(draw_cells, label, tmp_path, n):
    assert len(label(tmp_path, _slide(tmp_path, draw_cells()[:n].copy()))) == n


def test_scores_by_hand():
    found = score_labels_table(["A", "A", "B", None], ["A", "B", "B", "A"], ["A", UNRESOLVED, "B", "A"])
    assert found == pytest.approx(
        {"accuracy": 2 / 3, "macro_f1": 2 / 3, "coverage": 2 / 3, "selective_accuracy": 1, "selective_macro_f1": 1}
    )
    assert np.isnan(score_labels_table([None], ["A"], ["A"])["accuracy"])


def test_accuracy_at_coverage_by_hand():
    right = np.array([True, False, True, True, False, True, True, True, True, False])
    confidence = np.array([0.9, 0.1, 0.8, 0.7, 0.3, 0.6, 0.6, 0.4, 0.35, 0.2])
    found = accuracy_at_coverage(right, confidence)
    assert found == pytest.approx({"0.5": 1, "0.6": 1, "0.7": 1, "0.8": 7 / 8, "0.9": 7 / 9, "1": 0.7})
    # Cells that are equally sure cannot be told apart: all or none.
    assert set(accuracy_at_coverage(right, np.ones(10)).values()) == {0.7}


def test_scores_become_metrics(truth, labels, tmp_path):
    known = pd.DataFrame({"cell_id": truth.index.astype(str), "label": truth["truth"].astype(str), "niche": "x", "poor": truth["poor"]})
    write_table(known.sample(frac=1, random_state=0), tmp_path / "truth.parquet", TRUTH)
    write_table(labels, tmp_path / "labels.parquet", LABELS)
    score_labels(
        labels=[tmp_path / "labels.parquet"],
        truths=[tmp_path / "truth.parquet"],
        slides=["s"],
        organs={"s": "lung"},
        run="r",
        metrics=tmp_path / "metrics.parquet",
    )
    found = read_table(tmp_path / "metrics.parquet", METRICS).set_index("metric")
    assert found["value"]["accuracy"] > 0.99
    assert found["value"]["poor_unresolved"] == 1
    assert found["n"]["accuracy"] == (~truth["poor"]).sum()


def test_labelling_does_not_need_scanpy():
    code = "import sys, nuclass_pipeline.labeling.stage; raise SystemExit('scanpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
