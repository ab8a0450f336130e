"""Real files of several releases. The numbers were computed with h5py and pandas alone."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.data.xenium.cells import CELL_READERS as CELL_FILES
from nuclass_pipeline.data.xenium.cells import read_cell_file
from nuclass_pipeline.data.xenium.matrix import MATRIX_READERS as MATRIX_FILES
from nuclass_pipeline.data.xenium.matrix import count_kinds, read_matrix
from nuclass_pipeline.data.xenium.read import read_cell_table, read_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import CELLS

BRAIN, LUNG, MIXED = "xoa1.0.2_mouse_brain_ctxhp", "xoa1.3_human_lung_transcripts", "xoa1.x_human_jurkat_raji_sfe"
PATCH, PRIME, ILEUM = "xoa1.0.2_mouse_brain_20um", "xoa3.0_human_prime_cells_multiqc", "xoa3.0_mouse_ileum_tiny"
NO_MANIFEST = "experiment.xenium: file: it does not exist"
NO_MATRIX = "cell_feature_matrix.h5: none of"
NO_CELLS = "cells.parquet: neither it nor cells.csv.gz is there"
REFUSED = {
    f"{PATCH}/sample1": NO_CELLS,
    f"{PATCH}/sample2": NO_CELLS,
    BRAIN: NO_MANIFEST,
    LUNG: NO_MANIFEST,
    MIXED: NO_MANIFEST,
    **{f"{PRIME}/sample{n}": NO_MATRIX for n in (1, 2, 3, 4)},
}
COMPLETE = {
    BRAIN: {
        "shape": (36602, 248),
        "kinds": {"Gene Expression": 248, "Blank Codeword": 225, "Negative Control Codeword": 41, "Negative Control Probe": 27},
        "transcripts": 9028172,
        "entries": 2611055,
        "by_cell": 166005925967,
        "by_gene": 1052360370,
        "controls": 3143 + 377 + 5978,
        "ids": ("1", "36602"),
        "genes": ("2010300C02Rik", "Zfpm2"),
        "sums": (118261023.42436066, 84452567.95035934, 11828573.97671875, 1501647.83828125),
        "files": (["cells.csv.gz"], ["cell_feature_matrix.h5", "cell_feature_matrix"]),
    },
    MIXED: {
        "shape": (526, 27),
        "kinds": {"Gene Expression": 27, "Unassigned Codeword": 2, "Negative Control Probe": 1},
        "transcripts": 45726,
        "entries": 7825,
        "by_cell": 12152454,
        "by_gene": 614813,
        "controls": 3 + 14,
        "ids": ("jcccmpde-1", "kgekblac-1"),
        "genes": ("AKT1", "SPIB"),
        "sums": (628480.7379882813, 627469.0499755859, 162940.32234374998, 18565.947031249998),
        "files": (["cells.parquet", "cells.csv.gz"], ["cell_feature_matrix.h5"]),
    },
    ILEUM: {
        "shape": (23, 5006),
        "kinds": {
            "Gene Expression": 5006,
            "Unassigned Codeword": 8096,
            "Negative Control Codeword": 609,
            "Negative Control Probe": 40,
            "Genomic Control": 21,
            "Deprecated Codeword": 8,
        },
        "transcripts": 433,
        "entries": 29,
        "by_cell": 5657,
        "by_gene": 598221,
        "controls": 1,
        "ids": ("akkfpngo-1", "nljdpiah-1"),
        "genes": ("A1cf", "a"),
        "sums": (15417.254272460938, 7948.408874511719, 2209.179298941046, 429.4359530881047),
        "files": (
            ["cells.parquet", "cells.csv.gz", "cells.zarr.zip"],
            ["cell_feature_matrix.h5", "cell_feature_matrix.tar.gz", "cell_feature_matrix.zarr.zip"],
        ),
    },
}
TABLES = {
    f"{PRIME}/sample1": (2586971, 12978645068, 227019, 152, 4, ("lnbjnnhh-1", "jnjagfcc-1"), 52029771.82161331),
    f"{PRIME}/sample2": (2067175, 10317195711, 1339, 424, 5, ("lnjlpdml-1", "kaianfbi-1"), 56579498.597270966),
    f"{PRIME}/sample3": (13639094, 67932533509, 17649, 16, 2, ("lohbaggm-1", "kjjanbde-1"), 37098538.733968735),
    f"{PRIME}/sample4": (2586971, 12978645068, 227019, 152, 4, ("lnbjnnhh-1", "jnjagfcc-1"), 52029771.82161331),
}


def weighted(values):
    return int((np.arange(len(values)) * np.asarray(values, dtype=np.int64)).sum())


@pytest.fixture
def outputs(tmp_path):
    return {"cells": tmp_path / "out/cells.parquet", "counts": tmp_path / "out/counts.h5ad"}


def test_every_folder_has_its_case(real_data):
    assert {path.name for path in real_data.glob("xoa*")} == {name.split("/")[0] for name in (*REFUSED, *COMPLETE)}


@pytest.mark.parametrize("name", REFUSED)
def test_an_incomplete_bundle_is_refused_with_the_missing_file(real_data, outputs, name):
    with pytest.raises(UserError) as refusal:
        read_cells(manifest=real_data / name / "experiment.xenium", **outputs)
    assert REFUSED[name] in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not outputs["cells"].parent.exists()


@pytest.mark.parametrize("name", COMPLETE)
def test_cells_and_counts_are_those_of_the_files(real_data, tmp_path, outputs, name):
    expected = COMPLETE[name]
    bundle = tmp_path / "outs"
    shutil.copytree(real_data / name, bundle)
    if not (bundle / "experiment.xenium").exists():
        shutil.copyfile(real_data / "manifests/xoa1.0.2_mouse_brain.experiment.xenium", bundle / "experiment.xenium")
    read_cells(manifest=bundle / "experiment.xenium", **outputs)
    cells, counts = read_table(outputs["cells"], CELLS), anndata.read_h5ad(outputs["counts"])
    assert counts.shape == expected["shape"]
    assert counts.X.nnz == expected["entries"]
    assert (counts.var_names[0], counts.var_names[-1]) == expected["genes"]
    assert counts.X.sum(dtype=np.int64) == cells["transcripts"].sum() == expected["transcripts"]
    by_cell = np.asarray(counts.X.sum(axis=1, dtype=np.int64)).ravel()
    assert weighted(by_cell) == weighted(cells["transcripts"]) == expected["by_cell"]
    assert weighted(np.asarray(counts.X.sum(axis=0, dtype=np.int64)).ravel()) == expected["by_gene"]
    assert cells["controls"].sum() == expected["controls"]
    assert all(type(value) is str for value in cells["cell_id"])
    assert (cells["cell_id"].iloc[0], cells["cell_id"].iloc[-1]) == expected["ids"]
    assert counts.obs_names.tolist() == cells["cell_id"].tolist()
    found = tuple(cells[["x_um", "y_um", "cell_area_um2", "nucleus_area_um2"]].sum())
    assert found == pytest.approx(expected["sums"], rel=1e-12)


@pytest.mark.parametrize("name", COMPLETE)
def test_features_keep_their_kind(real_data, name):
    assert read_matrix(real_data / name).features["kind"].value_counts().to_dict() == COMPLETE[name]["kinds"]


@pytest.mark.parametrize("name", COMPLETE)
def test_encodings_of_one_bundle_agree(real_data, name):
    bundle, (tables, matrices) = real_data / name, COMPLETE[name]["files"]
    assert [file for file in CELL_FILES if (bundle / file).exists()] == tables
    assert [file for file in MATRIX_FILES if (bundle / file).exists()] == matrices
    first, *others = (read_cell_file(bundle / file).frame for file in tables)
    for other in others:
        assert len(other) == COMPLETE[name]["shape"][0]
        pd.testing.assert_frame_equal(first[other.columns], other, check_exact=False, rtol=1e-12, check_dtype=False)
    whole = [file for file in matrices if file != "cell_feature_matrix"]
    first, *others = (MATRIX_FILES[file](bundle / file) for file in whole)
    for other in others:
        assert first.counts.shape == other.counts.shape
        assert (first.counts != other.counts).nnz == 0
        assert (first.cell_ids == other.cell_ids).all()
        assert first.features[["name", "kind"]].equals(other.features[["name", "kind"]])


def test_a_zarr_without_counts_takes_them_from_the_matrix(real_data, tmp_path):
    for file in ("cells.zarr.zip", "cell_feature_matrix.zarr.zip"):
        shutil.copyfile(real_data / ILEUM / file, tmp_path / file)
    found, expected = read_cell_table(tmp_path), pd.read_parquet(real_data / ILEUM / "cells.parquet")
    assert found["transcript_counts"].sum() == 433
    assert found["unassigned_codeword_counts"].sum() == 1
    pd.testing.assert_frame_equal(found, expected[found.columns])
    assert set(expected) - set(found) == {"total_counts", "segmentation_method"}


def test_an_incomplete_matrix_folder_is_refused(real_data, tmp_path):
    shutil.copytree(real_data / BRAIN / "cell_feature_matrix", tmp_path / "cell_feature_matrix")
    with pytest.raises(UserError, match=r"cell_feature_matrix: file: not a readable cell–feature matrix .*matrix\.mtx\.gz"):
        read_matrix(tmp_path)


def test_blank_codewords_are_counted_apart(real_data):
    sums = count_kinds(read_matrix(real_data / BRAIN)).sum().to_dict()
    assert sums == {
        "transcript_counts": 9028172,
        "control_probe_counts": 3143,
        "genomic_control_counts": 0,
        "control_codeword_counts": 377,
        "unassigned_codeword_counts": 5978,
        "deprecated_codeword_counts": 0,
    }
    table = pd.read_csv(real_data / BRAIN / "cells.csv.gz")
    assert sum(sums.values()) == table["total_counts"].sum()


@pytest.mark.parametrize("name", ["cell_boundaries.parquet", "nucleus_boundaries.parquet"])
def test_binary_ids_are_those_of_the_table(real_data, name):
    raw = pd.read_parquet(real_data / MIXED / name)["cell_id"]
    assert all(type(value) is bytes for value in raw)
    assert {value.decode() for value in raw} == set(read_cell_table(real_data / MIXED)["cell_id"])


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_a_multimodal_segmentation_are_read(real_data, name):
    transcripts, by_cell, controls, without_nucleus, most_nuclei, ids, x_um = TABLES[name]
    table = read_cell_table(real_data / name)
    assert len(table) == 10000
    assert table["transcript_counts"].sum() == transcripts
    assert weighted(table["transcript_counts"]) == by_cell
    assert table.filter(regex="(probe|control|codeword)_counts").to_numpy().sum() == controls
    assert table["nucleus_area"].isna().sum() == without_nucleus
    assert (table["nucleus_area"].isna() == (table["nucleus_count"] == 0)).all()
    assert table["nucleus_count"].max() == most_nuclei
    assert (table["cell_id"].iloc[0], table["cell_id"].iloc[-1]) == ids
    assert all(type(value) is str for value in table["cell_id"])
    assert table["x_centroid"].sum() == pytest.approx(x_um, rel=1e-12)
