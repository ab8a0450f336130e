"""A person's clusters in place of Leiden's."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.cell_columns import read_cell_column

CLUSTER_COLUMNS = ("cluster", "clusters", "leiden", "louvain", "seurat_clusters")
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
        As for `read_cell_column`, and if no cell of the table is on the slide.
    """
    identity, rows = read_cell_column(path, CLUSTER_COLUMNS, column)
    given = {cell: name for cell, name in rows if name}
    found = np.array([given.get(name, NOT_GIVEN) for name in names[passed]], dtype=object)
    common = len(given.keys() & set(names.tolist()))
    if not common:
        problem = f"none of its {len(given)} cells is on the slide, such as {next(iter(given), '')!r}; a cell there is {str(names[0])!r}"
        raise UserError(path, identity, problem, "Use the ids of the cells of this slide.")
    counted = {
        f"of {len(given)} cells with a cluster are not on the slide and are left out": len(given) - common,
        f"of {int(passed.sum())} cells that pass quality control have no cluster in it and form the cluster {NOT_GIVEN!r}": int(
            (found == NOT_GIVEN).sum()
        ),
        "cells with a cluster fail quality control and have none here": len(set(names[~passed]) & set(given)),
    }
    return found, [f"{path.name}: {number} {text}" for text, number in counted.items() if number]
