"""A bundle's outlines of nuclei and cells: those that lie in a window, whatever release wrote them.

A polygon is a run of rows with one cell and, since 2.0, one label, because a cell may have several nuclei. Its first vertex is repeated
at its end. Releases before 3.0 write 13 vertices, later ones up to 25. Polygons are simplified, so their areas differ from those of the
cell table.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.data.xenium.checks.boxes import Boxes
from nuclass_pipeline.data.xenium.columns import COPY_AGAIN, encode_text, find_table, finite_numbers, read_batches
from nuclass_pipeline.errors import UserError

Outline = tuple[str, Floats]
"""Cell, and its closed polygon (vertices, 2) as x, y in µm."""
REQUIRED_BOUNDARY_COLUMNS = ("cell_id", "vertex_x", "vertex_y")
# Far above any cell, because a vertex that is dropped here opens its polygon; it only bounds the memory that a window takes.
REACH_UM = 300.0
"""Distance from the window beyond which vertices are dropped at once, µm."""


def read_outlines(
    bundle: Path, what: Literal["nucleus", "cell"], low_um: tuple[float, float], high_um: tuple[float, float]
) -> list[Outline] | None:
    """Return the outlines that have a vertex in a window, in the order of the file; None where the bundle has none.

    Parameters
    ----------
    bundle
        Folder of the Xenium output.
    what
        Outlines of nuclei or of cells.
    low_um, high_um
        Corners (x, y) of the window in the Xenium frame, µm; they may be infinite.

    Returns
    -------
    list of Outline, or None
        Cell and closed polygon (vertices, 2); a cell with several nuclei occurs several times.

    Raises
    ------
    UserError
        If the file is broken, a column is missing, a value is empty or not a finite number, or a polygon is not closed.
    """
    path = find_table(bundle, f"{what}_boundaries")
    if path is None:
        return None
    low, high = np.array(low_um), np.array(high_um)
    ids: list[str] = []
    keys, vertices = [], []
    for batch, names, cell, xy_um in _vertices(path, ["label_id"]):
        label = _labels(path, batch)
        near = ((xy_um >= low - REACH_UM) & (xy_um < high + REACH_UM)).all(axis=1)
        vertices.append(xy_um[near])
        keys.append(np.column_stack([cell[near] + len(ids), label[near]]))
        ids += names
    polygons = list(_polygons(ids, np.concatenate(keys), np.concatenate(vertices))) if keys else []
    reaching = [(name, polygon) for name, polygon in polygons if ((polygon >= low) & (polygon < high)).all(axis=1).any()]
    # Only these, because polygons outside the window may have lost vertices beyond REACH_UM.
    for name, polygon in reaching:
        if len(polygon) < 4 or (polygon[0] != polygon[-1]).any():
            raise UserError(path, "vertex_x", f"the outline of cell {name} is not closed", COPY_AGAIN)
    return reaching


def box_outlines(bundle: Path, what: Literal["nucleus", "cell"], cell_ids: Collection[str]) -> Boxes | None:
    """Return the box around the outline of each cell, or around its nuclei; None where the bundle has no such file.

    Parameters
    ----------
    bundle
        Folder of the Xenium output.
    what
        Outlines of nuclei or of cells.
    cell_ids
        Ids of the cells, each once; outlines with another id are left out.

    Raises
    ------
    UserError
        If the file is broken, a column is missing, or a value is empty or not a finite number.
    """
    path = find_table(bundle, f"{what}_boundaries")
    if path is None:
        return None
    index, boxes = pd.Index(cell_ids), Boxes(path, len(cell_ids))
    for _, names, rows, xy_um in _vertices(path):
        boxes.add(index.get_indexer(pd.Index(names, dtype=object))[rows], xy_um)
    return boxes


def _vertices(path: Path, optional: Sequence[str] = ()) -> Iterator[tuple[pa.RecordBatch, list[str], Integers, Floats]]:
    """Yield each batch of a file with its cells, the number of the cell of each vertex, (N,), and the vertices, (N, 2) in µm."""
    for batch in read_batches(path, REQUIRED_BOUNDARY_COLUMNS, list(optional)):
        names, cell = encode_text(path, batch, "cell_id")
        yield batch, names, cell, np.column_stack([finite_numbers(path, batch, name) for name in REQUIRED_BOUNDARY_COLUMNS[1:]])


def _labels(path: Path, batch: pa.RecordBatch) -> Floats:
    return finite_numbers(path, batch, "label_id") if "label_id" in batch.schema.names else np.zeros(batch.num_rows)


def _polygons(ids: list[str], keys: Floats, vertices: Floats) -> Iterator[Outline]:
    # By name, because a cell that two batches share has a number in each.
    names = np.array(ids, dtype=object)[keys[:, 0].astype(int)] if len(keys) else np.empty(0, object)
    changes = np.flatnonzero((names[1:] != names[:-1]) | (keys[1:, 1] != keys[:-1, 1])) + 1
    for start, end in pairwise([0, *changes.tolist(), len(names)]):
        first = start
        # Ended where it closes too, because early builds of 2.0 write a cell's nuclei without labels.
        for row in range(start, end):
            if row == end - 1 or (row > first and (vertices[row] == vertices[first]).all()):
                yield names[first], vertices[first : row + 1]
                first = row + 1
