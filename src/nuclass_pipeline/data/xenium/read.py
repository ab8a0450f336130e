"""Xenium bundles: the one place that knows how releases differ.

Release notes that matter here, as seen in real bundles:

* before 1.3 cell ids are integers; later they are strings such as ``aaabckmo-1``, at times stored as bytes, and two numbers in a Zarr;
* before 2.0 every cell has a nucleus; later `nucleus_area` is empty where `nucleus_count` is 0;
* control columns come and go: probes and codewords since 1.0, unassigned since 1.4, deprecated since 2.0, genomic since 3.0. What a
  table does not count, such as the blank codewords of 1.0, is summed from the matrix.
"""

import logging
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.data.alignment import MAX_MPP, MIN_MPP
from nuclass_pipeline.data.xenium.cells import cell_file, read_cell_file
from nuclass_pipeline.data.xenium.matrix import COUNTERS, Matrix, count_kinds, matrix_file, read_matrix
from nuclass_pipeline.data.xenium.transcripts import TranscriptCounts, count_transcripts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, require, whole_files, write_table
from nuclass_pipeline.schemas import CELLS

CONTROLS = tuple(name for name in COUNTERS if name != "transcript_counts")
MAX_MISMATCH = 0.01
"""Share of cells whose transcripts may differ between two files; in the files of one run none do."""

logger = logging.getLogger(__name__)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read `experiment.xenium`; it must say a pixel size."""
    remedy = "Is this the experiment.xenium of the bundle?"
    try:
        record = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(path, "file", f"not valid JSON ({error})", remedy) from error
    size = record.get("pixel_size") if isinstance(record, dict) else None
    if isinstance(size, bool) or not isinstance(size, int | float) or not MIN_MPP <= size <= MAX_MPP:
        raise UserError(path, "pixel_size", f"is missing or no number from {MIN_MPP} to {MAX_MPP} µm; found {size!r}", remedy)
    return dict(record)


def read_cell_table(bundle: Path) -> pd.DataFrame:
    """Read the bundle's own cell table, with ids as text, whatever its file is.

    Of `cells.zarr.zip` alone, which has no counts, the counts are summed from the matrix.

    Raises
    ------
    UserError
        If there is no table, a column is missing, an id is repeated or a centroid is not a finite number.
    """
    path = cell_file(bundle)
    table = read_cell_file(path)
    if "transcript_counts" in table:
        return table
    return add_counts(table, align(read_matrix(bundle), table, bundle), bundle)


def read_cells(*, manifest: Path, cells: Path, counts: Path) -> None:
    """Read a bundle's cells and gene counts.

    Writes `cells.parquet` (schema `CELLS`) and `counts.h5ad`: X (cells, genes) raw counts in CSR, rows in the order of the cells,
    `obsm["spatial"]` centroids in µm. Cells that only the matrix has are left out, and the log says how many.

    Raises
    ------
    UserError
        If a file is missing or broken, or the cell table, the matrix and the transcripts are not of one run.
    """
    read_manifest(manifest)
    bundle = require(manifest).parent
    table = read_cell_file(cell_file(bundle))
    matrix = align(read_matrix(bundle), table, bundle)
    table = add_counts(table, matrix, bundle)
    transcripts = transcripts_of(table, matrix, bundle)
    with whole_files(cells, counts) as (cells_partial, counts_partial):
        write_table(_standardize(table, transcripts), cells_partial, CELLS)
        write_counts(matrix, table, counts_partial)


def align(matrix: Matrix, table: pd.DataFrame, bundle: Path) -> Matrix:
    """Return the rows of `matrix` that are the cells of `table`, in the table's order."""
    ids = pd.Index(matrix.cell_ids)
    if ids.has_duplicates:
        raise UserError(matrix_file(bundle), "barcodes", f"{ids[ids.duplicated()][0]!r} occurs twice", "Ids must be unique.")
    rows = ids.get_indexer(pd.Index(table["cell_id"]))
    if len(absent := table["cell_id"][rows < 0]):
        raise UserError(
            matrix_file(bundle),
            "barcodes",
            f"cell {absent.iloc[0]} of the cell table is not in it; {len(absent)} of {len(rows)} cells are not",
            "Use the files of one run.",
        )
    if not (matrix.features["kind"] == "Gene Expression").any():
        raise UserError(matrix_file(bundle), "features", "has no feature of type 'Gene Expression'", "Use the bundle's own matrix.")
    if len(ids) > len(rows):
        logger.warning("%d of %d cells of the matrix are not in the cell table and are left out.", len(ids) - len(rows), len(ids))
    return Matrix(matrix.counts[rows], matrix.cell_ids[rows], matrix.features)


