"""A bundle's transcripts, counted by cell.

They are read in batches, because a slide may have a hundred million. Releases differ in how they write ids, names and what lies in no
cell, and only later ones tell genes from controls. So a transcript counts if its cell is in the cell table and its feature is a gene of
the matrix: that is one rule for all of them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nuclass_pipeline.data.xenium.columns import COPY_AGAIN, encode_text, find_table, finite_numbers, read_batches
from nuclass_pipeline.errors import UserError

MIN_QV = 20.0
"""Transcripts that were read worse enter neither the matrix nor the counts of the cell table."""
REQUIRED_TRANSCRIPT_COLUMNS = ("cell_id", "feature_name", "qv")


@dataclass(frozen=True)
class TranscriptCounts:
    """Transcripts of genes with qv ≥ 20 by cell, in the order asked for, and totals of the file.

    `over_nucleus` is None where the file does not tell which lie over the nucleus. `in_cells` and `good` are the numbers of transcripts
    in the cells asked for, and with qv ≥ 20, of whatever feature.
    """

    path: Path
    counted: NDArray[np.int64]
    over_nucleus: NDArray[np.int64] | None
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
        The cells, each once; transcripts with another id lie in none of them.
    genes
        Features that are genes; all others are controls.

    Raises
    ------
    UserError
        If the file is broken or has no transcript, a column is missing or repeated, an id or a name is empty, or a value is no number.
    """
    path = find_table(bundle, "transcripts")
    if path is None:
        return None
    cells, panel = pd.Index(cell_ids), pd.Index(genes).unique()
    counted, over_nucleus = np.zeros((2, len(cells)), dtype=np.int64)
    rows = in_cells = good = 0
    tells_overlap = False
    for batch in read_batches(path, REQUIRED_TRANSCRIPT_COLUMNS, ["overlaps_nucleus"]):
        cell, gene = _positions(path, batch, "cell_id", cells), _positions(path, batch, "feature_name", panel)
        is_good = finite_numbers(path, batch, "qv") >= MIN_QV
        counts = (cell >= 0) & (gene >= 0) & is_good
        counted += np.bincount(cell[counts], minlength=len(cells))
        if tells_overlap := "overlaps_nucleus" in batch.schema.names:
            over_nucleus += np.bincount(cell[counts & _flags(path, batch, "overlaps_nucleus")], minlength=len(cells))
        rows, in_cells, good = rows + batch.num_rows, in_cells + int((cell >= 0).sum()), good + int(is_good.sum())
    if not rows:
        raise UserError(path, "file", "has no transcript", COPY_AGAIN)
    return TranscriptCounts(path, counted, over_nucleus if tells_overlap else None, rows, in_cells, good)


def _positions(path: Path, batch: pa.RecordBatch, name: str, index: "pd.Index[str]") -> NDArray[np.intp]:
    """Return where each value of a column stands in `index`; -1 where it does not."""
    values, rows = encode_text(path, batch, name)
    found: NDArray[np.intp] = index.get_indexer(pd.Index(values, dtype=object))[rows]
    return found


def _flags(path: Path, batch: pa.RecordBatch, name: str) -> NDArray[np.bool_]:
    values = finite_numbers(path, batch, name)
    if len(wrong := values[(values != 0) & (values != 1)]):
        raise UserError(path, name, f"{wrong[0]:g} is neither 0 nor 1", COPY_AGAIN)
    return np.asarray(values == 1)
