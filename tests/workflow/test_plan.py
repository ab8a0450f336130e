"""`nuclass plan` beside a dry run of Snakemake."""

import subprocess
import sys

import pytest


def plan(project, *arguments):
    command = [sys.executable, "-m", "nuclass_pipeline.cli", "plan", *arguments]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)


def jobs_in(screen):
    """Return rule → jobs, from the table."""
    rows = [line.split() for line in screen.rpartition("─")[2].splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def test_the_plan_has_the_jobs_of_a_dry_run(project):
    done = plan(project, "--configfile", "config/demo.yaml")
    assert done.returncode == 0, done.stderr
    assert jobs_in(done.stdout) == project.planned()
    assert "GPU h" in done.stdout
    assert "cells: 12,500 on 5 slides, by the run file, the slide sheet" in done.stdout


def test_a_target_has_a_plan_of_its_own(project):
    done = plan(project, "labels", "--configfile", "config/demo.yaml")
    assert jobs_in(done.stdout) == project.planned("labels")


def test_the_paper_is_planned_without_weights_and_without_a_gpu(project):
    done = plan(project, "--configfile", "config/paper.yaml")
    assert done.returncode == 0, done.stderr
    jobs = jobs_in(done.stdout)
    assert (jobs["fetch_slide"], jobs["embed_windows"], jobs["train_global"]) == (12, 12, 1)
    assert "unknown: 200,000 cells assumed for breast-1, heart-1, kidney-1 and 8 more" in done.stdout
    (total,) = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["total"]]
    assert float(total[2]) > 32
    assert float(total[4]) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labelz"], "error: nuclass plan: target: no rule makes labelz."),
        (["--configfile", "config/dem.yaml"], "error: config/dem.yaml: file: it does not exist."),
    ],
)
def test_a_mistake_is_one_line(project, arguments, message):
    options = [] if "--configfile" in arguments else ["--configfile", "config/demo.yaml"]
    done = plan(project, *arguments, *options)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith(message)
