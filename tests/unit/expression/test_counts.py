"""Count matrices: what is read and refused, depth, and tables in the order of the cells."""

import hashlib

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import cluster_digests, match_cells, normalize, read_counts, sections_of, totals


def write(folder, counts, cells=("a", "b"), genes=("CD3E", "MS4A1", "LUM")):
    path = folder / "counts.h5ad"
    ad.AnnData(np.array(counts, np.float32), pd.DataFrame(index=[*cells]), pd.DataFrame(index=[*genes])).write_h5ad(path)
    return path


def test_dense_counts_are_read_as_a_sparse_matrix(tmp_path):
    cells = read_counts(write(tmp_path, [[1, 0, 4], [0, 0, 2]]))
    assert isinstance(cells.X, sparse.csr_matrix)
    assert cells.X.toarray().tolist() == [[1, 0, 4], [0, 0, 2]]
    assert totals(cells).tolist() == [5, 2]


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [[1, 0, 0.5], [0, 0, 2]]}, "X: holds 0.5, which is not a count"),
        ({"counts": [[1, 0, -3], [0, 0, 2]]}, "X: holds -3, which is not a count"),
        ({"cells": ("a", "a")}, "obs: 'a' occurs twice"),
        ({"genes": ("LUM", "CD3E", "LUM")}, "var: 'LUM' occurs twice"),
    ],
)
def test_anything_but_counts_of_unique_cells_and_genes_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=f"counts.h5ad: {message}"):
        read_counts(write(tmp_path, **({"counts": [[1, 0, 4], [0, 0, 2]]} | changes)))


def test_a_broken_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "counts.h5ad").write_bytes(b"not HDF5")
    with pytest.raises(UserError, match=r"counts.h5ad: file: not a readable HDF5 file .*Remove it and run again") as caught:
        read_counts(tmp_path / "counts.h5ad")
    assert "\n" not in str(caught.value)


def test_counts_that_lie_in_another_file_are_refused(tmp_path):
    write(tmp_path, [[1, 0, 4], [0, 0, 2]]).rename(tmp_path / "other.h5ad")
    with h5py.File(tmp_path / "counts.h5ad", "w") as file:
        file["X"] = h5py.ExternalLink(str(tmp_path / "other.h5ad"), "/X")
    with pytest.raises(UserError, match=r"counts\.h5ad: X: is a link to another file"):
        read_counts(tmp_path / "counts.h5ad")
    with h5py.File(tmp_path / "counts.h5ad", "w") as file:
        file.create_group("X")
    with pytest.raises(UserError, match=r"counts\.h5ad: file: not a readable h5ad file"):
        read_counts(tmp_path / "counts.h5ad")


def test_rows_are_scaled_to_the_median_depth_of_the_cells_with_counts():
    found = normalize(sparse.csr_matrix([[1, 1, 0], [2, 0, 6], [0, 0, 0]]))
    assert found.toarray().tolist() == [[2.5, 2.5, 0], [1.25, 0, 3.75], [0, 0, 0]]
    assert normalize(sparse.csr_matrix((2, 3))).nnz == 0


def test_rows_follow_the_order_of_the_cells():
    table = pd.DataFrame({"cell_id": ["a", "b", "c"], "value": [1, 2, 3]})
    assert match_cells(table, pd.Index(["c", "a"]), "t.parquet")["value"].tolist() == [3, 1]
    with pytest.raises(UserError, match=r"t.parquet: cell_id: cell 'd' has no row"):
        match_cells(table, pd.Index(["c", "d"]), "t.parquet")


def test_a_slide_without_the_column_is_one_section():
    table = pd.DataFrame({"cell_id": ["a", "b"]})
    assert sections_of(table, "t").tolist() == ["", ""]
    assert sections_of(table.assign(section=[2, 1]), "t").tolist() == ["2", "1"]
    with pytest.raises(UserError, match=r"t: section: cell 'b' has no section. Fill in the section of every cell"):
        sections_of(table.assign(section=["core", None]), "t")


def test_a_digest_depends_on_the_cells_of_a_cluster_and_not_on_their_order():
    clusters = pd.DataFrame({"cell_id": ["b", "a", "c", "d"], "cluster": ["0", "0", "1", None]})
    expected = {"0": hashlib.sha256(b"a\nb").hexdigest()[:12], "1": hashlib.sha256(b"c").hexdigest()[:12]}
    assert cluster_digests(clusters) == cluster_digests(clusters[::-1]) == expected
