import json
import shutil
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from scipy import sparse

from nuclass_pipeline.data.xenium.cells import CellTable, read_cell_file
from nuclass_pipeline.data.xenium.matrix import Matrix, count_kinds, decode_ids, read_h5
from nuclass_pipeline.data.xenium.read import add_counts, read_cell_table, read_cells, read_manifest, write_counts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.schemas import CELLS
from tests.unit.data.xenium.test_mutations import FEATURES, IDS, WRITERS, make_bundle


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


def edit_cells(folder, change):
    frame = pd.read_parquet(folder / "cells.parquet")
    change(frame).to_parquet(folder / "cells.parquet")


def cut_file(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_genes(folder):
    with h5py.File(folder / "cell_feature_matrix.h5", "r+") as file:
        file["matrix/features/feature_type"][...] = b"Protein"


def double_barcode(folder):
    with h5py.File(folder / "cell_feature_matrix.h5", "r+") as file:
        file["matrix/barcodes"][1] = file["matrix/barcodes"][0]


def only_csv(folder, damage):
    frame = pd.read_parquet(folder / "cells.parquet")
    (folder / "cells.parquet").unlink()
    frame.to_csv(folder / "cells.csv.gz", index=False)
    damage(folder / "cells.csv.gz")


def only_zarr(folder, damage):
    (folder / "cells.parquet").unlink()
    write_zarr(folder / "cells.zarr.zip", np.array([[1, 1], [2, 1]], dtype=np.uint32), [[1.0, 2.0], [3.0, 4.0]], CENTROIDS)
    damage(folder / "cells.zarr.zip")


def only_zarr_matrix(folder):
    (folder / "cell_feature_matrix.h5").unlink()
    (folder / "cell_feature_matrix.zarr.zip").write_bytes(b"PK")


CENTROIDS = ["cell_centroid_x", "cell_centroid_y"]


def write_zarr(path, ids, summary, names):
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store)
        group.create_array("cell_id", data=ids)
        group.create_array("cell_summary", data=np.array(summary), attributes={"column_names": names})


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
    "matrix of another run": (
        lambda d: edit_cells(d, lambda f: f.assign(transcript_counts=f["transcript_counts"] + 1)),
        "cells.parquet: transcript_counts: differs from the genes of cell_feature_matrix.h5 in 23 of 23 cells",
    ),
    "one foreign id": (
        lambda d: edit_cells(d, lambda f: f.assign(cell_id=["z-1", *f["cell_id"][1:]])),
        "cell_feature_matrix.h5: barcodes: cell z-1 of the cell table is not in it; 1 of 23 cells are not",
    ),
    "double barcode": (double_barcode, "cell_feature_matrix.h5: barcodes: 'akkfpngo-1' occurs twice"),
    "empty id": (
        lambda d: edit_cells(d, lambda f: f.assign(cell_id=[*f["cell_id"][:2], None, *f["cell_id"][3:]])),
        "cells.parquet: cell_id: is empty in row 3",
    ),
    "area is text": (lambda d: edit_cells(d, lambda f: f.assign(cell_area="big")), "cell_area: 'big' for cell akkfpngo-1"),
    "empty counter": (lambda d: edit_cells(d, lambda f: f.assign(control_probe_counts=np.nan)), "control_probe_counts: 'nan' for cell"),
    "CSV cut": (lambda d: only_csv(d, cut_file), "cells.csv.gz: file: not a readable CSV"),
    "CSV without column": (
        lambda d: only_csv(d, lambda p: p.with_name("cells.csv").write_text("cell_id,x\na-1,1\n") and p.unlink()),
        "cells.csv: x_centroid: the column is missing; found cell_id, x.",
    ),
    "Zarr cut": (lambda d: only_zarr(d, cut_file), "cells.zarr.zip: file: not a readable Zarr"),
    "Zarr without summary": (
        lambda d: only_zarr(d, lambda p: zipfile.ZipFile(p, "w").close()),
        "cells.zarr.zip: file: not a readable Zarr",
    ),
    "matrix Zarr cut": (only_zarr_matrix, "cell_feature_matrix.zarr.zip: file: not a readable"),
    "Zarr without centroids": (
        lambda d: only_zarr(d, lambda p: write_zarr(p, np.array([[1, 1]], dtype=np.uint32), [[1.0]], ["cell_area"])),
        "cells.zarr.zip: x_centroid: the column is missing; found cell_area, cell_id.",
    ),
    "Zarr of another run": (lambda d: only_zarr(d, lambda p: None), "cell aaaaaaab-1 of the cell table is not in it; 2 of 2"),
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


ENCODINGS = {
    "integer": (pa.int64(), int),
    "string": (pa.string(), str),
    "large string": (pa.large_string(), str),
    "binary": (pa.binary(), str.encode),
    "large binary": (pa.large_binary(), str.encode),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), str),
}


