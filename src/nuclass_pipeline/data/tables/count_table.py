"""Counts and places of cells, whatever file they are from, and what must hold for them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.errors import UserError

CONTROL = re.compile(
    r"(NegPrb|NegControl|Negative|SystemControl|FalseCode|Blank[-_]|BLANK_|antisense_|Unassigned|Deprecated|Intergenic_Region).*"
)
"""Names of what is counted and is not a gene: in CosMx, Xenium and MERSCOPE."""
USE_COUNTS = "Use raw counts, because the depth of a cell is lost in normalised values."
# Because counts are stored as 32-bit floats, which hold all whole numbers up to it.
MAX_STORED_COUNT = 2**24
NEAREST_UM, FARTHEST_UM = 2.0, 30.0
"""Median distance between cells and their next neighbours, µm: below the first, they are not in µm; above the second, perhaps."""
MIN_CELLS_PLACED = 10
"""Fewer cells say nothing about the unit of their coordinates."""
NO_PLACES = "no coordinates: spatial domains and the map of the tissue are left out"


@dataclass(frozen=True)
class CountTable:
    """Counts of cells.

    Attributes
    ----------
    path
        Where they are from, for errors.
    counts
        Counts (cells, features) in CSR.
    cell_ids
        Ids (cells,) as text.
    features
        One row per feature: id (may be empty), name, and kind, which is empty where the file has none.
    xy_um
        Centroids (cells, 2), µm; None where there are none.
    areas
        Columns of `CELLS` about areas, (cells, …).
    warnings
        What a careful person should know.
    """

    path: Path
    counts: sparse.csr_matrix
    cell_ids: NDArray[np.object_]
    features: pd.DataFrame
    xy_um: Floats | None = None
    areas: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: list[str] = field(default_factory=list)


def name_features(names: Iterable[object], ids: Iterable[object] | None = None, kinds: Iterable[object] | None = None) -> pd.DataFrame:
    """Return the features of a `CountTable`."""
    given = {"name": names, "id": ids, "kind": kinds}
    texts = {column: [str(value) for value in values] for column, values in given.items() if values is not None}
    return pd.DataFrame(texts).reindex(columns=list(given), fill_value="")


def first_wrong(values: NDArray[Any]) -> str:
    """Return the first value that is not a count; empty if all are."""
    if values.dtype.kind not in "biuf":
        return f"{values.dtype} values"
    wrong = values[~np.isfinite(values) | (values < 0) | (values != np.rint(values)) | (values > MAX_STORED_COUNT)]
    return f"{wrong[0]:g}" if len(wrong) else ""


def check_counts(table: CountTable) -> None:
    """Check the counts and the ids.

    Raises
    ------
    UserError
        If there is no cell or gene, an id is empty or occurs twice, a value is not a count, or all are zero.
    """
    if not all(table.counts.shape):
        raise UserError(table.path, "counts", "there are {} cells and {} genes".format(*table.counts.shape), "Use a table with both.")
    if wrong := first_wrong(table.counts.data):
        raise UserError(table.path, "counts", f"{wrong} is not a count", USE_COUNTS)
    if not table.counts.data.any():
        raise UserError(table.path, "counts", "they are all zero", USE_COUNTS)
    check_ids(table.path, table.cell_ids)
    if (table.features["name"] == "").any():
        raise UserError(table.path, "genes", "a gene has no name", "Name every gene.")


def check_ids(path: Path, ids: Sequence[str] | NDArray[Any]) -> None:
    """Raise `UserError` if an id of a cell is empty or occurs twice."""
    index = pd.Index(ids, dtype=object)
    if (index == "").any():
        raise UserError(path, "cell_id", "a cell has none", "Give every cell an id.")
    if index.has_duplicates:
        raise UserError(path, "cell_id", f"{index[index.duplicated()][0]!r} occurs twice", "Keep one row per cell.")


def place_warnings(path: Path, xy_um: Floats) -> list[str]:
    """Return a warning if cells lie so far apart that their coordinates may not be in µm.

    Raises
    ------
    UserError
        If they lie nearer than cells can.
    """
    if len(xy_um) < MIN_CELLS_PLACED:
        return []
    distances, _ = NearestNeighbors(n_neighbors=2).fit(xy_um).kneighbors(xy_um)
    median = float(np.median(distances[:, 1]))
    problem = f"the next cell is {median:.3g} µm away (median)"
    if median < NEAREST_UM:
        raise UserError(path, "coordinates", f"{problem}, nearer than cells can lie", "Convert them to µm.")
    return [f"{problem}, which is far: the coordinates may be in another unit than µm"] if median > FARTHEST_UM else []
