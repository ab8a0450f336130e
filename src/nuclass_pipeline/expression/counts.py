"""Reading and normalising the count matrix of a slide."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require


def read_counts(path: Path | str) -> ad.AnnData:
    """Read raw counts, cells × genes, as a CSR matrix.

    Raises
    ------
    UserError
        If the file is missing, is no h5ad file, repeats a cell or a gene, or holds anything but counts.
    """
    try:
        cells = ad.read_h5ad(require(path))
    except (OSError, KeyError) as error:
        raise UserError(path, "file", f"not a readable h5ad file ({error})", "Remove it and run again.") from error
    for field, index in (("obs", cells.obs_names), ("var", cells.var_names)):
        if not index.is_unique:
            raise UserError(path, field, f"{index[index.duplicated()][0]!r} occurs twice", "Names must be unique.")
    cells.X = sparse.csr_matrix(cells.X)
    if cells.X.data.size and (cells.X.data.min() < 0 or np.any(cells.X.data != np.rint(cells.X.data))):
        raise UserError(path, "X", "holds values that are no counts", "Give raw counts: normalised values cannot be told apart from depth.")
    return cells


def totals(cells: ad.AnnData) -> NDArray[np.float64]:
    """Transcripts per cell, shape (cells,)."""
    return np.asarray(cells.X.sum(axis=1), dtype=np.float64).ravel()


def normalize(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale each row to the median of the row sums (rows without counts stay empty)."""
    depth = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
    target = np.median(depth[depth > 0]) if np.any(depth > 0) else 1.0
    scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
    return sparse.csr_matrix(sparse.diags_array(scale) @ x)


def match_cells(table: pd.DataFrame, names: pd.Index, path: Path | str) -> pd.DataFrame:
    """Put the rows of `table` in the order of the cells `names`.

    Raises
    ------
    UserError
        If a cell has no row.
    """
    rows = pd.Index(table["cell_id"].astype(str)).get_indexer(names)
    if (rows < 0).any():
        raise UserError(path, "cell_id", f"cell {names[rows < 0][0]!r} has no row", "Remove the file and run again.")
    return table.iloc[rows].reset_index(drop=True)


def sections_of(place: pd.DataFrame, path: Path | str) -> NDArray[np.object_]:
    """Give the section of each cell of a table `CELLS`, read from `path`; a slide is one section unless the table has the column.

    Raises
    ------
    UserError
        If the section of a cell is empty.
    """
    if "section" not in place:
        return np.full(len(place), "", object)
    if (empty := place["section"].isna()).any():
        raise UserError(
            path, "section", f"cell {place['cell_id'][empty].iloc[0]!r} has none", "Give each cell its section, or drop the column."
        )
    return place["section"].astype(str).to_numpy(object)
