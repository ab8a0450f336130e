"""The bundle's own cell table in each of the encodings it may have: Parquet, CSV, Zarr in a zip."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.data.xenium.columns import MAX_NAME_LENGTH, check_names, choose_columns, read_whole, refuse_broken
from nuclass_pipeline.data.xenium.matrix import COUNTERS, decode_ids, open_zarr, whole_array
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require_file

REQUIRED_CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid", "transcript_counts")
MAY_BE_EMPTY = ("cell_area", "nucleus_area", "nucleus_count")
CENTROID = ("x_centroid", "y_centroid")
NUMBERS = (*CENTROID, *COUNTERS, *MAY_BE_EMPTY)
WANTED = ("cell_id", *NUMBERS)
MAX_COUNT = 2**31
"""Highest number of transcripts in a cell; a slide has some hundred million."""
SUMMARY = {
    "cell_centroid_x": "x_centroid",
    "cell_centroid_y": "y_centroid",
    "cell_area": "cell_area",
    "nucleus_area": "nucleus_area",
    "nucleus_count": "nucleus_count",
}
"""Columns of the Zarr's `cell_summary` → of the table."""
COPY_CELLS = "Copy the bundle's own cell table again."
# Above 0, the share in every real bundle of the tests, and far below that of two runs, because their cells agree only by coincidence.
MAX_MISMATCH = 0.01
"""Share of cells that may contradict another column or file without a refusal."""


@dataclass(frozen=True)
class CellTable:
    """A cell table and where it comes from.

    Attributes
    ----------
    path
        File that it was read from, in the folder of the bundle.
    frame
        One row per cell with the columns `WANTED`, as far as the file has them: ids as text, centroids in µm, areas in µm², counts.
    """

    path: Path
    frame: pd.DataFrame


def read_cell_file(path: Path) -> CellTable:
    """Read the columns `WANTED` that a file has, with ids as text; the Zarr has no counts.

    Raises
    ------
    UserError
        If the file is broken, a column is missing or repeated, or an id is empty or repeated. If a value is not a number or not a count.
    """
    frame = CELL_READERS[path.name](path)
    if frame.empty:
        raise UserError(path, "cell_id", "the table has no cell", "Use a bundle with cells.")
    frame["cell_id"] = _ids(path, frame["cell_id"])
    repeated = frame.loc[frame["cell_id"].duplicated(), "cell_id"]
    if len(repeated):
        raise UserError(path, "cell_id", f"{repeated.iloc[0]!r} occurs twice", COPY_CELLS)
    for name in frame.columns.intersection(list(NUMBERS)):
        frame[name] = _numbers(path, frame, name)
    return CellTable(path, frame)


def cell_file(bundle: Path) -> Path:
    """Return the path of the encoding that is read."""
    path = next((bundle / name for name in CELL_READERS if (bundle / name).is_file()), None)
    if path is None:
        if odd := next((bundle / name for name in CELL_READERS if (bundle / name).exists()), None):
            require_file(odd, "Use the whole output folder of a Xenium run.")
        raise UserError(
            bundle,
            "cells.parquet",
            "neither it nor cells.csv.gz is there, nor cells.csv or cells.zarr.zip",
            "Use the whole output folder of a Xenium run.",
        )
    return path


def text(value: object) -> str:
    """Return an id as text; old releases store bytes or integers."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_table(path: Path) -> pd.DataFrame:
    return read_whole(path, REQUIRED_CELL_COLUMNS, WANTED, COPY_CELLS)


def _read_zarr(path: Path) -> pd.DataFrame:
    with refuse_broken(path, "Zarr of cells", COPY_CELLS), open_zarr(path) as group:
        summary = pd.DataFrame(whole_array(group, "cell_summary"), columns=list(group["cell_summary"].attrs["column_names"]))
        frame = summary.rename(columns=SUMMARY).assign(cell_id=decode_ids(whole_array(group, "cell_id")))
    # Without transcript_counts, because the summary of the Zarr has no counts; they are summed from the matrix later.
    frame = frame[choose_columns(path, frame.columns.tolist(), REQUIRED_CELL_COLUMNS[:3], WANTED, COPY_CELLS)]
    # The Zarr holds one array of floats with 0 where there is no nucleus; the other encodings write integers and an empty area.
    if "nucleus_count" in frame and np.isfinite(frame["nucleus_count"]).all():
        frame["nucleus_count"] = frame["nucleus_count"].astype(np.int64)
    if "nucleus_area" in frame:
        frame["nucleus_area"] = frame["nucleus_area"].where(frame["nucleus_area"] != 0)
    return frame


def _ids(path: Path, column: pd.Series) -> list[str]:
    try:
        ids = [text(value) for value in column]
    except UnicodeDecodeError as error:
        raise UserError(path, "cell_id", f"is not text ({error})", COPY_CELLS) from error
    empty = column.isna().to_numpy() | np.array([not value.strip() for value in ids])
    if empty.any():
        raise UserError(path, "cell_id", f"is empty in row {int(np.argmax(empty)) + 1}", "Copy the file again, or drop the row.")
    check_names(path, "cell_id", ids, COPY_CELLS)
    return ids


def _numbers(path: Path, frame: pd.DataFrame, name: str) -> pd.Series:
    # By type, because pandas turns times and flags into numbers without an error.
    if frame[name].dtype.kind in "mMbc":
        first = f"{str(frame[name].iloc[0])!r} for cell {frame['cell_id'].iloc[0]}"
        raise UserError(path, name, f"{first} is not a number, but {frame[name].dtype}", COPY_CELLS)
    numbers: pd.Series = pd.to_numeric(frame[name], errors="coerce")
    values = numbers.to_numpy(dtype=np.float64)
    empty = frame[name].isna().to_numpy() & (name in MAY_BE_EMPTY)
    wrong = {
        "is not a finite number": ~(np.isfinite(values) | empty),
        "is negative": values < 0,
        "is not a count": ((np.trunc(values) != values) | (values > MAX_COUNT)) & (name in COUNTERS),
    }
    for problem, rows in wrong.items():
        if rows.any():
            # The value as it is in the file, because `numbers` holds NaN for whatever is not a number.
            found, cell = frame[name].iloc[int(np.argmax(rows))], frame["cell_id"].iloc[int(np.argmax(rows))]
            shown = str(found) if len(str(found)) <= MAX_NAME_LENGTH else f"{str(found)[:20]}…"
            raise UserError(path, name, f"{shown!r} for cell {cell} {problem}", "Copy the file again, or drop the cell.")
    return numbers


CELL_READERS = {"cells.parquet": _read_table, "cells.csv.gz": _read_table, "cells.csv": _read_table, "cells.zarr.zip": _read_zarr}
"""Encodings in the order of preference."""
