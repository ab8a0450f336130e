"""Tables of a bundle, Parquet or CSV: read whole or a batch of rows at a time, and only the columns that are wanted."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, first_line

# Far below the hundred million transcripts of a slide, because a release may write them as one row group:
# in these batches 60 million of them take 0.6 GB (docs/performance.md).
BATCH_ROWS, BUFFER_BYTES, BLOCK_BYTES = 2**18, 2**20, 2**24
COPY_AGAIN = "Copy the file again, or remove it from the bundle: it is optional."
SUFFIXES = (".parquet", ".csv.gz", ".csv")
"""Encodings in the order of preference."""
# Far above the 10 characters of a cell id and the 30 of a gene or control, because programs that import cells make names of their own.
MAX_NAME_LENGTH = 200
"""Characters that the name of a cell or feature may have."""


def find_table(bundle: Path, name: str) -> Path | None:
    """Return the path of the encoding of a table that is read, or None where the bundle has none."""
    return next((path for suffix in SUFFIXES if (path := bundle / f"{name}{suffix}").is_file()), None)


def read_whole(path: Path, required: Sequence[str], optional: Sequence[str] = (), remedy: str = COPY_AGAIN) -> pd.DataFrame:
    """Read a whole table.

    Parameters
    ----------
    path
        A Parquet file, or a CSV file with a header, compressed or not.
    required
        Columns that the table must have.
    optional
        Columns that are read where the table has them.
    remedy
        What the user should do about a broken file, or one with wrong columns.

    Returns
    -------
    DataFrame
        The columns in the order of `required` and `optional`; in a CSV `cell_id` stays as it is written.

    Raises
    ------
    UserError
        If the file is broken, or a column is missing or repeated.
    """
    if path.suffix == ".parquet":
        with refuse_broken(path, "Parquet file", remedy):
            columns = choose_columns(path, pq.read_schema(path).names, required, optional, remedy)
            # Without its metadata, because the index that another program may have saved with the table would hide the ids.
            whole: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas(ignore_metadata=True)
        return whole
    with refuse_broken(path, "CSV", remedy):
        # Read as a row, because pandas renames a column of the header that occurs twice.
        header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].tolist()
        columns = choose_columns(path, header, required, optional, remedy)
        # Read whole, because pandas accepts rows that are too long where columns are chosen.
        return pd.read_csv(path, dtype={"cell_id": str})[columns]


def read_batches(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table in batches, with the columns `required` and those of `optional` that it has; of a CSV as text.

    Raises
    ------
    UserError
        If the file is broken, or a column is missing or repeated.
    """
    return (_parquet_batches if path.suffix == ".parquet" else _csv_batches)(path, required, optional)


def _parquet_batches(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with (
        refuse_broken(path, "Parquet file", COPY_AGAIN),
        # With a small buffer, because otherwise each column of a row group is held whole, and a file may be one row group.
        pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file,
    ):
        yield from file.iter_batches(BATCH_ROWS, columns=choose_columns(path, file.schema_arrow.names, required, optional))


def _csv_batches(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    blocks = pacsv.ReadOptions(block_size=BLOCK_BYTES)
    with refuse_broken(path, "CSV", COPY_AGAIN):
        with pacsv.open_csv(path, read_options=blocks) as header:
            columns = choose_columns(path, header.schema.names, required, optional)
        # Read as text, because pyarrow's own conversion error would not name the column.
        as_text = pacsv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
        with pacsv.open_csv(path, read_options=blocks, convert_options=as_text) as batches:
            yield from batches


@contextmanager
def refuse_broken(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Raise a `UserError` of one line, "not a readable <kind>", for any error that readers of foreign files raise in the block."""
    try:
        yield
    except (pa.ArrowException, *READ_ERRORS) as error:
        raise UserError(path, "file", f"not a readable {kind} ({first_line(error)})", remedy) from error


def choose_columns(
    path: Path, names: Sequence[str], required: Sequence[str], optional: Sequence[str], remedy: str = COPY_AGAIN
) -> list[str]:
    """Return the columns to read: those `required`, then those of `optional` that are among `names`, each once.

    Raises
    ------
    UserError
        If a required column is missing, or a chosen one is repeated.
    """
    for name in required:
        if name not in names:
            raise UserError(path, name, f"the column is missing; found {', '.join(map(str, names))}", remedy)
    chosen = [name for name in dict.fromkeys((*required, *optional)) if name in names]
    for name in chosen:
        if (times := list(names).count(name)) > 1:
            raise UserError(path, name, f"the column occurs {times} times", remedy)
    return chosen


def check_names(path: Path, name: str, values: Iterable[str], remedy: str) -> None:
    """Raise a `UserError` at the first name of a cell or feature that is too long, holds what cannot be seen, or is padded."""
    for row, value in enumerate(values, start=1):
        if len(value) > MAX_NAME_LENGTH:
            raise UserError(path, name, f"{value[:20]!r}… in row {row} has {len(value):,} characters", remedy)
        if not value.isprintable():
            raise UserError(path, name, f"{value!r} in row {row} has a character that cannot be seen", remedy)
        if value != value.strip():
            raise UserError(path, name, f"{value!r} in row {row} begins or ends with a blank", remedy)


def encode_text(path: Path, batch: pa.RecordBatch, name: str) -> tuple[list[str], Integers]:
    """Return the distinct values of a column as text, whatever its type, and for each row (N,) the position of its value.

    Raises
    ------
    UserError
        If a value is empty or not text.
    """
    column = batch.column(name)
    try:
        # Only the distinct values become text, because a batch repeats a few names thousands of times.
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        values: list[str] = encoded.dictionary.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(path, name, f"is not text ({first_line(error)})", COPY_AGAIN) from error
    if encoded.null_count or not all(value and value.strip() for value in values):
        raise UserError(path, name, "is empty in a row", COPY_AGAIN)
    return values, encoded.indices.to_numpy()


def finite_numbers(path: Path, batch: pa.RecordBatch, name: str) -> Floats:
    """Return a column as numbers (N,).

    Raises
    ------
    UserError
        If a value is not a number, or not finite.
    """
    try:
        values: Floats = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise UserError(path, name, f"is not a number ({first_line(error)})", COPY_AGAIN) from error
    if len(wrong := values[~np.isfinite(values)]):
        raise UserError(path, name, f"{wrong[0]} is not a finite number", COPY_AGAIN)
    return values
