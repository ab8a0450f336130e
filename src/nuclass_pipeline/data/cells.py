"""The bundle's own cell table in each of the encodings it may hold: Parquet, CSV, Zarr in a zip."""

import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nuclass_pipeline.data.matrix import COUNTERS, READABLE, decode_ids, open_zarr
from nuclass_pipeline.errors import UserError

REQUIRED = ("cell_id", "x_centroid", "y_centroid", "transcript_counts")
MAY_BE_EMPTY = ("cell_area", "nucleus_area", "nucleus_count")
NUMBERS = ("x_centroid", "y_centroid", *COUNTERS, *MAY_BE_EMPTY)
WANTED = ("cell_id", *NUMBERS)
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
        If the file is broken, a column is missing, an id is empty or repeated, or a value is no number.
    """
    frame = READERS[path.name](path)
    if frame.empty:
        raise UserError(path, "cell_id", "the table has no cell", "Use a bundle with cells.")
    _check_ids(path, frame["cell_id"])
    frame["cell_id"] = [text(value) for value in frame["cell_id"]]
    if frame["cell_id"].duplicated().any():
        raise UserError(
            path, "cell_id", f"{frame.loc[frame['cell_id'].duplicated(), 'cell_id'].iloc[0]!r} occurs twice", "Ids must be unique."
        )
    for name in frame.columns.intersection(list(NUMBERS)):
        frame[name] = _numbers(path, frame, name)
    return frame


def cell_file(bundle: Path) -> Path:
    """Return the path of the encoding that is read."""
    path = next((bundle / name for name in READERS if (bundle / name).is_file()), None)
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
    except (pa.ArrowException, OSError) as error:
        raise UserError(path, "file", f"not a readable Parquet file ({error})", "Copy the file again.") from error
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        columns = _wanted(path, list(pd.read_csv(path, nrows=0).columns))
        return pd.read_csv(path, usecols=columns, dtype={"cell_id": str})[columns]
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", "Copy the file again.") from error


def _read_zarr(path: Path) -> pd.DataFrame:
    try:
        with open_zarr(path) as group:
            summary = pd.DataFrame(np.asarray(group["cell_summary"]), columns=list(group["cell_summary"].attrs["column_names"]))
            ids = decode_ids(np.asarray(group["cell_id"]))
    except READABLE as error:
        raise UserError(path, "file", f"not a readable Zarr of cells ({error})", "Copy the file again.") from error
    frame = summary.rename(columns=SUMMARY).assign(cell_id=ids)
    frame = frame[_wanted(path, frame.columns, REQUIRED[:3])]
    if "nucleus_count" in frame:
        frame["nucleus_count"] = frame["nucleus_count"].astype(np.int64)
    if "nucleus_area" in frame:
        frame["nucleus_area"] = frame["nucleus_area"].where(frame["nucleus_area"] > 0)
    return frame


def _wanted(path: Path, names: Collection[str], required: Collection[str] = REQUIRED) -> list[str]:
    for name in required:
        if name not in names:
            raise UserError(path, name, f"the column is missing; found {', '.join(map(str, names))}", "Use the bundle's own cell table.")
    return [name for name in WANTED if name in names]


def _check_ids(path: Path, ids: pd.Series) -> None:
    if ids.isna().any():
        row = int(np.flatnonzero(ids.isna())[0])
        raise UserError(path, "cell_id", f"is empty in row {row + 1}", "Copy the file again, or drop the row.")


def _numbers(path: Path, frame: pd.DataFrame, name: str) -> pd.Series:
    numbers: pd.Series = pd.to_numeric(frame[name], errors="coerce")
    empty = frame[name].isna().to_numpy() & (name in MAY_BE_EMPTY)
    bad = np.flatnonzero(~(np.isfinite(numbers.to_numpy(dtype=np.float64)) | empty))
    if len(bad):
        found, cell = frame[name].iloc[bad[0]], frame["cell_id"].iloc[bad[0]]
        raise UserError(path, name, f"{str(found)!r} for cell {cell} is no finite number", "Copy the file again, or drop the cell.")
    return numbers


READERS = {"cells.parquet": _read_parquet, "cells.csv.gz": _read_csv, "cells.csv": _read_csv, "cells.zarr.zip": _read_zarr}
"""Encodings in the order of preference."""
