import json
import shutil

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.data.matrix import read_h5, read_mtx, read_zarr
from nuclass_pipeline.data.xenium import read_cell_table, read_cells, read_manifest
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import CELLS


@pytest.fixture
def bundle(real_data):
    return real_data / "xoa3.0_mouse_ileum_tiny"


@pytest.fixture
def copy(bundle, tmp_path):
    target = tmp_path / "outs"
    target.mkdir()
    for name in ("experiment.xenium", "cells.parquet", "cell_feature_matrix.h5"):
        shutil.copyfile(bundle / name, target / name)
    return target


def read(folder):
    read_cells(manifest=folder / "experiment.xenium", cells=folder / "out/cells.parquet", counts=folder / "out/counts.h5ad")


def test_the_real_bundle_is_read(copy):
    read(copy)
    cells = read_table(copy / "out/cells.parquet", CELLS)
    counts = anndata.read_h5ad(copy / "out/counts.h5ad")
    assert cells.shape[0] == 23
    assert counts.shape == (23, 5006)
    assert counts.obs_names.tolist() == cells["cell_id"].tolist()
    assert counts.X.sum() == 433
    assert cells["transcripts"].sum() == 433
    assert counts.obsm["spatial"] == pytest.approx(cells[["x_um", "y_um"]].to_numpy())


def test_the_matrix_is_equal_in_its_three_encodings(bundle):
    matrices = [
        read_h5(bundle / "cell_feature_matrix.h5"),
        read_mtx(bundle / "cell_feature_matrix.tar.gz"),
        read_zarr(bundle / "cell_feature_matrix.zarr.zip"),
    ]
    for other in matrices[1:]:
        assert other.counts.shape == (23, 13780)
        assert (matrices[0].counts != other.counts).nnz == 0
        assert (matrices[0].cell_ids == other.cell_ids).all()
        assert matrices[0].features[["name", "kind"]].equals(other.features[["name", "kind"]])


def test_ids_are_equal_across_files(bundle):
    ids = pd.read_parquet(bundle / "cells.parquet")["cell_id"].tolist()
    assert ids == pd.read_csv(bundle / "cells.csv.gz")["cell_id"].tolist()
    assert ids == read_h5(bundle / "cell_feature_matrix.h5").cell_ids.tolist()
    assert set(pd.read_parquet(bundle / "cell_boundaries.parquet")["cell_id"]) == set(ids)


def test_transcript_counts_are_those_of_the_transcripts(bundle):
    transcripts = pd.read_parquet(bundle / "transcripts.parquet")
    kept = transcripts[(transcripts["qv"] >= 20) & transcripts["is_gene"] & (transcripts["cell_id"] != "UNASSIGNED")]
    cells = read_cell_table(bundle).set_index("cell_id")
    counted = kept.groupby("cell_id").size().reindex(cells.index, fill_value=0)
    assert counted.sum() == 433
    assert (counted == cells["transcript_counts"]).all()


def test_old_bundles_have_integer_ids_and_compressed_csv(real_data):
    cells = read_cell_table(real_data / "xoa1.0.2_mouse_brain_ctxhp")
    assert len(cells) == 36602
    assert cells["cell_id"].iloc[0] == "1"
    assert set(cells["cell_id"]) == set(read_h5(real_data / "xoa1.0.2_mouse_brain_ctxhp/cell_feature_matrix.h5").cell_ids)


def test_cells_without_a_nucleus_keep_an_empty_area(real_data, tmp_path):
    table = read_cell_table(real_data / "xoa3.0_human_prime_cells_multiqc/sample2")
    assert (table["nucleus_area"].isna() == (table["nucleus_count"] == 0)).all()
    assert table["nucleus_area"].isna().sum() == 424


def edit_cells(folder, change):
    frame = pd.read_parquet(folder / "cells.parquet")
    change(frame).to_parquet(folder / "cells.parquet")


def cut_file(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_genes(folder):
    with h5py.File(folder / "cell_feature_matrix.h5", "r+") as file:
        file["matrix/features/feature_type"][...] = b"Protein"


BROKEN = {
    "no manifest": (lambda d: (d / "experiment.xenium").unlink(), "experiment.xenium: file"),
    "manifest cut": (lambda d: cut_file(d / "experiment.xenium"), "experiment.xenium: file: not valid JSON"),
    "no pixel size": (lambda d: (d / "experiment.xenium").write_text("{}"), "pixel_size"),
    "no cells": (lambda d: (d / "cells.parquet").unlink(), "cells.parquet: neither"),
    "cells cut": (lambda d: cut_file(d / "cells.parquet"), "cells.parquet: file: not a readable Parquet"),
    "renamed column": (lambda d: edit_cells(d, lambda f: f.rename(columns={"x_centroid": "x"})), "x_centroid: the column is missing"),
    "centroid is NaN": (lambda d: edit_cells(d, lambda f: f.assign(y_centroid=np.nan)), "y_centroid: 'nan' for cell"),
    "centroid is text": (lambda d: edit_cells(d, lambda f: f.assign(x_centroid="left")), "x_centroid: 'left' for cell"),
    "double id": (lambda d: edit_cells(d, lambda f: f.assign(cell_id="a-1")), "cell_id: 'a-1' occurs twice"),
    "foreign ids": (lambda d: edit_cells(d, lambda f: f.assign(cell_id=[f"z{i}-1" for i in range(len(f))])), "cell z0-1 of the cell table"),
    "no cell": (lambda d: edit_cells(d, lambda f: f.iloc[:0]), "cell_id: the table has no cell"),
    "no matrix": (lambda d: (d / "cell_feature_matrix.h5").unlink(), "cell_feature_matrix.h5: none of"),
    "matrix cut": (lambda d: cut_file(d / "cell_feature_matrix.h5"), "cell_feature_matrix.h5: file: not a readable"),
    "no genes": (drop_genes, "no feature of type 'Gene Expression'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_bundle_is_one_line_and_leaves_no_output(copy, case):
    damage, message = BROKEN[case]
    damage(copy)
    with pytest.raises(UserError) as refusal:
        read(copy)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list((copy / "out").glob("*")) if (copy / "out").exists() else True


@pytest.mark.parametrize("name", ["xoa1.0.1_human_breast_rep1", "xoa1.0.2_mouse_brain", "xoa3.0_3.1_ovarian_xeniumranger_relabel"])
def test_real_manifests_are_read(real_data, name):
    path = real_data / f"manifests/{name}.experiment.xenium"
    assert read_manifest(path)["pixel_size"] == 0.2125
    assert json.loads(path.read_text())["analysis_sw_version"].lower().startswith("xenium-")
