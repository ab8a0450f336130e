"""What a user sees when an input is wrong: one line, no traceback, and no output."""

import re
import subprocess

import h5py
import numpy as np
import pandas as pd
import pytest


def edit_cells(bundle, **columns):
    frame = pd.read_parquet(bundle / "cells.parquet").assign(**columns)
    frame.to_parquet(bundle / "cells.parquet")


def cut_matrix(bundle):
    path = bundle / "cell_feature_matrix.h5"
    path.write_bytes(path.read_bytes()[:5000])


def rename_barcodes(bundle):
    with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
        del file["matrix/barcodes"]


CASES = {
    "missing cells": (lambda b: (b / "cells.parquet").unlink(), "cells.parquet: neither it nor cells.csv.gz is there"),
    "NaN centroid": (lambda b: edit_cells(b, x_centroid=np.nan), "x_centroid: 'nan' for cell"),
    "truncated matrix": (cut_matrix, "cell_feature_matrix.h5: file: not a readable"),
    "matrix without barcodes": (rename_barcodes, "cell_feature_matrix.h5: file: not a readable"),
    "singular alignment": (
        lambda b: (b.parent / "alignment.csv").write_text("1,2,0\n2,4,0\n0,0,1\n"),
        "alignment.csv: matrix: is singular",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_no_output(mine, case):
    project, bundle = mine
    damage, message = CASES[case]
    damage(bundle)
    done = project.snakemake("results/demo/slides/mine/registration.json")
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    (line,) = {line for line in printed.splitlines() if line.startswith("error: ")}
    assert message in line
    assert "Traceback" not in printed
    slide = project.folder / "results/demo/slides/mine"
    left = {path.name for path in slide.iterdir()} if slide.exists() else set()
    assert left == ({"cells.parquet", "counts.h5ad"} if case == "singular alignment" else set())


def test_a_missing_file_and_an_unknown_organ_stop_before_any_job(mine):
    project, bundle = mine
    (bundle / "experiment.xenium").unlink()
    assert "mine, bundle: mine/outs/experiment.xenium does not exist" in project.snakemake("-n").stderr
    sheet = project.folder / "config/slides.tsv"
    sheet.write_text(sheet.read_text().replace("\tlung\t\tmine", "\tspleen\t\tmine"))
    assert "organ: 'spleen'" in project.snakemake("-n").stderr


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (
            ["--configfile", "config/demo.yml"],
            "",
            "config/demo.yml: file: it does not exist. Name it as it is in config",
        ),
        (["--configfile", "config/demo.yaml", "slides"], "", "slides is a target. Targets go before --configfile"),
        (["--configfile", "a.yaml"], "run: a\nrun: b\n", "a.yaml: run: the key occurs twice, in line 1 and in line 2"),
        (
            ["--configfile", "config/demo.yaml", "a.yaml"],
            "split: {buffer_um: 1}\n",
            "a.yaml: split.buffer_um: 1 is less than half",
        ),
        (["--config", "seeds=-1"], "", "--config: seeds: -1: not a list"),
    ],
)
def test_a_run_file_that_cannot_be_used_is_one_line(project, arguments, text, message):
    (project.folder / "a.yaml").write_text(text)
    done = project.snakemake("-n", *arguments)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert message in line
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_a_buffer_below_a_context_window_is_noted_before_the_plan(project):
    note = "split.buffer_um: 128 is less than a context window (256 µm), so subsets may share pixels"
    printed = project.snakemake("-n").stdout
    assert printed.count("split.buffer_um") == 1 and printed.index(f"config/demo.yaml: {note}") < printed.index("Job stats:")
    project.edit(lambda raw: raw["split"].pop("buffer_um"))
    assert "split.buffer_um" not in project.snakemake("-n").stdout


@pytest.mark.parametrize("directory", [[], ["--directory", "."]])
def test_a_run_from_another_folder_finds_the_inputs_of_the_project(project, tmp_path_factory, directory):
    target = "results/demo/slides/demo-lung-1/labels.parquet"
    command = project.command("-n", "-s", str(project.folder / "Snakefile"), target, *directory)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^label_cells +1 +demo-lung-1 +new$", done.stdout, re.MULTILINE)
