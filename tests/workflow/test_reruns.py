"""Reruns as Snakemake plans them. No stage runs: the outputs are files of one line with records."""

import os
import shutil
import subprocess
import time

import pytest

from tests import ROOT
from tests.workflow.project import Project

pytestmark = pytest.mark.long

MOVED = (("results", ".snakemake"), ("results/demo", "resources"))


class Made(Project):
    """A project with its own copy of the package."""

    def snakemake(self, *arguments):
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src")}
        return subprocess.run(self.command(*arguments), cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo with a file that holds its own name for every output, and Snakemake's records of them."""
    project = Made(tmp_path_factory.mktemp("made"))
    shutil.copytree(ROOT / "src", project.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    summary = project.snakemake("--summary").stdout.splitlines()[1:]
    for name in (line.split("\t")[0] for line in summary):
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)  # Two slides of one image are refused.
    done = project.snakemake("--touch", "--forceall")
    assert done.returncode == 0, done.stderr[-2000:]
    return project


def move(made, folder, *parts):
    """Return a fresh copy of the project with only `parts` of the results, and times that have lost their order."""
    project = Made(folder, made.folder)
    (folder / "src").symlink_to(made.folder / "src")
    for part in parts:
        shutil.copytree(made.folder / part, folder / part)
    moved = sorted(path for path in folder.rglob("*") if path.is_file())
    for age, path in enumerate(sorted(moved, key=lambda path: path.suffix)):
        os.utime(path, (time.time() - age, time.time() - age))
    return project


@pytest.mark.parametrize("parts", [("results",), *(pytest.param(p, marks=pytest.mark.slow) for p in MOVED)])
def test_moved_results_and_touched_scripts_plan_nothing(made, tmp_path, parts):
    project = move(made, tmp_path, *parts)
    for script in (project.folder / "workflow/scripts").iterdir():
        script.touch()
    done = project.snakemake("-n")
    assert "Nothing to be done" in done.stdout, done.stdout[-2000:]


def test_a_figure_from_metrics_and_predictions_is_one_job(made, tmp_path):
    project = move(made, tmp_path, "results/demo/metrics", "results/demo/predictions")
    assert project.planned("figure_confusion") == {"figure_confusion": 1, "total": 1}


@pytest.mark.parametrize("copy", ["-a", pytest.param("-r", marks=pytest.mark.slow)])
def test_results_laid_over_others_take_their_records_along(made, tmp_path, copy):
    project = move(made, tmp_path, "results", ".snakemake")
    (project.folder / "src").unlink()
    shutil.copytree(made.folder / "src", project.folder / "src")
    stage = project.folder / "src/nuclass_pipeline/evaluate/comparison.py"
    stage.write_text(stage.read_text() + "\n\nCHANGED = 1\n")
    assert project.snakemake("--touch", "--forceall").returncode == 0
    subprocess.run(["cp", copy, made.folder / "results/demo", project.folder / "results"], check=True)
    assert set(project.planned()) == {"compare_paths", "figure_complementarity", "summarize_runtime", "build_report", "all", "total"}


def test_damaged_records_are_a_warning_and_times_decide(made, tmp_path):
    project = move(made, tmp_path, "results")
    for number, copy in enumerate(sorted((project.folder / "results").rglob(".jobs.json"))):
        copy.write_text(["[]", '{"a": 3}', "{"][number % 3])
    done = project.snakemake("-n")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "results/demo/.jobs.json: file: it holds no records that can be read" in done.stderr


def test_a_changed_line_reruns_its_stage_and_what_follows(made, tmp_path):
    project = move(made, tmp_path, "results")
    (project.folder / "src").unlink()
    shutil.copytree(made.folder / "src", project.folder / "src")
    stage = project.folder / "src/nuclass_pipeline/evaluate/comparison.py"
    stage.write_text(stage.read_text() + "\n\nCHANGED = 1\n")
    assert set(project.planned()) == {"compare_paths", "figure_complementarity", "summarize_runtime", "build_report", "all", "total"}


def test_a_table_in_place_of_another_reruns_what_reads_it_although_it_is_older(made, tmp_path):
    project = move(made, tmp_path, "results", "resources")
    markers = project.folder / "config/markers.tsv"
    markers.write_text("".join(markers.read_text().splitlines(keepends=True)[:-1]))
    os.utime(markers, (0, 0))
    jobs = project.planned()
    assert (jobs["label_cells"], jobs["propose_labels"]) == (4, 4)
    assert not {"read_cells", "cluster_cells", "build_image"} & set(jobs)


SECOND = ("--configfile", "config/second.yaml")


def with_second(made, folder):
    """Return a copy of the project with a second run, which has other encoders and uses the slides of the first."""
    project = move(made, folder, "results", "resources", ".snakemake")
    shutil.copyfile(folder / "config/demo.yaml", folder / "config/second.yaml")
    project.edit(lambda raw: raw.update(run="second", slides_from="demo"), "second")
    project.edit(lambda raw: raw["local"].update(backbone={"name": "tiny-vit", "image_px": 112}), "second")
    project.edit(lambda raw: raw["global"]["context"].update(image_px=96), "second")
    return project


def test_a_run_with_other_encoders_makes_no_slide_of_the_first_again(made, tmp_path):
    jobs = with_second(made, tmp_path).planned(*SECOND)
    of_slides = {"read_cells", "register_image", "build_image", "segment_nuclei", "cluster_cells", "rank_markers", "find_domains"}
    of_slides |= {"label_cells", "propose_labels", "figure_labels", "extract_patches", "split_cells"}
    assert of_slides <= {path.stem for path in (ROOT / "workflow/scripts").iterdir()} | {"figure_labels"}
    assert not of_slides & set(jobs)
    assert [jobs[rule] for rule in ("train_local", "embed_cells", "predict_slide", "summarize_cohort", "build_report")] == [1, 5, 5, 1, 1]


@pytest.mark.slow
def test_neither_of_two_runs_that_share_slides_reruns_the_other(made, tmp_path):
    project = with_second(made, tmp_path)
    for name in (line.split("\t")[0] for line in project.snakemake("--summary", *SECOND).stdout.splitlines()[1:]):
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.exists() or path.write_text(name)
    assert project.snakemake("--touch", *SECOND).returncode == 0
    assert not (project.folder / "results/second/slides/demo-lung-1/labels.parquet").exists()
    for run in ((), SECOND):
        assert "Nothing to be done" in project.snakemake("-n", *run).stdout
