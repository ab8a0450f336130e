"""Cells and gene counts of a Xenium bundle, of whatever release.

Differences between releases that matter here, as seen in real bundles:

* Before 1.3 cell ids are integers. Later they are strings such as ``aaabckmo-1``, sometimes stored as bytes, and two numbers in a Zarr.
* Before 2.0 every cell has a nucleus. Later `nucleus_area` is empty where `nucleus_count` is 0.
* Control columns differ: probes and codewords since 1.0, unassigned since 1.4, deprecated since 2.0, genomic since 3.0. Controls that a
  table does not count, such as the blank codewords of 1.0, are summed from the matrix.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.alignment import MAX_MPP, MIN_MPP
from nuclass_pipeline.data.xenium.cells import CellTable, cell_file, read_cell_file
from nuclass_pipeline.data.xenium.matrix import COUNTERS, Matrix, count_kinds, read_matrix
from nuclass_pipeline.data.xenium.transcripts import TranscriptCounts, count_transcripts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, require, whole_files, write_table
from nuclass_pipeline.schemas import CELLS

CONTROLS = tuple(name for name in COUNTERS if name != "transcript_counts")
# Above 0, the share in every real bundle of the tests, and far below that of two runs, because their cells agree only by coincidence.
MAX_MISMATCH = 0.01
"""Share of cells whose transcripts may differ between two files."""
USE_ONE_RUN = "Use the files of one run."

logger = logging.getLogger(__name__)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read `experiment.xenium`.

    Raises
    ------
    UserError
        If the file is missing or broken, or its pixel size is missing or not that of a microscope.
    """
    remedy = "Use the bundle's own experiment.xenium."
    try:
        record = read_json(path)
    # Wider than what `read_json` catches, because a folder, deep nesting and endless numbers raise these.
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(path, "file", f"not valid JSON ({error})", remedy) from error
    size = record.get("pixel_size") if isinstance(record, dict) else None
    if isinstance(size, bool) or not isinstance(size, int | float) or not MIN_MPP <= size <= MAX_MPP:
        problem = f"is missing, or not a number from {MIN_MPP} to {MAX_MPP} µm; found {size!r}"
        raise UserError(path, "pixel_size", problem, remedy)
    return dict(record)


def read_cell_table(bundle: Path) -> pd.DataFrame:
    """Read the frame of the bundle's own cell table, with ids as text and with counts, whatever its encoding.

    A bundle with `cells.zarr.zip` alone has no counts in its table; they are summed from the matrix.

    Raises
    ------
    UserError
        If there is no table, a column is missing, an id is repeated or a centroid is not a finite number.
    """
    table = read_cell_file(cell_file(bundle))
    if "transcript_counts" not in table.frame:
        table = add_counts(table, align(read_matrix(bundle), table))
    return table.frame


def read_cells(*, manifest: Path, cells: Path, counts: Path) -> None:
    """Read a bundle's cells and gene counts.

    Writes `cells.parquet` (schema `CELLS`) and `counts.h5ad`: X (cells, genes) raw counts in CSR, rows in the order of the cells,
    `obsm["spatial"]` centroids in µm. Cells that only the matrix has are left out, and the log reports how many.

    Parameters
    ----------
    manifest
        `experiment.xenium` in the folder of the bundle.
    cells
        Table to write.
    counts
        AnnData file to write.

    Raises
    ------
    UserError
        If a file is missing or broken, or the cell table, the matrix and the transcripts are not of one run.
    """
    read_manifest(manifest)
    bundle = require(manifest).parent
    table = read_cell_file(cell_file(bundle))
    matrix = align(read_matrix(bundle), table)
    table = add_counts(table, matrix)
    transcripts = transcripts_of(table, matrix)
    with whole_files(cells, counts) as (cells_partial, counts_partial):
        write_table(_standardize(table.frame, transcripts), cells_partial, CELLS)
        write_counts(matrix, table.frame, counts_partial)


