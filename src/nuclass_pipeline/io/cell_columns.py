"""One column about the cells of a slide, from a table of text or an AnnData file, however other programs write them."""

import re
from collections import Counter
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from nuclass_pipeline.errors import UserError, first_line, similar
from nuclass_pipeline.io.hdf5.reading import open_h5
from nuclass_pipeline.io.paths import COLUMN_MARK, READ_ERRORS
from nuclass_pipeline.io.text import TextTable, read_header, read_rows

if TYPE_CHECKING:
    import pandas as pd

# Several names, because the files of 10x and of common tools are then read as they are.
ID_COLUMNS = ("cell_id", "barcode")
ROW_NAMES = "cell_id"
"""Name of a first column that has none: R and pandas write the names of cells so."""
NUMBERED = "row names"
"""The same where another column has the ids."""
H5AD = ".h5ad"
AS_H5AD = "Write it again with AnnData.write_h5ad."
NOTHING = {"", "na", "nan", "<na>", "none", "null"}
"""What R, pandas and databases write where a value is missing, in small letters."""
MAX_LABELS_MB = 128
"""Largest table of text about cells, MB: about three million cells with one column."""


def read_cell_column(path: Path, usual: Sequence[str], column: str | None = None) -> tuple[str, list[tuple[str, str]]]:
    """Read a column about cells: the name of the column of ids, and each cell with its text, which is empty where a value is missing.

    Parameters
    ----------
    path
        Table of text, as 10x, Seurat and pandas write it, or an AnnData file. The ids are in one of the columns `ID_COLUMNS`, or in a first
        column without a name; for those of an AnnData file see `ids_of`.
    usual
        Usual names of the column, without regard to case.
    column
        Its name; None for the only one of `usual`.

    Raises
    ------
    UserError
        If a column is missing, several columns could be meant, or a cell occurs twice.
    """
    if path.suffix == H5AD:
        identity = ROW_NAMES
        given = list(zip(*_read_obs(path, find_cell_columns(path, columns_of(path), usual, column)[1]), strict=True))
    else:
        table = read_cell_rows(path, (ID_COLUMNS[0], usual[0]))
        identity, name = find_cell_columns(path, table.columns, usual, column)
        given = [(row[identity], row[name]) for _, row in table.rows]
    if twice := [cell for cell, n in Counter(cell for cell, _ in given).items() if n > 1]:
        raise UserError(path, identity, f"{twice[0]!r} occurs twice", "Keep one row per cell.")
    given = [(cell, "" if text.casefold() in NOTHING else text) for cell, text in given]
    # Because pandas writes integers of a column with missing values as floats.
    if all(re.fullmatch(r"-?\d+\.0", text) for _, text in given if text):
        given = [(cell, text.removesuffix(".0")) for cell, text in given]
    return identity, given


def read_obs_column(path: Path, usual: Sequence[str], column: str | None = None) -> list[str]:
    """Return a column about the cells of an AnnData file in their order, whatever their ids are; see `read_cell_column`."""
    _, texts = _read_obs(path, find_cell_columns(path, columns_of(path), usual, column)[1])
    return ["" if text.casefold() in NOTHING else text for text in texts]


def ids_of(obs: "pd.DataFrame") -> list[str]:
    """Return the ids of the cells of an AnnData file: the first of `ID_COLUMNS` that names each cell once, else the names of its rows.

    Tables of spatialdata number their rows, and joined tables repeat barcodes.
    """
    for wanted in ID_COLUMNS:
        for name in (name for name in obs.columns if _key(str(name)) == wanted):
            ids = list(map(_as_text, obs[name]))
            if len(set(ids)) == len(ids) and not any(text.casefold() in NOTHING for text in ids):
                return ids
    return list(map(_as_text, obs.index))


