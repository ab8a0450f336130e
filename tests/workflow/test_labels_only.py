"""A study that only labels slides, for real: a bundle without an H&E, from a folder outside the project to the report."""

import subprocess
import sys

import anndata as ad
import pandas as pd
import pytest

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.io import read_json, read_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.schemas import COHORT, LABELS, WARNINGS
from tests.workflow.project import Project

pytestmark = pytest.mark.slow

SAME = [
    *("cells.parquet", "clustering.json", "clusters.parquet", "counts.h5ad", "domains.parquet", "gene_scores.parquet"),
    *("labels.csv", "labels.parquet", "markers.parquet", "proposals.tsv"),
]
"""Results that hold the name of neither run nor slide."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the project, and the folder of a study whose run has ended."""
    project, study = Project(tmp_path_factory.mktemp("project")), tmp_path_factory.mktemp("study")
    paths = {"image": study / "he.ome.tif", "alignment": study / "m.csv", "truth": study / "truth.parquet"}
    make_slide(organ="lung", seed=5, config=SyntheticConfig(cells=300), manifest=study / "outs/experiment.xenium", **paths)
    for path in paths.values():
        path.unlink()
    (study / "slides.tsv").write_text("slide\tkind\torgan\tbundle\nmine\txenium\tlung\touts\n")
    (study / "run.yaml").write_text("run: mine\nslides: slides.tsv\nstudy: {label: [mine]}\n")
    command = project.command("-s", f"{project.folder}/Snakefile", "--configfile", "run.yaml", "--directory", ".")
    done = subprocess.run(command, cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return project, study


def test_everything_lies_beside_the_run_file(finished):
    project, study = finished
    results = study / "results/mine"
    assert {"report.html", "config.yaml", "manifest.json"} <= {path.name for path in results.iterdir()}
    assert not list(results.rglob("*.ckpt")) + list(results.rglob("image.h5")) + list(results.rglob("predictions"))
    assert not (project.folder / "results").exists()
    cells = len(read_table(results / "slides/mine/labels.parquet", LABELS))
    assert len(pd.read_csv(results / "slides/mine/labels.csv")) == len(ad.read_h5ad(results / "slides/mine/labels.h5ad")) == cells
    assert read_table(results / "metrics/cohort.parquet", COHORT)["role"].unique().tolist() == ["label"]
    assert set(read_table(results / "metrics/warnings.parquet", WARNINGS)["stage"]) <= {"manifest"}
    assert "outs/experiment.xenium" in read_json(results / "manifest.json")["inputs"]


def test_the_report_shows_labels_and_no_scores(finished):
    page = (finished[1] / "results/mine/report.html").read_text()
    assert 'id="labels-mine"' in page
    assert 'id="warnings"' in page
    assert 'id="scores"' not in page


def test_the_command_gives_the_same_bytes(finished, tmp_path):
    study = finished[1]
    command = [sys.executable, "-m", "nuclass_pipeline.cli", "label", str(study / "outs"), "--organ=lung", f"--out={tmp_path / 'mine'}"]
    done = subprocess.run(command, cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = study / "results/mine/slides/mine"
    assert [name for name in SAME if (tmp_path / "mine" / name).read_bytes() != (made / name).read_bytes()] == []


def test_a_slide_that_is_only_labelled_joins_a_study_of_models(project):
    before = project.planned()
    project.edit(lambda raw: raw["study"].update(label=["demo-lung-3"]))
    project.edit(lambda raw: raw["synthetic"]["seeds"].update({"demo-lung-3": 13}))
    start = "resources/synthetic/demo-lung-3"
    paths = {"image": f"{start}/demo-lung-3_he_image.ome.tif", "alignment": f"{start}/demo-lung-3_he_imagealignment.csv"}
    project.add_slide(slide="demo-lung-3", kind="synthetic", organ="lung", bundle=f"{start}/outs", **paths)
    after = project.planned()
    labelling = (
        *("read_cells", "cluster_cells", "rank_markers", "find_domains", "label_cells", "propose_labels", "figure_labels"),
        *("export_labels", "make_slide"),
    )
    assert {rule: after[rule] - before[rule] for rule in after if after[rule] != before[rule]} == dict.fromkeys(labelling, 1) | {"total": 9}


def test_the_example_of_a_run_file_labels_a_slide_of_the_demo(project):
    jobs = project.planned("--configfile", "config/labels_only.yaml")
    assert (jobs["make_slide"], jobs["export_labels"], jobs["build_report"]) == (1, 1, 1)
    assert not {"register_image", "build_image", "split_cells", "train_local", "predict_slide", "score_predictions"} & set(jobs)
