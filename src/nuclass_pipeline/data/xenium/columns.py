"""Large tables of a bundle, Parquet or CSV, read a batch of rows at a time and only the columns that are wanted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS

BATCH_ROWS, BUFFER_BYTES, BLOCK_BYTES = 2**18, 2**20, 2**24
COPY_AGAIN = "Copy the file again, or take it out of the bundle, which may lack it."
SUFFIXES = (".parquet", ".csv.gz", ".csv")
"""Encodings in the order of preference."""


def find_table(bundle: Path, name: str) -> Path | None:
    """Return the path of the encoding of a table that is read, or None where the bundle has none."""
    return next((path for suffix in SUFFIXES if (path := bundle / f"{name}{suffix}").is_file()), None)


def read_batches(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Give the rows of a table in batches, with the columns `required` and those of `optional` that are there; of a CSV as text.

    Raises
    ------
    UserError
        If the file is broken, or a column is missing or repeated.
    """
    return (_read_parquet if path.suffix == ".parquet" else _read_csv)(path, required, optional)


def _read_parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        # Without a buffer of its own, each column of a row group is held whole, and a file may be one row group.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=_wanted(path, file.schema_arrow.names, required, optional))
    except (pa.ArrowException, *READ_ERRORS) as error:
        raise UserError(path, "file", f"not a readable Parquet file ({error})", COPY_AGAIN) from error


def _read_csv(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    blocks = pacsv.ReadOptions(block_size=BLOCK_BYTES)
    try:
        with pacsv.open_csv(path, read_options=blocks) as header:
            columns = _wanted(path, header.schema.names, required, optional)
        # As text, because a number that is none would else be told without its column.
        as_text = pacsv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
        with pacsv.open_csv(path, read_options=blocks, convert_options=as_text) as batches:
            yield from batches
    except (pa.ArrowException, *READ_ERRORS) as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", COPY_AGAIN) from error


def _wanted(path: Path, names: list[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    for name in required:
        if name not in names:
            raise UserError(path, name, f"the column is missing; found {', '.join(names)}", COPY_AGAIN)
    wanted = [name for name in (*required, *optional) if name in names]
    for name in wanted:
        if names.count(name) > 1:
            raise UserError(path, name, f"the column occurs {names.count(name)} times", COPY_AGAIN)
    return wanted


def encode_text(path: Path, batch: pa.RecordBatch, name: str) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct values of a column as text, whatever its type, and for each row (N,) which of them it holds.

    Raises
    ------
    UserError
        If a value is empty or no text.
    """
    column = batch.column(name)
    try:
        # Only the distinct values become text.
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        values: list[str] = encoded.dictionary.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(path, name, f"is no text ({error})", COPY_AGAIN) from error
    if encoded.null_count or not all(value and value.strip() for value in values):
        raise UserError(path, name, "is empty in a row", COPY_AGAIN)
    return values, encoded.indices.to_numpy()


def finite_numbers(path: Path, batch: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    """Return a column as numbers (N,); a value that is none, or not finite, is a `UserError`."""
    try:
        values: NDArray[np.float64] = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise UserError(path, name, f"is no number ({error})", COPY_AGAIN) from error
    if len(wrong := values[~np.isfinite(values)]):
        raise UserError(path, name, f"{wrong[0]} is no finite number", COPY_AGAIN)
    return values
