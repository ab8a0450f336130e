"""Neighbours of cells by their components, and the map of the cells that is drawn from them."""

import logging
from importlib import import_module
from types import ModuleType

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.config.expression import RAPIDS_REMEDY, ClusteringConfig
from nuclass_pipeline.errors import UserError

logger = logging.getLogger(__name__)

EXACT_CELLS = 50_000
"""Most cells with exact neighbours: up to here that search takes less than compiling the approximate one, half a minute."""

EPOCHS, REFINING_EPOCHS = 200, 50
"""Rounds of a map that starts from the spectrum of its graph, and of one that starts from the map of a sample."""

MapPositions = NDArray[np.float32]
"""Coordinates of cells on the map, (cells, 2)."""


def find_neighbors(components: NDArray[np.float32], config: ClusteringConfig, exact: bool) -> ad.AnnData:
    """Find the nearest neighbours of each cell.

    Parameters
    ----------
    components
        Principal components, (cells, components).
    config
        Neighbours, seed and backend.
    exact
        Whether scanpy searches all pairs of cells.

    Returns
    -------
    Cells without counts: the components in `obsm["X_pca"]`, and the graph, (cells, cells), in `obsp["connectivities"]`.

    Raises
    ------
    UserError
        If `config.backend` is not installed.
    """
    cells = ad.AnnData(obs=pd.DataFrame(index=np.arange(len(components)).astype(str)), obsm={"X_pca": components})
    search = {"algorithm": "brute"} if config.backend == "rapids" else {"transformer": "sklearn" if exact else "pynndescent"}
    neighbors = clip("neighbors", config.neighbors, cells.n_obs - 1)
    _tools(config).pp.neighbors(cells, n_neighbors=neighbors, use_rep="X_pca", random_state=config.seed, **search)
    # Without the trees of the search, because other processes receive these cells.
    cells.uns["neighbors"].pop("rp_forest", None)
    return cells


def clip(name: str, wanted: int, most: int) -> int:
    """Return `wanted`, or `most` with a warning where that is less."""
    if wanted > most:
        logger.warning("%s: %d requested, but so few cells or genes allow only %d", name, wanted, most)
    return min(wanted, most)


def _tools(config: ClusteringConfig) -> ModuleType:
    """Return the module that finds neighbours and draws the map."""
    # Leiden is igraph's with either backend, because it takes the smaller part of the time and clusters then differ by their graph alone.
    try:
        return import_module("scanpy" if config.backend == "scanpy" else "rapids_singlecell")
    except ImportError as error:
        raise UserError("run file", "clustering.backend", f"rapids cannot be used ({error})", RAPIDS_REMEDY) from error


def draw_map(cells: ad.AnnData, config: ClusteringConfig, start: MapPositions | None = None) -> MapPositions:
    """Draw the UMAP of cells with neighbours.

    Parameters
    ----------
    cells
        Cells from `find_neighbors`.
    config
        Seed and backend.
    start
        Positions to refine, (cells, 2), by scanpy only; None: start from the spectrum of the graph.
    """
    # A random start for few cells, because the spectral one needs a graph much larger than the number of its dimensions.
    origin = "spectral" if cells.n_obs > 50 else "random"
    if start is not None:
        origin, cells.obsm["start"] = "start", start
    epochs = EPOCHS if start is None else REFINING_EPOCHS
    _tools(config).tl.umap(cells, min_dist=0.3, maxiter=epochs, init_pos=origin, random_state=config.seed)
    return np.asarray(cells.obsm["X_umap"], np.float32)


def spread_positions(graph: sparse.csr_matrix, rows: NDArray[np.int64], placed: MapPositions, seed: int) -> MapPositions:
    """Place every cell of a graph by those that have a place.

    A cell comes to the weighted mean of its neighbours that have a place; then come those next to it, and so on. Cells that no path links
    to a placed one come to a random place within the map, those that are linked to each other to the same.

    Parameters
    ----------
    graph
        Weights, (cells, cells), symmetric.
    rows
        Cells that have a place, (placed,).
    placed
        Their places, (placed, 2).
    seed
        Seed of the random places.
    """
    positions = np.zeros((graph.shape[0], 2), np.float32)
    known = np.zeros(graph.shape[0], bool)
    positions[rows], known[rows] = placed, True
    while True:
        weight = graph @ known.astype(np.float32)
        reached = ~known & (weight > 0)
        if not reached.any():
            break
        positions[reached] = (graph[reached] @ positions) / weight[reached, None]
        known |= reached
    number, island = sparse.csgraph.connected_components(graph, directed=False)
    anywhere = np.random.default_rng(seed).uniform(placed.min(axis=0), placed.max(axis=0), (number, 2))
    positions[~known] = anywhere[island[~known]]
    return positions
