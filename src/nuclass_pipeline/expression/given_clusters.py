"""A person's clusters in place of Leiden's."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.cell_columns import read_cell_column

CLUSTER_COLUMNS = ("cluster", "clusters", "leiden", "louvain", "seurat_clusters")
MIN_COMMON = 0.1
"""Share of the cells of a table, or of the slide if it has fewer, that must be in both."""
NOT_GIVEN = "not given"
"""Cluster of cells that pass quality control and that the table lacks: without one, they would count as poor."""


def read_given_clusters(path: Path, column: str | None, names: NDArray[np.str_], passed: Booleans) -> tuple[NDArray[np.object_], list[str]]:
    """Read the clusters of the cells that pass quality control, and warnings.

    Parameters
    ----------
    path
        Table of text or AnnData file with the ids of cells; see `read_cell_column`.
    column
        Column of the clusters; None for the only one of `CLUSTER_COLUMNS`.
    names
        Cells of the slide, (cells,).
    passed
        Which of them pass quality control, (cells,).

    Returns
    -------
    clusters, warnings
        Names of the clusters, (cells that pass,).

    Raises
    ------
    UserError
        As for `read_cell_column`, and if no cell has a cluster, or fewer than `MIN_COMMON` are on the slide.
    """
    identity, rows = read_cell_column(path, CLUSTER_COLUMNS, column)
    given = {cell: name for cell, name in rows if name}
    if not given:
        raise UserError(path, column or "clusters", "no cell has a cluster", "Name the column of the clusters.")
    found = np.array([given.get(name, NOT_GIVEN) for name in names[passed]], dtype=object)
    slide = set(names.tolist())
    common = len(given.keys() & slide)
    # Of the smaller of both, because a table may be of several slides, or of a part of one.
    if common < MIN_COMMON * min(len(given), len(names)) or not common:
        other = next((cell for cell in given if cell not in slide), "")
        few = f"{common} of its {len(given)} cells are" if common else f"none of its {len(given)} cells is"
        problem = f"{few} on the slide; cells such as {other!r} are not, and a cell there is {str(names[0])!r}"
        raise UserError(path, identity, problem, "Use the ids of the cells of this slide.")
    counted = {
        f"of {len(given)} cells with a cluster are not on the slide and are left out": len(given) - common,
        f"of {int(passed.sum())} cells that pass quality control have no cluster in it and form the cluster {NOT_GIVEN!r}": int(
            (found == NOT_GIVEN).sum()
        ),
        "cells with a cluster fail quality control and have none here": len(set(names[~passed]) & set(given)),
    }
    return found, [f"{path.name}: {number} {text}" for text, number in counted.items() if number]