def align(matrix: Matrix, table: CellTable) -> Matrix:
    """Return the rows of `matrix` that are the cells of `table`, in the table's order.

    Raises
    ------
    UserError
        If an id of the matrix is repeated, a cell of the table is not in the matrix, or the matrix has no gene.
    """
    # By id and never by position, because samples and edited tables hold the cells in another order than the matrix.
    ids, wanted = pd.Index(matrix.cell_ids), table.frame["cell_id"]
    if ids.has_duplicates:
        raise UserError(matrix.path, "barcodes", f"{ids[ids.duplicated()][0]!r} occurs twice", "Use the bundle's own matrix.")
    rows = ids.get_indexer(pd.Index(wanted))
    if len(absent := wanted[rows < 0]):
        problem = f"cell {absent.iloc[0]} of the cell table is not in it; {len(absent)} of {len(rows)} cells are not"
        raise UserError(matrix.path, "barcodes", problem, USE_ONE_RUN)
    if not (matrix.features["kind"] == "Gene Expression").any():
        raise UserError(matrix.path, "features", "has no feature of type 'Gene Expression'", "Use the bundle's own matrix.")
    if len(ids) > len(rows):
        logger.warning("%d of %d cells of the matrix are not in the cell table and are left out.", len(ids) - len(rows), len(ids))
    return replace(matrix, counts=matrix.counts[rows], cell_ids=matrix.cell_ids[rows])


def add_counts(table: CellTable, matrix: Matrix) -> CellTable:
    """Add the columns of `COUNTERS` that `table` lacks, summed from the aligned `matrix`.

    Raises
    ------
    UserError
        If `transcript_counts` differs from the genes of the matrix in more than the share `MAX_MISMATCH` of the cells.
    """
    frame = table.frame
    sums = count_kinds(matrix).set_axis(frame.index)
    # Only genes are compared, because what counts as a control differs between releases.
    if "transcript_counts" in frame:
        differing = int((frame["transcript_counts"] != sums["transcript_counts"]).sum())
        problem = f"differs from the genes of {matrix.path.name} in {differing} of {len(frame)} cells"
        if differing > MAX_MISMATCH * len(frame):
            raise UserError(table.path, "transcript_counts", problem, USE_ONE_RUN)
        if differing:
            logger.warning("%s: transcript_counts %s.", table.path, problem)
    return replace(table, frame=frame.join(sums[sums.columns.difference(frame.columns, sort=False)]))


def transcripts_of(table: CellTable, matrix: Matrix) -> TranscriptCounts | None:
    """Count the transcripts of the cells of `table`, if its bundle has them, and compare them with the table.

    A file may hold a part of the transcripts: a region, or a sample. So fewer than the table counts are only logged.

    Raises
    ------
    UserError
        If the file is broken, or of another run: no cell of the table has a gene transcript, or too many have more than the table counts.
        Too many is more than the share `MAX_MISMATCH` of the cells with any transcript.
    """
    cell_ids, counts = table.frame["cell_id"], table.frame["transcript_counts"].to_numpy()
    genes = matrix.features.loc[matrix.features["kind"] == "Gene Expression", "name"]
    found = count_transcripts(table.path.parent, cell_ids, genes)
    if found is None:
        return None
    remedy = "Use the files of one run, or remove this file from the bundle: it is optional."
    present, more, fewer = (int(cells.sum()) for cells in (found.counted > 0, found.counted > counts, found.counted < counts))
    if counts.any() and not present:
        raise UserError(found.path, "cell_id", f"no gene transcript with qv ≥ 20 is in a cell of {table.path.name}", remedy)
    problem = f"more gene transcripts than transcript_counts of {table.path.name} in {more} of {present} cells"
    if more > MAX_MISMATCH * present:
        raise UserError(found.path, "cell_id", problem, remedy)
    if more or fewer:
        logger.warning("%s: %s, fewer in %d of %d; nucleus_transcripts is empty there.", found.path, problem, fewer, len(counts))
    return found


def _over_nucleus(table: pd.DataFrame, found: TranscriptCounts | None) -> Floats:
    if found is None or found.over_nucleus is None:
        return np.full(len(table), np.nan)
    # Empty where a cell's transcripts are not all there, because the number over the nucleus is then not known.
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
    """Write the genes of `matrix`, whose rows are the cells of `table`, as an AnnData file."""
    genes = (matrix.features["kind"] == "Gene Expression").to_numpy()
    data = anndata.AnnData(
        X=matrix.counts[:, genes].astype(np.float32),
        obs=pd.DataFrame(index=pd.Index(table["cell_id"].to_numpy(dtype=str), name="cell_id")),
        var=matrix.features.loc[genes, ["name", "id"]].set_index("name"),
        obsm={"spatial": table[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)},
    )
    # Because features with different ids may share a name, and scanpy selects genes by name.
    data.var_names_make_unique()
    data.write_h5ad(counts, compression="lzf")
