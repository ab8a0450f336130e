"""A bundle's transcripts, counted by cell.

They are read in batches, because a slide may have a hundred million. Releases differ in how they write ids, names and what lies in no
cell, and only later ones tell genes from controls. So a transcript counts if its cell is in the cell table and its feature is a gene of
the matrix: that is one rule for all of them.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuclass_pipeline.data.matrix import READABLE
from nuclass_pipeline.errors import UserError

LEAST_QV = 20.0
"""Transcripts that were read worse enter neither the matrix nor the counts of the cell table."""
REQUIRED = ("cell_id", "feature_name", "qv")
WANTED = (*REQUIRED, "overlaps_nucleus")
BATCH_ROWS, BUFFER_BYTES, BLOCK_BYTES = 2**18, 2**20, 2**24
REMEDY = "Copy the file again, or take it out of the bundle, which may lack it."


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


def transcripts_file(bundle: Path) -> Path | None:
    """Return the path of the encoding that is read, or None where the bundle has none."""
    return next((bundle / name for name in READERS if (bundle / name).is_file()), None)


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
    path = transcripts_file(bundle)
    if path is None:
        return None
    cells, panel = pd.Index(cell_ids), pd.Index(genes).unique()
    counted, over_nucleus = np.zeros((2, len(cells)), dtype=np.int64)
    rows = in_cells = good = 0
    tells_overlap = False
    for batch in READERS[path.name](path):
        cell, gene = _positions(path, batch, "cell_id", cells), _positions(path, batch, "feature_name", panel)
        is_good = _numbers(path, batch, "qv") >= LEAST_QV
        counts = (cell >= 0) & (gene >= 0) & is_good
        counted += np.bincount(cell[counts], minlength=len(cells))
        if tells_overlap := "overlaps_nucleus" in batch.schema.names:
            over_nucleus += np.bincount(cell[counts & _flags(path, batch, "overlaps_nucleus")], minlength=len(cells))
        rows, in_cells, good = rows + batch.num_rows, in_cells + int((cell >= 0).sum()), good + int(is_good.sum())
    if not rows:
        raise UserError(path, "file", "has no transcript", REMEDY)
    return TranscriptCounts(path, counted, over_nucleus if tells_overlap else None, rows, in_cells, good)


def _read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        # Without a buffer of its own, each column of a row group is held whole, and a file may be one row group.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=_wanted(path, file.schema_arrow.names))
    except (pa.ArrowException, *READABLE) as error:
        raise UserError(path, "file", f"not a readable Parquet file ({error})", REMEDY) from error


def _read_csv(path: Path) -> Iterator[pa.RecordBatch]:
    blocks = pacsv.ReadOptions(block_size=BLOCK_BYTES)
    try:
        with pacsv.open_csv(path, read_options=blocks) as header:
            columns = _wanted(path, header.schema.names)
        # As text, because a number that is none would else be told without its column.
        as_text = pacsv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
        with pacsv.open_csv(path, read_options=blocks, convert_options=as_text) as batches:
            yield from batches
    except (pa.ArrowException, *READABLE) as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", REMEDY) from error


def _wanted(path: Path, names: list[str]) -> list[str]:
    for name in REQUIRED:
        if name not in names:
            raise UserError(path, name, f"the column is missing; found {', '.join(names)}", REMEDY)
    wanted = [name for name in WANTED if name in names]
    for name in wanted:
        if names.count(name) > 1:
            raise UserError(path, name, f"the column occurs {names.count(name)} times", REMEDY)
    return wanted


def _positions(path: Path, batch: pa.RecordBatch, name: str, index: "pd.Index[str]") -> NDArray[np.intp]:
    """Return where each value of a column, whatever its type, stands in `index` as text; -1 where it does not."""
    column = batch.column(name)
    try:
        # Only the distinct values become text and are looked up.
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        values = encoded.dictionary.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(path, name, f"is no text ({error})", REMEDY) from error
    if encoded.null_count or not all(value and value.strip() for value in values):
        raise UserError(path, name, "is empty for a transcript", REMEDY)
    found: NDArray[np.intp] = index.get_indexer(pd.Index(values, dtype=object))[encoded.indices.to_numpy()]
    return found


def _numbers(path: Path, batch: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    try:
        values: NDArray[np.float64] = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise UserError(path, name, f"is no number ({error})", REMEDY) from error
    if len(wrong := values[~np.isfinite(values)]):
        raise UserError(path, name, f"{wrong[0]} is no finite number", REMEDY)
    return values


def _flags(path: Path, batch: pa.RecordBatch, name: str) -> NDArray[np.bool_]:
    values = _numbers(path, batch, name)
    if len(wrong := values[(values != 0) & (values != 1)]):
        raise UserError(path, name, f"{wrong[0]:g} is neither 0 nor 1", REMEDY)
    return np.asarray(values == 1)


READERS = {"transcripts.parquet": _read_parquet, "transcripts.csv.gz": _read_csv, "transcripts.csv": _read_csv}
"""Encodings in the order of preference."""