@pytest.mark.parametrize("case", ENCODINGS)
def test_ids_of_every_encoding_are_the_same_text(copy, case):
    kind, encode = ENCODINGS[case]
    table = pq.read_table(copy / "cells.parquet")
    ids = [str(number + 1) for number in range(23)]
    pq.write_table(table.set_column(0, "cell_id", pa.array([encode(value) for value in ids], type=kind)), copy / "cells.parquet")
    found = read_cell_table(copy)["cell_id"]
    assert found.tolist() == ids
    assert type(found.iloc[0]) is str


@pytest.mark.parametrize("dtype", ["Int64", "string", "category", "object"])
def test_ids_of_every_pandas_type_are_the_same_text_and_may_be_the_index(copy, dtype):
    frame = pd.read_parquet(copy / "cells.parquet")
    frame["cell_id"] = pd.array(range(1, 24), dtype="Int64").astype(str if dtype == "object" else dtype)
    frame.set_index("cell_id").to_parquet(copy / "cells.parquet")
    assert read_cell_table(copy)["cell_id"].tolist() == [str(number) for number in range(1, 24)]


def test_ids_and_counts_in_a_csv_are_read_as_they_are_written(tmp_path):
    (tmp_path / "cells.csv").write_text("cell_id,x_centroid,y_centroid,transcript_counts\n007,1,2,3\n1e5,4,5,6\n")
    table = read_cell_table(tmp_path)
    assert table["cell_id"].tolist() == ["007", "1e5"]
    assert table["transcript_counts"].tolist() == [3, 6]


def test_numbers_stored_as_text_become_numbers(copy):
    edit_cells(copy, lambda f: f.assign(transcript_counts=f["transcript_counts"].astype(str)))
    assert read_cell_table(copy)["transcript_counts"].sum() == 433


def test_zarr_ids_are_one_number_or_two():
    assert decode_ids(np.array([[178650478, 1], [0, 2]], dtype=np.uint32)).tolist() == ["akkfpngo-1", "aaaaaaaa-2"]
    assert decode_ids(np.array([1, 36602], dtype=np.uint32)).tolist() == ["1", "36602"]


def test_a_zarr_cell_without_nucleus_has_no_area(tmp_path):
    names = [*CENTROIDS, "nucleus_area", "nucleus_count", "z_level"]
    write_zarr(
        tmp_path / "cells.zarr.zip", np.array([7, 9], dtype=np.uint32), [[1.0, 2.0, 30.5, 2.0, 0.0], [3.0, 4.0, 0.0, 0.0, 0.0]], names
    )
    expected = pd.DataFrame(
        {
            "cell_id": ["7", "9"],
            "x_centroid": [1.0, 3.0],
            "y_centroid": [2.0, 4.0],
            "nucleus_area": [30.5, np.nan],
            "nucleus_count": [2, 0],
        }
    )
    pd.testing.assert_frame_equal(read_cell_file(tmp_path / "cells.zarr.zip").frame, expected)


def test_the_parquet_is_preferred_to_the_csv_and_that_to_the_zarr(copy, bundle):
    for name, x in (("cells.csv.gz", 2.0), ("cells.csv", 3.0)):
        pd.read_parquet(copy / "cells.parquet").assign(x_centroid=x).to_csv(copy / name, index=False)
    edit_cells(copy, lambda f: f.assign(x_centroid=1.0))
    shutil.copyfile(bundle / "cells.zarr.zip", copy / "cells.zarr.zip")
    found = []
    for name in ("cells.parquet", "cells.csv.gz", "cells.csv", "cells.zarr.zip"):
        found.append(read_cell_table(copy)["x_centroid"].iloc[0])
        (copy / name).unlink()
    assert found == [1.0, 2.0, 3.0, pytest.approx(422.654083)]


def test_counts_follow_the_order_of_the_table_and_cells_outside_it_are_a_warning(copy):
    edit_cells(copy, lambda f: f.iloc[[22, 3, 1, *range(4, 13)]])
    read(copy)
    counts = anndata.read_h5ad(copy / "out/counts.h5ad")
    original = pd.read_parquet(copy / "cells.parquet")
    assert counts.obs_names.tolist() == original["cell_id"].tolist()
    assert np.asarray(counts.X.sum(axis=1)).ravel().tolist() == original["transcript_counts"].tolist()
    assert original["transcript_counts"].nunique() > 3
    assert "11 of 23 cells of the matrix are not in the cell table and are left out" in read_warnings(copy / "out/cells.parquet")


def test_a_table_of_less_than_half_of_the_matrix_is_refused(copy):
    edit_cells(copy, lambda f: f.iloc[:11])
    with pytest.raises(UserError, match=r"cells.parquet: cell_id: has 11 of the 23 cells of cell_feature_matrix.h5; \w+-1 is not in it\."):
        read(copy)


