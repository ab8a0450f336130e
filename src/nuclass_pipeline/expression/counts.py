"""Reading and normalising the count matrix of a slide."""

import hashlib
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, first_line, open_h5


def read_counts(path: Path | str) -> ad.AnnData:
    """Read raw counts, cells × genes, as a CSR matrix.

    Raises
    ------
    UserError
        If the file is missing, is not an h5ad file, repeats a cell or a gene, or holds anything but counts.
    """
    # Inspected first, because anndata follows links into other files, and reads whatever size a file declares.
    open_h5(path).close()
    try:
        cells = ad.read_h5ad(path)
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable h5ad file ({first_line(error)})", "Remove it and run again.") from error
    for field, index in (("obs", cells.obs_names), ("var", cells.var_names)):
        if not index.is_unique:
            raise UserError(
                path, field, f"{index[index.duplicated()][0]!r} occurs twice", "Rename one of the two, or remove the file and run again."
            )
    cells.X = sparse.csr_matrix(cells.X)
    wrong = (cells.X.data < 0) | (cells.X.data != np.rint(cells.X.data))
    if wrong.any():
        problem = f"holds {cells.X.data[wrong][0]:g}, which is not a count"
        raise UserError(path, "X", problem, "Store raw counts in X, because the depth of a cell is lost in normalised values.")
    return cells


def totals(cells: ad.AnnData) -> Floats:
    """Return the transcripts per cell, (cells,)."""
    return np.asarray(cells.X.sum(axis=1), dtype=np.float64).ravel()


def normalize(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale each row to the median of the row sums; rows without counts stay empty.

    Parameters
    ----------
    x
        Raw counts, cells × genes.
    """
    # Not scanpy.pp.normalize_total, because labels are computed without importing scanpy, which takes seconds to load.
    depth = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
    target = np.median(depth[depth > 0]) if np.any(depth > 0) else 1.0
    scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
    return sparse.csr_matrix(sparse.diags_array(scale) @ x)


def match_cells(table: pd.DataFrame, names: pd.Index, path: Path | str) -> pd.DataFrame:
    """Return the rows of `table` in the order of the cells `names`.

    Parameters
    ----------
    table
        Table with a column `cell_id`; cells that are not among `names` are dropped.
    names
        Cells of the count matrix.
    path
        File of the table, for the error.

    Raises
    ------
    UserError
        If a cell has no row.
    """
    rows = pd.Index(table["cell_id"].astype(str)).get_indexer(names)
    if (rows < 0).any():
        raise UserError(path, "cell_id", f"cell {names[rows < 0][0]!r} has no row", "Remove the file and run again.")
    return table.iloc[rows].reset_index(drop=True)


def cluster_digests(clusters: pd.DataFrame) -> dict[str, str]:
    """Compute a digest of the cells of each cluster.

    Parameters
    ----------
    clusters
        Columns `cell_id` and `cluster`; cells without a cluster do not count.

    Returns
    -------
    Cluster → the first 12 hexadecimal digits of SHA-256 over its sorted cell ids, joined by line feeds.
    """
    named = clusters.loc[clusters["cluster"].notna(), ["cell_id", "cluster"]].astype(str)
    return {str(name): _digest(ids) for name, ids in named.groupby("cluster")["cell_id"]}


def _digest(ids: pd.Series) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:12]


def sections_of(place: pd.DataFrame, path: Path | str) -> NDArray[np.object_]:
    """Return the section of each cell, (cells,); a slide without the column `section` is one section, named by the empty string.

    Parameters
    ----------
    place
        Table `CELLS`.
    path
        File of the table, for the error.

    Raises
    ------
    UserError
        If the section of a cell is empty.
    """
    if "section" not in place:
        return np.full(len(place), "", object)
    if (empty := place["section"].isna()).any():
        raise UserError(
            path,
            "section",
            f"cell {place['cell_id'][empty].iloc[0]!r} has no section",
            "Fill in the section of every cell, or remove the column.",
        )
    return place["section"].astype(str).to_numpy(object)
