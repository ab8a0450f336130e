"""A bundle's transcripts, counted by cell.

They are read in batches, because a slide may have a hundred million. Releases differ in how they write ids, names and transcripts outside
cells, and only later ones mark genes. So one rule holds for all of them: a transcript counts if its cell is in the cell table and its
feature is a gene of the matrix.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Integers
from nuclass_pipeline.data.xenium.checks.boxes import Boxes
from nuclass_pipeline.data.xenium.columns import COPY_AGAIN, encode_text, find_table, finite_numbers, read_batches
from nuclass_pipeline.errors import UserError

# The instrument's own threshold, because transcripts below it are neither in the matrix nor in the counts of the cell table.
MIN_QV = 20.0
"""Quality value (Phred scale) from which a transcript counts."""
REQUIRED_TRANSCRIPT_COLUMNS = ("cell_id", "feature_name", "qv")
PLACE = ("x_location", "y_location")


@dataclass(frozen=True)
class TranscriptCounts:
    """Transcripts of genes with qv ≥ 20 by cell, and totals of the file.

    Attributes
    ----------
    path
        File that was read.
    counted
        Transcripts of genes with qv ≥ 20 (cells,), in the order of the ids that were given.
    by_gene
        The same transcripts (genes,), in the order of the names that were given, each name once.
    boxes
        Box around all transcripts of each cell; None where the file has no columns for their place.
    over_nucleus
        Those of them that lie over the nucleus (cells,); None where the file has no column for it.
    rows
        Transcripts in the file.
    in_cells
        Those in the given cells, whatever their feature and qv.
    good
        Those with qv ≥ 20, whatever their feature and cell.
    """

    path: Path
    counted: Integers
    by_gene: "pd.Series[int]"
    boxes: Boxes | None
    over_nucleus: Integers | None
    rows: int
    in_cells: int
    good: int


def count_transcripts(bundle: Path, cell_ids: Collection[str], genes: Collection[str]) -> TranscriptCounts | None:
    """Count the transcripts of `bundle` by cell; None where it has no such file.

    Parameters
    ----------
    bundle
        Folder of the Xenium output.
    cell_ids
        Ids of the cells, each once; transcripts with another id lie in none of them.
    genes
        Names of the features that are genes; all others are controls.

    Raises
    ------
    UserError
        If the file is broken or has no transcript, or a column is missing or repeated. If an id or a name is empty, or a value is not a
        number.
    """
    path = find_table(bundle, "transcripts")
    if path is None:
        return None
    # Each name once, because two features of the matrix may share it and an index with repeats cannot be searched.
    cells, panel = pd.Index(cell_ids), pd.Index(genes).unique()
    counted, over_nucleus = np.zeros((2, len(cells)), dtype=np.int64)
    by_gene, boxes = np.zeros(len(panel), dtype=np.int64), Boxes(path, len(cells))
    rows = in_cells = good = 0
    has_overlap = has_place = False
    for batch in read_batches(path, REQUIRED_TRANSCRIPT_COLUMNS, ["overlaps_nucleus", *PLACE]):
        cell, gene = _positions(path, batch, "cell_id", cells), _positions(path, batch, "feature_name", panel)
        is_good = finite_numbers(path, batch, "qv") >= MIN_QV
        counts = (cell >= 0) & (gene >= 0) & is_good
        counted += np.bincount(cell[counts], minlength=len(cells))
        by_gene += np.bincount(gene[counts], minlength=len(panel))
        if has_place := set(PLACE) <= set(batch.schema.names):
            boxes.add(cell, np.column_stack([finite_numbers(path, batch, name) for name in PLACE]))
        if has_overlap := "overlaps_nucleus" in batch.schema.names:
            over_nucleus += np.bincount(cell[counts & _flags(path, batch, "overlaps_nucleus")], minlength=len(cells))
        rows, in_cells, good = rows + batch.num_rows, in_cells + int((cell >= 0).sum()), good + int(is_good.sum())
    if not rows:
        raise UserError(path, "file", "has no transcript", COPY_AGAIN)
    genes_found = pd.Series(by_gene, index=panel)
    return TranscriptCounts(
        path, counted, genes_found, boxes if has_place else None, over_nucleus if has_overlap else None, rows, in_cells, good
    )


def _positions(path: Path, batch: pa.RecordBatch, name: str, index: "pd.Index[str]") -> NDArray[np.intp]:
    """Return the position in `index` of each value of a column; -1 where it is not in it."""
    values, rows = encode_text(path, batch, name)
    found: NDArray[np.intp] = index.get_indexer(pd.Index(values, dtype=object))[rows]
    return found


def _flags(path: Path, batch: pa.RecordBatch, name: str) -> Booleans:
    values = finite_numbers(path, batch, name)
    if len(wrong := values[(values != 0) & (values != 1)]):
        raise UserError(path, name, f"{wrong[0]:g} is neither 0 nor 1", COPY_AGAIN)
    return np.asarray(values == 1)
