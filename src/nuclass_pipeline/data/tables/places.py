"""Coordinates of cells: the columns that hold them in tables of common programs."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.tables.count_table import check_ids
from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io import READ_ERRORS, require_file

COSMX_UM_PER_PX = 0.12028
"""Pixel size of CosMx SMI, µm: NanoString's release notes of the public FFPE data."""
PLACES: tuple[tuple[str, str, float], ...] = (
    ("x_um", "y_um", 1),
    ("x_centroid", "y_centroid", 1),
    ("center_x", "center_y", 1),
    ("centerx_global_px", "centery_global_px", COSMX_UM_PER_PX),
    ("x", "y", 1),
)
"""Columns of the coordinates in small letters, the first pair that is there, and their unit in µm."""
ID_NAMES = ("cell_id", "barcode", "cell", "entityid", "")
"""Columns of the ids, in small letters; a first column without a name holds them too."""
CELL_FILES = ("cells.parquet", "cells.csv.gz", "cells.csv")
COORDINATES = f"Name two of the columns {', '.join(f'{x} and {y}' for x, y, _ in PLACES)}."


def find_places(frame: pd.DataFrame) -> tuple[str, str, float] | None:
    """Return the columns of the coordinates of a table, and their unit in µm; None if it has none."""
    named = {str(name).casefold(): str(name) for name in frame.columns}
    return next(((named[x], named[y], unit) for x, y, unit in PLACES if x in named and y in named), None)


def places_um(path: Path, frame: pd.DataFrame, columns: tuple[str, str, float]) -> Floats:
    """Return the coordinates (cells, 2) of a table, µm.

    Raises
    ------
    UserError
        If one is not a finite number.
    """
    x, y, unit = columns
    numbers = frame[[x, y]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if len(wrong := np.flatnonzero(~np.isfinite(numbers).all(axis=1))):
        row = int(wrong[0])
        problem = f"{frame[x].iloc[row]}, {frame[y].iloc[row]} of cell {frame.index[row]!r} are not coordinates"
        raise UserError(path, f"{x}, {y}", problem, "Fill them in, or leave the cell out of the counts.")
    return np.asarray(numbers * unit, dtype=np.float64)


def read_flat(path: Path, text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table with commas, semicolons or tabs, gzipped or not, or a Parquet file.

    Parameters
    ----------
    path
        The file; of its first columns, those without a name are named by the empty string.
    text
        Columns that stay as they are written, in small letters.
    """
    try:
        if require_file(path).suffix == ".parquet":
            return pd.read_parquet(path)
        header = list(pd.read_csv(path, sep=separator_of(path), nrows=0, encoding="utf-8-sig").columns)
        kinds = {name: str for name in header if name.casefold() in text or name == "Unnamed: 0"}
        frame = pd.read_csv(path, sep=separator_of(path), dtype=kinds, encoding="utf-8-sig", low_memory=False)
    except READ_ERRORS as error:
        raise UserError(path, "file", f"cannot be read ({first_line(error)})", "Save it as comma-separated UTF-8 text.") from None
    return frame.rename(columns={"Unnamed: 0": ""})


def separator_of(path: Path) -> str:
    """Return the commonest separator of the first line of a table, because names of genes may hold another; a comma where none is."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        first = stream.readline()
    return max(",;\t", key=lambda mark: first.count(mark.encode()))


def read_cell_places(path: Path) -> tuple[pd.DataFrame, Floats]:
    """Read a table of cells: the table by cell id, and the coordinates (cells, 2), µm.

    Raises
    ------
    UserError
        If it has no ids or coordinates, or an id occurs twice.
    """
    frame = read_flat(path, ID_NAMES)
    identity = next((name for wanted in ID_NAMES for name in frame.columns if str(name).casefold() == wanted), None)
    if identity is None:
        problem = f"no such column; found {', '.join(map(str, frame.columns))}"
        raise UserError(path, "cell_id", problem, "Name the column of the ids cell_id.")
    ids = frame[identity].astype(str)
    check_ids(path, ids.to_numpy(object))
    frame = frame.set_index(ids)
    if not (columns := find_places(frame)):
        raise UserError(path, "x_um, y_um", f"no such columns; found {', '.join(map(str, frame.columns))}", COORDINATES)
    return frame, places_um(path, frame, columns)
