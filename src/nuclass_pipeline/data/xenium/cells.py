"""The bundle's own cell table in each of the encodings it may hold: Parquet, CSV, Zarr in a zip."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nuclass_pipeline.data.xenium.matrix import COUNTERS, decode_ids, open_zarr, whole_array
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS

REQUIRED_CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid", "transcript_counts")
MAY_BE_EMPTY = ("cell_area", "nucleus_area", "nucleus_count")
MAY_BE_NEGATIVE = ("x_centroid", "y_centroid")
NUMBERS = (*MAY_BE_NEGATIVE, *COUNTERS, *MAY_BE_EMPTY)
WANTED = ("cell_id", *NUMBERS)
MAX_COUNT = 2**53
"""Whole numbers beyond it are not exact."""
SUMMARY = {
    "cell_centroid_x": "x_centroid",
    "cell_centroid_y": "y_centroid",
    "cell_area": "cell_area",
    "nucleus_area": "nucleus_area",
    "nucleus_count": "nucleus_count",
}
"""Columns of the Zarr's `cell_summary` → of the table."""


def read_cell_file(path: Path) -> pd.DataFrame:
    """Read the columns `WANTED`, as far as they are there, with ids as text; the Zarr has no counts.

    Raises
    ------
    UserError
        If the file is broken, a column is missing or repeated, an id is empty or repeated, or a value is no number or no count.
    """
    frame = CELL_READERS[path.name](path)
    if frame.empty:
        raise UserError(path, "cell_id", "the table has no cell", "Use a bundle with cells.")
    frame["cell_id"] = _ids(path, frame["cell_id"])
    if frame["cell_id"].duplicated().any():
        raise UserError(
            path, "cell_id", f"{frame.loc[frame['cell_id'].duplicated(), 'cell_id'].iloc[0]!r} occurs twice", "Ids must be unique."
        )
    for name in frame.columns.intersection(list(NUMBERS)):
        frame[name] = _numbers(path, frame, name)
    return frame


def cell_file(bundle: Path) -> Path:
    """Return the path of the encoding that is read."""
    path = next((bundle / name for name in CELL_READERS if (bundle / name).is_file()), None)
    if path is None:
        raise UserError(
            bundle,
            "cells.parquet",
            "neither it nor cells.csv.gz is there, nor cells.csv or cells.zarr.zip",
            "Is this the output folder of a Xenium run?",
        )
    return path


def text(value: object) -> str:
    """Return an id as text; old releases store bytes or integers."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        columns = _wanted(path, pq.read_schema(path).names)
        # The index that another program may have saved with the table would hide the ids.
        frame: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, *READ_ERRORS) as error:
        raise UserError(path, "file", f"not a readable Parquet file ({error})", "Copy the file again.") from error
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        # Read as a row, because a header read as such renames a column that occurs twice.
        columns = _wanted(path, pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].tolist())
        # Read whole, because rows that are too long pass where columns are chosen.
        return pd.read_csv(path, dtype={"cell_id": str})[columns]
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", "Copy the file again.") from error


def _read_zarr(path: Path) -> pd.DataFrame:
    try:
        with open_zarr(path) as group:
            summary = pd.DataFrame(whole_array(group, "cell_summary"), columns=list(group["cell_summary"].attrs["column_names"]))
            ids = decode_ids(whole_array(group, "cell_id"))
            frame = summary.rename(columns=SUMMARY).assign(cell_id=ids)
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable Zarr of cells ({error})", "Copy the file again.") from error
    frame = frame[_wanted(path, frame.columns.tolist(), REQUIRED_CELL_COLUMNS[:3])]
    if "nucleus_count" in frame and np.isfinite(frame["nucleus_count"]).all():
        frame["nucleus_count"] = frame["nucleus_count"].astype(np.int64)
    if "nucleus_area" in frame:
        frame["nucleus_area"] = frame["nucleus_area"].where(frame["nucleus_area"] != 0)
    return frame


def _wanted(path: Path, names: list[str], required: Collection[str] = REQUIRED_CELL_COLUMNS) -> list[str]:
    for name in required:
        if name not in names:
            raise UserError(path, name, f"the column is missing; found {', '.join(map(str, names))}", "Use the bundle's own cell table.")
    wanted = [name for name in WANTED if name in names]
    for name in wanted:
        if names.count(name) > 1:
            raise UserError(path, name, f"the column occurs {names.count(name)} times", "Use the bundle's own cell table.")
    return wanted


def _ids(path: Path, column: pd.Series) -> list[str]:
    try:
        ids = [text(value) for value in column]
    except UnicodeDecodeError as error:
        raise UserError(path, "cell_id", f"is no text ({error})", "Copy the file again.") from error
    empty = column.isna().to_numpy() | np.array([not value.strip() for value in ids])
    if empty.any():
        raise UserError(path, "cell_id", f"is empty in row {int(np.argmax(empty)) + 1}", "Copy the file again, or drop the row.")
    return ids


def _numbers(path: Path, frame: pd.DataFrame, name: str) -> pd.Series:
    numbers: pd.Series = pd.to_numeric(frame[name], errors="coerce")
    values = numbers.to_numpy(dtype=np.float64)
    empty = frame[name].isna().to_numpy() & (name in MAY_BE_EMPTY)
    wrong = {
        "is no finite number": ~(np.isfinite(values) | empty),
        "is negative": (values < 0) & (name not in MAY_BE_NEGATIVE),
        "is no count": ((np.trunc(values) != values) | (values > MAX_COUNT)) & (name in COUNTERS),
    }
    for problem, rows in wrong.items():
        if rows.any():
            found, cell = frame[name].iloc[int(np.argmax(rows))], frame["cell_id"].iloc[int(np.argmax(rows))]
            raise UserError(path, name, f"{str(found)!r} for cell {cell} {problem}", "Copy the file again, or drop the cell.")
    return numbers


CELL_READERS = {"cells.parquet": _read_parquet, "cells.csv.gz": _read_csv, "cells.csv": _read_csv, "cells.zarr.zip": _read_zarr}
"""Encodings in the order of preference."""
