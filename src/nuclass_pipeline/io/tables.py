"""Parquet tables that keep their schema."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io.paths import MAKE_AGAIN, require_file
from nuclass_pipeline.io.writing import whole_file
from nuclass_pipeline.table_schema import Table

logger = logging.getLogger(__name__)

WARNINGS_KEY = b"nuclass.warnings"
_ARROW_TEXT = dict.fromkeys((pa.string(), pa.large_string()), pd.StringDtype("pyarrow"))


def write_table(frame: pd.DataFrame, path: Path | str, schema: Table, warnings: Sequence[str] = ()) -> None:
    """Check `frame` against `schema` and write it as Parquet.

    Parameters
    ----------
    frame
        The rows.
    path
        File to write.
    schema
        Columns of the table.
    warnings
        What a reader of the results should know about these rows: logged, and kept in the file for `read_warnings`.
    """
    schema.check(frame, path)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for warning in warnings:
        # Without the path, because within `whole_files` it is a temporary one; the log is that of the slide.
        logger.warning("%s: %s", schema.name, warning)
    if warnings:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), WARNINGS_KEY: json.dumps(list(warnings)).encode()})
    with whole_file(path) as partial:
        pq.write_table(table, partial)


class TableWriter:
    """Writer of one Parquet table, block by block, each a row group of its own.

    Parameters
    ----------
    partial
        File to write, a temporary name of `whole_files`.
    path
        The table's name in messages.
    schema
        Columns of the table; `unique` columns are compared within a block only.
    """

    def __init__(self, partial: Path, path: Path | str, schema: Table) -> None:
        self.partial, self.path, self.schema = partial, path, schema
        self._writer: pq.ParquetWriter | None = None

    def append(self, frame: pd.DataFrame) -> None:
        """Check rows against the schema, and write them."""
        self.schema.check(frame, self.path)
        table = pa.Table.from_pandas(frame, preserve_index=False, schema=self._writer.schema if self._writer else None)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.partial, table.schema)
        self._writer.write_table(table, row_group_size=max(1, len(table)))

    def close(self, warnings: Sequence[str] = ()) -> None:
        """Close the table of at least one block; warnings are as for `write_table`."""
        for warning in warnings:
            logger.warning("%s: %s", self.schema.name, warning)
        if self._writer is not None:
            if warnings:
                self._writer.add_key_value_metadata({WARNINGS_KEY: json.dumps(list(warnings)).encode()})
            self._writer.close()


def read_table(path: Path | str, schema: Table, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table and check it against `schema`.

    Raises
    ------
    UserError
        If the file is missing, is not Parquet, or does not follow the schema.
    """
    frame = read_parquet(path, columns)
    schema.check(frame, path, only=columns)
    return frame


def read_compact(path: Path | str, schema: Table, columns: list[str]) -> pd.DataFrame:
    """Read columns as `read_table` does, with text in Arrow's memory: about 14 bytes for a cell id, where Python takes 66.

    Raises
    ------
    UserError
        If the file is missing, is not Parquet, or does not follow the schema.
    """
    frame = read_parquet(path, columns, _ARROW_TEXT)
    schema.check(frame, path, only=columns)
    return frame


def find_rows(wanted: "pd.Index[str]", ids: pd.Series) -> NDArray[np.int32]:
    """Return the row of each wanted id (N,) among `ids` (M,), −1 where it is missing; memory is that of Arrow's text, not of Python's."""
    rows = pc.index_in(pa.array(wanted, pa.string()), value_set=pa.array(ids, pa.string()))
    found: NDArray[np.int32] = rows.fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def read_parquet(path: Path | str, columns: list[str] | None = None, types: dict[pa.DataType, Any] | None = None) -> pd.DataFrame:
    """Read `columns` of a Parquet file; a missing file, column or a broken file is a `UserError`.

    Parameters
    ----------
    path
        The file.
    columns
        Columns to read; all without them.
    types
        Types of pandas by those of Arrow, where they are not the usual ones.
    """
    path = require_file(path)
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in columns or [] if name not in names]:
            raise UserError(
                path, missing[0], f"the column is missing; found {', '.join(names)}", "Restore the column, or the original file."
            )
        frame: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas(types_mapper=types.get if types else None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            path,
            "file",
            f"not a readable Parquet file ({first_line(error)})",
            MAKE_AGAIN,
        ) from error
    return frame
