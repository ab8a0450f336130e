"""Cells and gene counts of a Xenium bundle, of whatever release.

Differences between releases that matter here, as seen in real bundles:

* Before 1.3 cell ids are integers. Later they are strings such as ``aaabckmo-1``, sometimes stored as bytes, and two numbers in a Zarr.
* Before 2.0 every cell has a nucleus. Later `nucleus_area` is empty where `nucleus_count` is 0.
* Control columns differ: probes and codewords since 1.0, unassigned since 1.4, deprecated since 2.0, genomic since 3.0. Controls that a
  table does not count, such as the blank codewords of 1.0, are summed from the matrix.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.alignment import MAX_MPP, MIN_MPP
from nuclass_pipeline.data.xenium.cells import MAX_MISMATCH, CellTable, cell_file, read_cell_file
from nuclass_pipeline.data.xenium.checks.agreement import check_copies, check_morphology, check_outlines, check_places
from nuclass_pipeline.data.xenium.checks.plausible import check_plausible
from nuclass_pipeline.data.xenium.gene_names import genes_by_any_name, name_genes
from nuclass_pipeline.data.xenium.matrix import COUNTERS, GENE, Matrix, count_kinds, read_matrix
from nuclass_pipeline.data.xenium.transcripts import TranscriptCounts, count_transcripts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, require, whole_files, write_table
from nuclass_pipeline.schemas import CELLS

CONTROLS = tuple(name for name in COUNTERS if name != "transcript_counts")
# Because a person may leave out cells, of the border or of bad quality, and a table of fewer is of another run or was cut off.
MIN_SHARE = 0.5
"""Share of the cells of the matrix that the cell table must have."""
USE_ONE_RUN = "Use the files of one run."


@dataclass(frozen=True)
class BundleTables:
    """The tables of a bundle, checked against each other.

    Attributes
    ----------
    manifest
        Content of `experiment.xenium`.
    table
        The cell table, with all columns of `COUNTERS`.
    matrix
        Counts, with rows in the order of the cell table.
    left_out
        Cells that only the matrix has.
    transcripts
        Transcripts by cell; None where the bundle has none.
    warnings
        What is unusual about them.
    """

    manifest: dict[str, Any]
    table: CellTable
    matrix: Matrix
    left_out: int
    transcripts: TranscriptCounts | None
    warnings: list[str]


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
        table, _ = add_counts(table, align(read_matrix(bundle), table))
    return table.frame


def read_bundle(manifest: Path) -> BundleTables:
    """Read the tables of the bundle of `experiment.xenium` and check them.

    Raises
    ------
    UserError
        If a file is missing or broken, a value cannot be, or the files contradict each other.
    """
    record = read_manifest(manifest)
    bundle = require(manifest).parent
    table = read_cell_file(cell_file(bundle))
    whole, warnings = name_genes(read_matrix(bundle), bundle)
    matrix, size = align(whole, table), float(record["pixel_size"])
    left_out = len(whole.cell_ids) - len(matrix.cell_ids)
    if left_out:
        warnings.append(f"{left_out} of {len(whole.cell_ids)} cells of the matrix are not in the cell table and are left out")
    table, differing = add_counts(table, matrix)
    warnings += [*differing, *check_plausible(table, record)]
    check_copies(table)
    warnings += [*check_outlines(table, size), *check_morphology(table, size)]
    transcripts, missing = transcripts_of(table, matrix)
    warnings += missing
    if transcripts and transcripts.boxes:
        warnings += check_places(table, transcripts.boxes, "transcripts", size)
    return BundleTables(record, table, matrix, left_out, transcripts, warnings)


def read_cells(*, manifest: Path, cells: Path, counts: Path) -> None:
    """Read a bundle's cells and gene counts.

    Writes `cells.parquet` (schema `CELLS`) and `counts.h5ad`: X (cells, genes) raw counts in CSR, rows in the order of the cells,
    `obsm["spatial"]` centroids in µm. Cells that only the matrix has are left out. What is unusual is kept as warnings of the table.

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
        If a file is missing or broken, a value cannot be, or the files contradict each other.
    """
    found = read_bundle(manifest)
    with whole_files(cells, counts) as (cells_partial, counts_partial):
        write_table(_standardize(found.table.frame, found.transcripts), cells_partial, CELLS, found.warnings)
        write_counts(found.matrix, found.table.frame, counts_partial)


def align(matrix: Matrix, table: CellTable) -> Matrix:
    """Return the rows of `matrix` that are the cells of `table`, in the table's order.

    Raises
    ------
    UserError
        If an id of the matrix is repeated, a cell of the table is not in the matrix, or the matrix has no gene. If most cells of the matrix
        are not in the table.
    """
    # By id and never by position, because samples and edited tables hold the cells in another order than the matrix.
    ids, wanted = pd.Index(matrix.cell_ids), table.frame["cell_id"]
    if ids.has_duplicates:
        raise UserError(matrix.path, "barcodes", f"{ids[ids.duplicated()][0]!r} occurs twice", "Use the bundle's own matrix.")
    rows = ids.get_indexer(pd.Index(wanted))
    if len(absent := wanted[rows < 0]):
        problem = f"cell {absent.iloc[0]} of the cell table is not in it; {len(absent)} of {len(rows)} cells are not"
        raise UserError(matrix.path, "barcodes", problem, USE_ONE_RUN)
    if not (matrix.features["kind"] == GENE).any():
        raise UserError(matrix.path, "features", "has no feature of type 'Gene Expression'", "Use the bundle's own matrix.")
    if len(rows) < MIN_SHARE * len(ids):
        missing = ids[~ids.isin(wanted)][0]
        problem = f"has {len(rows)} of the {len(ids)} cells of {matrix.path.name}; {missing} is not in it"
        raise UserError(table.path, "cell_id", problem, "Use the files of one run, or leave the same cells out of the matrix.")
    return replace(matrix, counts=matrix.counts[rows], cell_ids=matrix.cell_ids[rows])


def add_counts(table: CellTable, matrix: Matrix) -> tuple[CellTable, list[str]]:
    """Add the columns of `COUNTERS` that `table` lacks, summed from the aligned `matrix`; return the table and warnings.

    Raises
    ------
    UserError
        If `transcript_counts` differs from the genes of the matrix in more than the share `MAX_MISMATCH` of the cells.
    """
    frame = table.frame
    sums = count_kinds(matrix).set_axis(frame.index)
    # Only warnings for controls, because what counts as a control differs between releases.
    odd = {name: int((frame[name] != sums[name]).sum()) for name in CONTROLS if name in frame}
    warnings = [
        f"{name} differs from the controls of {matrix.path.name} in {cells} of {len(frame)} cells"
        for name, cells in odd.items()
        if cells > MAX_MISMATCH * len(frame)
    ]
    if "transcript_counts" in frame:
        differ = (frame["transcript_counts"] != sums["transcript_counts"]).to_numpy()
        differing, first = int(differ.sum()), int(np.argmax(differ))
        example = f"{frame['cell_id'].iloc[first]}: {frame['transcript_counts'].iloc[first]}, {sums['transcript_counts'].iloc[first]}"
        problem = f"differs from the genes of {matrix.path.name} in {differing} of {len(frame)} cells, such as {example}"
        if differing > MAX_MISMATCH * len(frame):
            raise UserError(table.path, "transcript_counts", problem, USE_ONE_RUN)
        warnings += [f"transcript_counts {problem}"] if differing else []
    return replace(table, frame=frame.join(sums[sums.columns.difference(frame.columns, sort=False)])), warnings


def transcripts_of(table: CellTable, matrix: Matrix) -> tuple[TranscriptCounts | None, list[str]]:
    """Count the transcripts of the cells of `table`, if its bundle has them, and compare them with table and matrix.

    A file may hold a part of the transcripts: a region, or a sample. So fewer than the table counts are only a warning.

    Raises
    ------
    UserError
        If the file is broken, or of another run: no cell of the table has a gene transcript, or too many have more than the table counts.
        Too many is more than the share `MAX_MISMATCH` of the cells with any transcript, or of all transcripts, compared by gene.
    """
    frame, names = table.frame, genes_by_any_name(matrix.features)
    counts = frame["transcript_counts"].to_numpy()
    found = count_transcripts(table.path.parent, frame["cell_id"], names)
    if found is None:
        return None, []
    remedy = "Use the files of one run, or remove this file from the bundle: it is optional."
    is_more = found.counted > counts
    present, more, fewer = (int(cells.sum()) for cells in (found.counted > 0, is_more, found.counted < counts))
    if counts.any() and not present:
        raise UserError(found.path, "cell_id", f"no gene transcript with qv ≥ 20 is in a cell of {table.path.name}", remedy)
    problem = f"more gene transcripts than transcript_counts of {table.path.name} in {more} of {present} cells"
    if more > MAX_MISMATCH * present:
        first = int(np.argmax(is_more))
        example = f"{frame['cell_id'].iloc[first]}: {found.counted[first]}, {counts[first]}"
        raise UserError(found.path, "cell_id", f"{problem}, such as {example}", remedy)
    for gene, excess in _excess_by_gene(found, matrix, names):
        raise UserError(found.path, "feature_name", f"has {excess} more transcripts of {gene} in cells than {matrix.path.name}", remedy)
    lack = f"{found.path.name}: {problem}, fewer in {fewer} of {len(counts)}; nucleus_transcripts is empty there"
    return found, [lack] if more or fewer else []


def _excess_by_gene(found: TranscriptCounts, matrix: Matrix, names: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield the gene that most exceeds its counts in the matrix, and by how much, if all genes together do so by too much."""
    genes = (matrix.features["kind"] == GENE).to_numpy()
    counted = pd.Series(np.asarray(matrix.counts.sum(axis=0)).ravel()[genes], index=matrix.features["name"][genes])
    excess = found.by_gene.groupby(found.by_gene.index.map(dict(names))).sum().sub(counted, fill_value=0).clip(lower=0)
    # Of all transcripts and not of the genes, because one transcript too many is a large share of a rare gene.
    if excess.sum() > MAX_MISMATCH * max(found.counted.sum(), 1):
        yield str(excess.idxmax()), int(excess.max())


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
    genes = (matrix.features["kind"] == GENE).to_numpy()
    data = anndata.AnnData(
        X=matrix.counts[:, genes].astype(np.float32),
        obs=pd.DataFrame(index=pd.Index(table["cell_id"].to_numpy(dtype=str), name="cell_id")),
        var=matrix.features.loc[genes, ["name", "id"]].set_index("name"),
        obsm={"spatial": table[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)},
    )
    data.write_h5ad(counts, compression="lzf")