MATRICES = [name for name in WRITERS if "matrix" in name]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("cells", [name for name in WRITERS if name not in MATRICES])
def test_shuffled_rows_of_the_matrix_are_put_in_the_order_of_the_cell_table(tmp_path, cells, matrix):
    """All cells have 20 transcripts, so the comparison of both files cannot find rows that are not aligned."""
    rng, number = np.random.default_rng(5), np.arange(len(IDS))
    counts = np.zeros((len(IDS), len(FEATURES)), dtype=np.int64)
    counts[:, 0], counts[:, 1], counts[:, 5] = number, 20 - number, number**2
    stored, listed = rng.permutation(number), rng.permutation(number)[:-1]
    bundle = make_bundle(tmp_path / "outs", cells, matrix)
    for name in (cells, matrix):
        (bundle / name).unlink()
    ids = np.array(IDS)
    table = pd.DataFrame({"cell_id": ids[listed], "x_centroid": 100.0 + listed, "y_centroid": 7.0 * listed, "transcript_counts": 20})
    WRITERS[cells](bundle / cells, table)
    WRITERS[matrix](bundle / matrix, counts[stored], ids[stored].tolist())
    read(bundle)
    found, data = read_table(bundle / "out/cells.parquet", CELLS), anndata.read_h5ad(bundle / "out/counts.h5ad")
    assert data.obs_names.tolist() == found["cell_id"].tolist() == ids[listed].tolist()
    assert data.X[:, :2].toarray().tolist() == np.column_stack([listed, 20 - listed]).tolist()
    assert data.obsm["spatial"].tolist() == np.column_stack([100.0 + listed, 7.0 * listed]).tolist()
    assert found["transcripts"].tolist() == [20] * len(listed)
    assert found["controls"].tolist() == (listed**2).tolist()
    assert read_cell_table(bundle)["cell_id"].tolist() == ids[listed].tolist()


def test_genes_are_chosen_by_their_type_in_any_order(tmp_path):
    kinds = ["Blank Codeword", "Gene Expression", "Protein Expression", "Gene Expression", "Unassigned Codeword"]
    features = pd.DataFrame({"id": list("vwxyz"), "name": list("abcde"), "kind": kinds})
    matrix = Matrix(tmp_path / "cell_feature_matrix.h5", sparse.csr_matrix(np.arange(10).reshape(2, 5)), np.array(["p", "q"]), features)
    table = pd.DataFrame({"cell_id": ["p", "q"], "x_centroid": [1.0, 2.0], "y_centroid": [3.0, 4.0]})
    write_counts(matrix, table, tmp_path / "counts.h5ad")
    counts = anndata.read_h5ad(tmp_path / "counts.h5ad")
    assert counts.var_names.tolist() == ["b", "d"]
    assert counts.X.toarray().tolist() == [[1, 3], [6, 8]]
    sums = count_kinds(matrix)
    assert sums["transcript_counts"].tolist() == [4, 14]
    assert sums["unassigned_codeword_counts"].tolist() == [4, 14]
    assert sums.to_numpy().sum() == 36


@pytest.mark.parametrize(("differing", "refused"), [(0, False), (2, False), (3, True)])
def test_a_hundredth_of_the_cells_may_differ_in_transcripts(tmp_path, differing, refused):
    ids = np.arange(200).astype(str)
    features = pd.DataFrame({"id": ["g", "c"], "name": ["g", "c"], "kind": ["Gene Expression", "Blank Codeword"]})
    matrix = Matrix(tmp_path / "cell_feature_matrix.h5", sparse.csr_matrix(np.array([[5, 2]] * 200)), ids, features)
    frame = pd.DataFrame({"cell_id": ids, "transcript_counts": np.where(np.arange(200) < differing, 4, 5)})
    table = CellTable(tmp_path / "cells.parquet", frame)
    problem = f"differs from the genes of cell_feature_matrix.h5 in {differing} of 200 cells"
    if refused:
        with pytest.raises(UserError, match=f"^{table.path}: transcript_counts: {problem}"):
            add_counts(table, matrix)
        return
    found, warnings = add_counts(table, matrix)
    assert found.path == table.path
    assert found.frame["transcript_counts"].equals(frame["transcript_counts"])
    assert found.frame["unassigned_codeword_counts"].tolist() == [2] * 200
    assert warnings == [f"transcript_counts {problem}, such as 0: 4, 5"] * bool(differing)


@pytest.mark.parametrize("name", ["xoa1.0.1_human_breast_rep1", "xoa1.0.2_mouse_brain", "xoa3.0_3.1_ovarian_xeniumranger_relabel"])
def test_real_manifests_are_read(real_data, name):
    path = real_data / f"manifests/{name}.experiment.xenium"
    assert read_manifest(path)["pixel_size"] == 0.2125
    assert json.loads(path.read_text())["analysis_sw_version"].lower().startswith("xenium-")
