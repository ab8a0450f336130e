"""Graphs of cells that are near each other, as sparse matrices with one block per section, and averaging over them."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.expression import DomainsConfig


def near(xy_um: Floats, sections: ArrayLike, radius_um: float) -> sparse.csr_array:
    """Link the cells of one section that are at most `radius_um` apart.

    A cell is never linked to itself. Two cells with the same centroid are linked, because no cells are nearer.

    Parameters
    ----------
    xy_um
        Centroids, (cells, 2), µm.
    sections
        Section of each cell, (cells,). Cells of different sections are never linked, because each section has coordinates of its own.
    radius_um
        Longest link, µm.

    Returns
    -------
    Symmetric matrix of zeros and ones, (cells, cells).
    """
    tree = cKDTree(_apart(xy_um, sections, radius_um))
    first, second = tree.query_pairs(radius_um, output_type="ndarray").T.astype(np.int32)
    upper = sparse.csr_array((np.ones(len(first)), (first, second)), shape=(len(xy_um), len(xy_um)))
    return sparse.csr_array(upper + upper.T)


def crowding(xy_um: Floats, sections: ArrayLike, radius_um: float) -> float:
    """Estimate from a thousand cells how many others lie within `radius_um` of a cell, without building the graph."""
    xyz = _apart(xy_um, sections, radius_um)
    sample = xyz[:: max(1, len(xyz) // 1000)]
    return float(np.mean(cKDTree(xyz).query_ball_point(sample, radius_um, return_length=True))) - 1


def _apart(xy_um: Floats, sections: ArrayLike, radius_um: float) -> Floats:
    # Sections become layers that are too far apart for a link, so that one tree serves all.
    layer = np.unique(np.asarray(sections), return_inverse=True)[1]
    return np.column_stack([xy_um, 2 * radius_um * layer])


def spatial_graph(xy_um: Floats, sections: ArrayLike, config: DomainsConfig) -> sparse.csr_array:
    """Return the graph over which factors are smoothed, symmetric edge weights, (cells, cells).

    In mode `domain` it is hybrid: the larger of 1 within `radius_um` and `contact_weight` within `contact_um`. In mode `contact` it
    has contacts only, all of weight 1. A cell then counts as much in its own average as each cell that it touches.

    Parameters
    ----------
    xy_um
        Centroids, (cells, 2), µm.
    sections
        Section of each cell, (cells,).
    config
        Mode, radii and weight of a contact.
    """
    contacts = near(xy_um, sections, config.contact_um)
    if config.mode == "contact":
        return contacts
    # A sum is the larger of the two, because contacts lie within the radius and only their excess over 1 is added.
    return sparse.csr_array(near(xy_um, sections, config.radius_um) + (config.contact_weight - 1) * contacts)


def normalize_rows(graph: sparse.csr_array) -> sparse.csr_array:
    """Scale the rows of a graph, (cells, cells), to a sum of one; rows without an edge stay empty."""
    degree = np.asarray(graph.sum(axis=1), dtype=np.float64)
    return sparse.csr_array(sparse.diags_array(np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)) @ graph)


def transition(graph: sparse.csr_array) -> sparse.csr_array:
    """Return the averaging matrix P = D⁻¹(A + I), (cells, cells), with D the row sums of A + I: rows sum to one."""
    return normalize_rows(sparse.csr_array(graph + sparse.eye_array(graph.shape[0], format="csr")))


def diffuse(weights: Floats, graph: sparse.csr_array, beta: float, steps: int) -> Floats:
    """Average over neighbours: W ← (1 − β) W + β P W, `steps` times, then clip at zero.

    Parameters
    ----------
    weights
        Factor weights W, (cells, rank).
    graph
        Edge weights A, (cells, cells), without loops.
    beta
        Share β of the surroundings in a step, 0 to 1.
    steps
        Number of steps.

    Returns
    -------
    Smoothed weights, (cells, rank).
    """
    averaging = transition(graph)
    for _ in range(steps):
        weights = (1 - beta) * weights + beta * (averaging @ weights)
    return np.clip(weights, 0, None)
