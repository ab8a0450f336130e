"""The files of a bundle that a rerun depends on are those that the reader reads."""

from pathlib import Path

import pytest

from nuclass_pipeline.config.slides import READ_FILES, Slide
from nuclass_pipeline.data.xenium.cells import CELL_READERS
from nuclass_pipeline.data.xenium.checks.agreement import MORPHOLOGY
from nuclass_pipeline.data.xenium.columns import SUFFIXES
from nuclass_pipeline.data.xenium.gene_names import PANEL_FILE
from nuclass_pipeline.data.xenium.matrix import MATRIX_READERS

SLIDE = {"slide": "a", "organ": "lung", "bundle": "mine/outs", "image": "mine/he.tif"}


def test_the_names_are_those_of_the_readers():
    tables = ("transcripts", "cell_boundaries", "nucleus_boundaries")
    assert (
        *((name,) for name in CELL_READERS),
        tuple("cell_feature_matrix/*" if name == "cell_feature_matrix" else name for name in MATRIX_READERS),
        *(tuple(f"{name}{suffix}" for suffix in SUFFIXES) for name in tables),
        (PANEL_FILE,),
        MORPHOLOGY,
    ) == READ_FILES


def make(folder, *names):
    for name in names:
        path = folder / "mine/outs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("bundle", ["mine/outs", "/absolute"])
def test_those_that_are_there_and_read_are_listed(tmp_path, monkeypatch, bundle):
    monkeypatch.chdir(tmp_path)
    make(
        tmp_path,
        "cells.parquet",
        "cells.csv.gz",
        "cell_feature_matrix.h5",
        "cell_feature_matrix/matrix.mtx.gz",
        "cell_feature_matrix.zarr.zip",
    )
    make(tmp_path, "transcripts.csv.gz", "transcripts.parquet", "nucleus_boundaries.csv", "metrics_summary.csv", "experiment.xenium")
    make(tmp_path, "morphology.ome.tif", "morphology_focus/morphology_focus_0000.ome.tif", "morphology_focus/morphology_focus_0001.ome.tif")
    bundle = str(tmp_path / "mine/outs") if bundle.startswith("/") else bundle
    found = Slide(kind="xenium", **SLIDE | {"bundle": bundle}).bundle_files
    assert found == [
        f"{bundle}/{name}"
        for name in (
            "cells.parquet",
            "cells.csv.gz",
            "cell_feature_matrix.h5",
            "transcripts.parquet",
            "nucleus_boundaries.csv",
            "morphology_focus/morphology_focus_0000.ome.tif",
            "morphology_focus/morphology_focus_0001.ome.tif",
        )
    ]


def test_a_matrix_of_a_folder_or_a_zarr_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "cells.zarr.zip", "cell_feature_matrix.zarr.zip")
    slide = Slide(kind="xenium", **SLIDE)
    assert slide.bundle_files == ["mine/outs/cells.zarr.zip", "mine/outs/cell_feature_matrix.zarr.zip"]
    make(tmp_path, *(f"cell_feature_matrix/{name}.gz" for name in ("matrix.mtx", "features.tsv", "barcodes.tsv")))
    assert [Path(name).name for name in slide.bundle_files] == [
        "cells.zarr.zip",
        "barcodes.tsv.gz",
        "features.tsv.gz",
        "matrix.mtx.gz",
    ]


@pytest.mark.parametrize(
    "made",
    [
        {"kind": "synthetic", "bundle": "resources/synthetic/a/outs", "image": "resources/synthetic/a/a_he_image.ome.tif"},
        {"kind": "xenium", "bundle": "mine/outs.zip"},
        {
            "kind": "xenium",
            "bundle": "resources/xenium/a/outs",
            "image": "resources/xenium/a/a_he_image.ome.tif",
            "bundle_url": "https://host/a.zip",
            "image_url": "https://host/a.tif",
        },
    ],
)
def test_a_bundle_that_a_rule_makes_lists_none(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    slide = Slide(**SLIDE | made)
    folder = tmp_path / slide.bundle
    folder.mkdir(parents=True)
    (folder / "cells.parquet").touch()
    assert slide.bundle_files == []