def read_cell_rows(path: Path, named: Sequence[str], required: Sequence[str] = ()) -> TextTable:
    """Read a table of text about cells; `named` columns are in the message about an empty file, and `required` ones must be there."""
    if path.is_file() and not path.stat().st_size:
        raise UserError(path, "header", "the file is empty", f"Write the names of the columns in its first line: {', '.join(named)}.")
    if path.is_file() and path.stat().st_size > MAX_LABELS_MB * 10**6:
        raise UserError(path, "file", f"it is larger than {MAX_LABELS_MB} MB", f"Keep only these columns: {', '.join(named)}.")
    table = read_rows(path, required=required, max_mb=MAX_LABELS_MB, comments=True, row_names=_row_names(path))
    if not table.rows:
        raise UserError(path, "rows", "the table has none", "Add the rows that change a label, or remove the file.")
    return table


def find_cell_columns(path: Path, columns: Sequence[str], usual: Sequence[str], column: str | None = None) -> tuple[str, str]:
    """Return the names of the columns of ids and of what is wanted, of those that a table has; see `read_cell_column`."""
    # Of an AnnData file their values decide, see `ids_of`.
    identity = (
        ROW_NAMES if path.suffix == H5AD else _only(path, columns, ID_COLUMNS, "Add one of these columns.", "Remove all but one of them.")
    )
    as_named = f"Name the column, as {path}{COLUMN_MARK}COLUMN."
    if column is None:
        return identity, _only(path, columns, usual, as_named, as_named)
    if column not in columns:
        raise UserError(path, column, f"no such column; found {', '.join(columns)}{similar(column, columns)}", as_named)
    return identity, column


def columns_of(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a table, without reading it; the names of the cells of an AnnData file come first."""
    if path.suffix != H5AD:
        return read_header(path, comments=True, row_names=_row_names(path))
    with open_h5(path, AS_H5AD) as file:
        if "obs" not in file or "column-order" not in file["obs"].attrs:
            raise UserError(path, "obs", "the file has none, so it is not an AnnData file", AS_H5AD)
        columns = [str(name) for name in file["obs"].attrs["column-order"]]
    return (*(() if any(_key(name) in ID_COLUMNS for name in columns) else (ROW_NAMES,)), *columns)


def _row_names(path: Path) -> str:
    """Return the name of a first column without one: that of ids, unless another column has it, as in tables of numbered cells."""
    further = read_header(path, comments=True, row_names=NUMBERED)[1:]
    return NUMBERED if any(_key(name) in ID_COLUMNS for name in further) else ROW_NAMES


def _read_obs(path: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the ids of the cells of an AnnData file, and their texts in a column."""
    # Here, because anndata takes a second to load, and most tables are text.
    import pandas as pd
    from anndata.io import read_elem

    with open_h5(path, AS_H5AD) as file:
        try:
            obs = file["obs"]
            index = obs.attrs["_index"]
            identities = {key: read_elem(obs[key]) for key in obs if key != index and _key(key) in ID_COLUMNS}
            ids, values = ids_of(pd.DataFrame(identities, index=read_elem(obs[index]))), read_elem(obs[index if name not in obs else name])
        except READ_ERRORS as error:
            raise UserError(path, "obs", f"cannot be read ({first_line(error)})", AS_H5AD) from error
    return ids, list(map(_as_text, values))


def _as_text(value: object) -> str:
    # Because integers of a column with missing values are stored as floats.
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        return str(int(float(value)))
    return str(value).strip()


def _key(name: str) -> str:
    # However it is written, because Xenium Explorer exports `Cell ID`, its earlier versions `cell_id`, and R `cell.type`.
    return name.casefold().replace(" ", "_").replace(".", "_")


def _only(path: Path, columns: Sequence[str], allowed: Sequence[str], if_none: str, if_several: str) -> str:
    found = [name for name in columns if _key(name) in allowed]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(columns) or "none"
    problem = f"the columns {' and '.join(found)} may both be meant; found {listed}" if found else f"no such column; found {listed}"
    raise UserError(path, " | ".join(allowed), problem, if_several if found else if_none)
