"""Scores of labels, by hand and as rows of the metrics table."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.labeling.accuracy import accuracy_at_coverage, confidence_scores, score_labels, score_labels_table
from nuclass_pipeline.schemas import LABELS, METRICS, TRUTH
from nuclass_pipeline.vocabulary import UNRESOLVED


@pytest.fixture(scope="module")
def truth(slide):
    return ad.read_h5ad(slide / "counts.h5ad").obs


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
    # All or none, because cells that are equally sure cannot be ranked.
    assert set(accuracy_at_coverage(right, np.ones(10)).values()) == {0.7}


def test_confidence_scores_by_hand():
    right = np.array([True, True, False, True, False, False])
    confidence = np.array([0.95, 0.95, 0.95, 0.5, 0.5, 0.05])
    found = confidence_scores(right, confidence)
    # Three bins, with 2/3, 1/2 and 0 of their cells right.
    ece = (3 * (0.95 - 2 / 3) + 2 * 0 + 1 * 0.05) / 6
    # Of nine pairs: 0.95 wins against 0.5 and 0.05 twice and ties twice with 0.95; 0.5 loses to 0.95, ties with 0.5 and wins against 0.05.
    assert found == pytest.approx({"mean_confidence": 3.9 / 6, "ece": ece, "auroc_of_error": (4 + 2 * 0.5 + 0.5 + 1) / 9})
    assert np.isnan(confidence_scores(np.ones(3, bool), confidence[:3])["auroc_of_error"])


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
    assert found["n_cells"]["accuracy"] == (~truth["poor"]).sum()
