"""Real cells with published labels: the scores of docs/labels.md, with a small tolerance."""

import importlib.util

import numpy as np
import pytest

from tests import ROOT

RARE = ("Dendritic", "Mast", "Perivascular")


@pytest.fixture(scope="module")
def scores(real_data):
    data = real_data / "breast_rep1_labelled"
    if not data.is_dir():
        pytest.skip(f"no labelled cells at {data}")
    spec = importlib.util.spec_from_file_location("label_breast", ROOT / "benchmarks/label_breast.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark.score(data, seed=0)


def test_forced_choice(scores):
    assert scores["n_cells"] == 8309
    assert scores["accuracy"] > 0.92
    assert scores["macro_f1"] > 0.82
    assert np.mean([value for lineage, value in scores["f1"].items() if lineage not in RARE]) > 0.89


def test_labelled_cells(scores):
    assert scores["coverage"] > 0.8
    assert scores["selective_accuracy"] > 0.98
    assert scores["accuracy_at_coverage"]["0.8"] > 0.98


def test_hybrid_and_unlabelled_cells_are_unresolved(scores):
    assert scores["unscored_unresolved"]["Stromal_&_T_Cell_Hybrid"] > 0.6
    assert scores["unscored_unresolved"]["Unlabeled"] > 0.8