def add_counts(table: pd.DataFrame, matrix: Matrix, bundle: Path) -> pd.DataFrame:
    """Sum the columns of `COUNTERS` that `table` lacks from the aligned `matrix`; refuse a matrix that counts other transcripts."""
    sums = count_kinds(matrix).set_axis(table.index)
    if "transcript_counts" in table:
        differing = int((table["transcript_counts"] != sums["transcript_counts"]).sum())
        problem = f"differs from the genes of {matrix_file(bundle).name} in {differing} of {len(table)} cells"
        if differing > MAX_MISMATCH * len(table):
            raise UserError(cell_file(bundle), "transcript_counts", problem, "Use the files of one run.")
        if differing:
            logger.warning("%s: transcript_counts %s.", cell_file(bundle), problem)
    return table.join(sums[sums.columns.difference(table.columns, sort=False)])


def transcripts_of(table: pd.DataFrame, matrix: Matrix, bundle: Path) -> TranscriptCounts | None:
    """Count the transcripts of the cells of `table`, if the bundle has them, and compare them with the table.

    A file may hold a part of the transcripts: a region, or a sample. So fewer than the table counts are only logged.

    Raises
    ------
    UserError
        If the file is broken, or of another run: no cell of the table has a gene transcript, or of those that have, more than the share
        `MAX_DIFFERENT` have more than the table counts.
    """
    found = count_transcripts(bundle, table["cell_id"], matrix.features.loc[matrix.features["kind"] == "Gene Expression", "name"])
    if found is None:
        return None
    told, remedy = table["transcript_counts"].to_numpy(), "Use the files of one run, or take this one out of the bundle, which may lack it."
    present, more, fewer = (int(cells.sum()) for cells in (found.counted > 0, found.counted > told, found.counted < told))
    if told.any() and not present:
        raise UserError(found.path, "cell_id", f"no gene transcript with qv ≥ 20 is in a cell of {cell_file(bundle).name}", remedy)
    problem = f"more gene transcripts than transcript_counts of {cell_file(bundle).name} in {more} of {present} cells"
    if more > MAX_MISMATCH * present:
        raise UserError(found.path, "cell_id", problem, remedy)
    if more or fewer:
        logger.warning("%s: %s, fewer in %d of %d; nucleus_transcripts is empty there.", found.path, problem, fewer, len(told))
    return found


def _over_nucleus(table: pd.DataFrame, found: TranscriptCounts | None) -> NDArray[np.float64]:
    if found is None or found.over_nucleus is None:
        return np.full(len(table), np.nan)
    # Of a cell whose transcripts are not all there, the number over the nucleus is not known.
    return np.where(found.counted == table["transcript_counts"], found.over_nucleus, np.nan)


def _standardize(table: pd.DataFrame, transcripts: TranscriptCounts | None) -> pd.DataFrame:
    missing = pd.Series(np.nan, index=table.index)
    return pd.DataFrame(
        {
            "cell_id": table["cell_id"],
            "x_um": table["x_centroid"].astype(np.float64),
            "y_um": table["y_centroid"].astype(np.float64),
            "cell_area_um2": table.get("cell_area", missing).astype(np.float64),
            "nucleus_area_um2": table.get("nucleus_area", missing).astype(np.float64),
            "transcripts": table["transcript_counts"].astype(np.int64),
            "nucleus_transcripts": _over_nucleus(table, transcripts),
            "controls": table[list(CONTROLS)].sum(axis=1).astype(np.int64),
        }
    )


def write_counts(matrix: Matrix, table: pd.DataFrame, counts: Path) -> None:
    """Write the genes of `matrix`, whose rows are the cells of `table`."""
    genes = (matrix.features["kind"] == "Gene Expression").to_numpy()
    data = anndata.AnnData(
        X=matrix.counts[:, genes].astype(np.float32),
        obs=pd.DataFrame(index=pd.Index(table["cell_id"].to_numpy(dtype=str), name="cell_id")),
        var=matrix.features.loc[genes, ["name", "id"]].set_index("name"),
        obsm={"spatial": table[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)},
    )
    data.var_names_make_unique()
    data.write_h5ad(counts, compression="lzf")
