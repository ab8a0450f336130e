"""Real cells with published labels: the figures reached, with a small tolerance."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def scores(real_data, tmp_path_factory):
    data = real_data / "breast_rep1_labelled"
    if not data.is_dir():
        pytest.skip(f"no labelled cells at {data}")
    spec = importlib.util.spec_from_file_location("label_breast", ROOT / "benchmarks/label_breast.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    folder = tmp_path_factory.mktemp("breast")
    lineage = benchmark.prepare(data, folder)
    return benchmark.score(lineage, benchmark.label(folder))


def test_forced_choice(scores):
    assert scores["accuracy"] > 0.895
    assert scores["macro_f1"] > 0.795


def test_labelled_cells(scores):
    assert scores["coverage"] > 0.80
    assert scores["selective_accuracy"] > 0.925


def test_hybrids_are_withheld_more_often(scores):
    assert scores["unscored_unresolved"] > 1.5 * (1 - scores["coverage"])
