"""A bundle may be an archive: it is unpacked once and then read like any other."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

CELLS = "results/demo/slides/mine/cells.parquet"


@pytest.fixture(params=["zip", "gztar"])
def archived(mine, request):
    """The same slide with its bundle as an archive: project, archive, and the cells as read from the folder."""
    project, bundle = mine
    assert project.snakemake(CELLS).returncode == 0
    cells = pd.read_parquet(project.folder / CELLS)
    shutil.rmtree(project.folder / "results")
    archive = Path(shutil.make_archive(str(bundle), request.param, bundle.parent, bundle.name))
    shutil.rmtree(bundle)
    sheet = project.folder / "config/slides.tsv"
    sheet.write_text(sheet.read_text().replace("mine/outs", str(archive.relative_to(project.folder))))
    return project, archive, cells


def test_an_archive_gives_the_same_cells(archived):
    project, _, cells = archived
    assert project.planned(CELLS) == {"unpack_bundle": 1, "read_cells": 1, "total": 2}
    assert project.snakemake(CELLS).returncode == 0
    pd.testing.assert_frame_equal(pd.read_parquet(project.folder / CELLS), cells)
    assert "Nothing to be done" in project.snakemake(CELLS).stdout + project.snakemake(CELLS).stderr


def test_an_archive_that_was_cut_off_stops_the_run(archived):
    project, archive, _ = archived
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    done = project.snakemake(CELLS)
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    (line,) = {line for line in printed.splitlines() if line.startswith("error: ")}
    assert "not a readable archive, or cut off" in line
    assert "Traceback" not in printed
    assert not (project.folder / "resources/unpacked/mine/experiment.xenium").exists()


def test_an_archive_that_is_missing_stops_before_any_job(archived):
    project, archive, _ = archived
    archive.unlink()
    assert f"mine, bundle: {archive.relative_to(project.folder)} does not exist" in project.snakemake("-n").stderr
