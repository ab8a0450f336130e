"""Counts in tables of text, one row per cell: plain CSV, CosMx flat files, and the tables of MERSCOPE."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.data.tables.count_table import CountTable, name_features
from nuclass_pipeline.data.tables.places import COSMX_UM_PER_PX, find_places, places_um, read_cell_places, read_flat, separator_of
from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io import READ_ERRORS, require_file

AS_TABLE = "Use a table of counts with one row per cell: the id of the cell, then one column per gene."
AS_COSMX = "Use the file as CosMx exports it."
ROWS_AT_ONCE = 20_000
COSMX_COUNTS, COSMX_CELLS = "*_exprMat_file.csv*", "*_metadata_file.csv*"
MERSCOPE_COUNTS, MERSCOPE_CELLS = "cell_by_gene.csv", "cell_metadata.csv"


NO_GENE = re.compile(
    r"n_?(counts?|genes?|features?|umis?)(_.*)?|total_(counts?|transcripts|umis?)(_.*)?|fov|area|(nucleus|cell)_area(_um2)?"
    r"|[xy]|[xy]_(um|centroid|location)|center_?[xyz](_.*)?|(seurat_)?clusters?|leiden|louvain|volume|transcript_counts|.*_probe_counts",
    re.IGNORECASE,
)
"""Names of columns about a cell that are whole numbers in tables of common programs."""
MIN_SUMMED = 10
"""Genes and cells from which a column that equals the sum of all others is no chance."""


def read_count_csv(path: Path, further: Sequence[str] = ()) -> tuple[pd.DataFrame, sparse.csr_matrix, list[str]]:
    """Read a table of counts, cells × genes, in blocks.

    Parameters
    ----------
    path
        Table of text; the first column names the cells.
    further
        Names, in small letters, of columns after it that name them too.

    Returns
    -------
    names, counts, genes
        The first columns as text, the counts (cells, genes), and the names of the genes.

    Raises
    ------
    UserError
        If the file is broken, a gene occurs twice, or a value is not a number.
    """
    require_file(path)
    names, blocks = [], []
    try:
        mark = separator_of(path)
        # As a row, because pandas renames columns of one name.
        header = pd.read_csv(path, sep=mark, nrows=1, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig").iloc[0].tolist()
        named = next((i for i, name in enumerate(header) if i and name.casefold() not in further), len(header))
        kinds = dict.fromkeys(range(named), str)
        for block in pd.read_csv(path, sep=mark, skiprows=1, header=None, dtype=kinds, chunksize=ROWS_AT_ONCE, encoding="utf-8-sig"):
            names.append(block.iloc[:, :named])
            blocks.append(sparse.csr_matrix(_numbers(path, block.iloc[:, named:], header[named:])))
    except pd.errors.EmptyDataError:
        raise UserError(path, "rows", "there are none", "Use a table with a header and one row per cell.") from None
    except READ_ERRORS as error:
        raise UserError(path, "file", f"cannot be read ({first_line(error)})", "Save it as comma-separated UTF-8 text.") from None
    genes, joined = header[named:], pd.concat(names, ignore_index=True).fillna("")
    if len(twice := pd.Index(genes)[pd.Index(genes).duplicated()]):
        raise UserError(path, twice[0], "the column occurs twice", "Keep one column per gene.")
    if blocks[0].shape[1] != len(genes):
        raise UserError(path, "columns", f"{len(genes)} are named, and rows have {blocks[0].shape[1]}", "Name every column.")
    counts = sparse.vstack(blocks, format="csr")
    if wrong := next((name for name in genes if NO_GENE.fullmatch(name)), None) or _total_of(counts, genes):
        raise UserError(path, wrong, "the column is about the cells, not a gene", "Remove it from the table of counts.")
    return joined.set_axis(header[:named], axis=1), counts, genes


def _total_of(counts: sparse.csr_matrix, genes: list[str]) -> str | None:
    """Return the name of a column that equals the sum of all others."""
    if min(counts.shape) < MIN_SUMMED:
        return None
    total, sums = np.asarray(counts.sum(axis=1)).ravel(), np.asarray(counts.sum(axis=0)).ravel()
    places = [i for i in np.flatnonzero((sums > 0) & (2 * sums == sums.sum())) if (2 * counts[:, [i]].toarray().ravel() == total).all()]
    return genes[places[0]] if places else None


def _numbers(path: Path, block: pd.DataFrame, genes: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    for position, kind in enumerate(block.dtypes):
        if kind.kind not in "iuf" or block.iloc[:, position].isna().any():
            column = block.iloc[:, position]
            wrong = column[pd.to_numeric(column, errors="coerce").isna()]
            name = genes[position] if position < len(genes) and genes[position] else f"gene {position + 1}, which has no name"
            problem = f"{str(wrong.iloc[0])!r} is not a count" if len(wrong) else f"is {kind}, not counts"
            raise UserError(path, name, problem, AS_TABLE)
    return block.to_numpy(np.float32)


def read_csv_counts(path: Path) -> CountTable:
    """Read a CSV of counts, cells × genes, with the id of the cell in the first column."""
    names, counts, genes = read_count_csv(path)
    return CountTable(path, counts, names.iloc[:, 0].to_numpy(object), name_features(genes))


def read_merscope(source: Path) -> CountTable:
    """Read `cell_by_gene.csv` and `cell_metadata.csv` of MERSCOPE (Vizgen), whose centres are in µm: of a folder, or beside the first."""
    path = source if source.is_file() else _find_counts(source, f"{MERSCOPE_COUNTS}*")
    table, cells = read_csv_counts(path), _find(path.parent, f"{MERSCOPE_CELLS}*")
    return table if cells is None else add_places(table, cells)


def read_cosmx(source: Path) -> CountTable:
    """Read the flat files of CosMx (NanoString), of a folder or beside the table of counts.

    A cell is named `<cell_ID>_<fov>`, as Seurat and squidpy do.
    Rows with `cell_ID` 0 hold the transcripts outside of cells, and are left out.

    Raises
    ------
    UserError
        If a file or column is missing or broken.
    """
    path = source if source.is_file() else _find_counts(source, COSMX_COUNTS)
    names, counts, genes = read_count_csv(path, ("cell_id", "cell"))
    first = [str(name) for name in names.columns]
    if [name.casefold() for name in first[:2]] != ["fov", "cell_id"]:
        raise UserError(path, "fov, cell_ID", f"the first columns are {', '.join(first)}", AS_COSMX)
    keep = (names.iloc[:, 1] != "0").to_numpy()
    warnings = [f"{int((~keep).sum())} rows of transcripts outside of cells (cell_ID 0) are left out"] if not keep.all() else []
    ids = (names.iloc[:, 1] + "_" + names.iloc[:, 0])[keep].to_numpy(object)
    table = CountTable(path, counts[keep], ids, name_features(genes), warnings=warnings)
    cells = _find_cosmx_cells(path)
    return table if cells is None else _add_cosmx_cells(table, cells)


def _find_cosmx_cells(counts: Path) -> Path | None:
    """Return the metadata whose name begins as that of the counts, because a folder may hold several runs."""
    run = counts.name[: counts.name.lower().index("_exprmat_file")]
    if cells := _find(counts.parent, f"{glob.escape(run)}{COSMX_CELLS[1:]}"):
        return cells
    if others := sorted(counts.parent.glob(COSMX_CELLS)):
        problem = f"no such file beside {counts.name}; found {others[0].name}"
        raise UserError(counts.parent, f"{run}{COSMX_CELLS[1:-1]}", problem, "Give both files of a run the same beginning.")
    return None


def _add_cosmx_cells(table: CountTable, path: Path) -> CountTable:
    frame = read_flat(path, ("fov", "cell_id"))
    # In this order, because some exports also have a column `cell_id` with names such as c_1_1_1.
    named = {str(name).casefold(): name for name in sorted(frame.columns, key=lambda name: name == "cell_ID")}
    if missing := [name for name in ("fov", "cell_id") if name not in named]:
        raise _lacks(path, missing[0], frame)
    frame = frame.set_index(frame[named["cell_id"]] + "_" + frame[named["fov"]])
    columns = find_places(frame)
    if columns is None:
        raise _lacks(path, "CenterX_global_px", frame)
    area = pd.to_numeric(frame[named["area"]], errors="coerce") * COSMX_UM_PER_PX**2 if "area" in named else None
    return join_places(table, path, frame, places_um(path, frame, columns), area)


def _lacks(path: Path, column: str, frame: pd.DataFrame) -> UserError:
    return UserError(path, column, f"no such column; found {', '.join(map(str, frame.columns))}", AS_COSMX)


def add_places(table: CountTable, path: Path) -> CountTable:
    """Return the cells with the coordinates of a table of cells; cells that only one of the two has are left out, with a warning."""
    frame, xy_um = read_cell_places(path)
    named = {str(name).casefold(): name for name in frame.columns}
    area = next((pd.to_numeric(frame[named[name]], errors="coerce") for name in ("cell_area_um2", "cell_area") if name in named), None)
    return join_places(table, path, frame, xy_um, area)


def join_places(
    table: CountTable, path: Path, frame: pd.DataFrame, xy_um: np.ndarray[tuple[int, int], np.dtype[np.float64]], area: pd.Series | None
) -> CountTable:
    """Return the cells that both tables have, in the order of the counts, with coordinates and areas (µm²).

    Raises
    ------
    UserError
        If they have no cell in common, or an id occurs twice.
    """
    if frame.index.has_duplicates:
        raise UserError(path, "cell_id", f"{frame.index[frame.index.duplicated()][0]!r} occurs twice", "Keep one row per cell.")
    rows = frame.index.get_indexer(pd.Index(table.cell_ids))
    both = rows >= 0
    if not both.any():
        problem = f"none of its {len(frame)} cells is in {table.path.name}; here {frame.index[0]!r}, there {table.cell_ids[0]!r}"
        raise UserError(path, "cell_id", problem, "Use the tables of one slide.")
    lacking = {
        f"cells of {table.path.name} are not in {path.name} and are left out": int((~both).sum()),
        f"cells of {path.name} are not in {table.path.name}": len(frame) - int(both.sum()),
    }
    areas = pd.DataFrame() if area is None else pd.DataFrame({"cell_area_um2": area.to_numpy(np.float64)[rows[both]]})
    warnings = [*table.warnings, *(f"{number} {text}" for text, number in lacking.items() if number)]
    return CountTable(table.path, table.counts[both], table.cell_ids[both], table.features, xy_um[rows[both]], areas, warnings)


def _find(folder: Path, pattern: str) -> Path | None:
    found = [path for path in sorted(folder.glob(pattern)) if path.name.endswith((".csv", ".csv.gz"))]
    if len(found) > 1:
        problem = f"{len(found)} files fit: {', '.join(path.name for path in found)}"
        raise UserError(folder, pattern, problem, "Leave those of one slide there.")
    return found[0] if found else None


def _find_counts(folder: Path, pattern: str) -> Path:
    if path := _find(folder, pattern):
        return path
    raise UserError(folder, pattern, "no such file", "Use the whole folder of the export.")
