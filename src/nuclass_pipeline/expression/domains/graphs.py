"""Which cells are near each other, as sparse matrices with one block per section, and averaging over them."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.expression import DomainsConfig


def near(xy_um: Floats, sections: ArrayLike, radius_um: float) -> sparse.csr_array:
    """Link the cells of one section that are at most `radius_um` apart.

    A cell is never linked to itself. Two cells with the same centroid are linked: they are as near as cells can be.

    Parameters
    ----------
    xy_um
        Centroids, (cells, 2), µm.
    sections
        Section of each cell, (cells,). Sections have coordinates of their own, so their cells are never linked.
    radius_um
        Longest link, µm.

    Returns
    -------
    Symmetric zeros and ones, (cells, cells).
    """
    tree = cKDTree(_apart(xy_um, sections, radius_um))
    first, second = tree.query_pairs(radius_um, output_type="ndarray").T.astype(np.int32)
    upper = sparse.csr_array((np.ones(len(first)), (first, second)), shape=(len(xy_um), len(xy_um)))
    return sparse.csr_array(upper + upper.T)


def crowding(xy_um: Floats, sections: ArrayLike, radius_um: float) -> float:
    """Estimate from a thousand cells how many others lie within `radius_um` of a cell, without making the graph."""
    xyz = _apart(xy_um, sections, radius_um)
    sample = xyz[:: max(1, len(xyz) // 1000)]
    return float(np.mean(cKDTree(xyz).query_ball_point(sample, radius_um, return_length=True))) - 1


def _apart(xy_um: Floats, sections: ArrayLike, radius_um: float) -> Floats:
    """Stack the sections too far apart for a link, so that one tree serves all."""
    layer = np.unique(np.asarray(sections), return_inverse=True)[1]
    return np.column_stack([xy_um, 2 * radius_um * layer])


def spatial_graph(xy_um: Floats, sections: ArrayLike, config: DomainsConfig) -> sparse.csr_array:
    """Give the graph that smooths, (cells, cells).

    In mode `domain` it is hybrid: the larger of 1 within `radius_um` and `contact_weight` within `contact_um`. In mode `contact` it
    has contacts only, all of weight 1, so that a cell counts as much in its own average as each cell that it touches.

    Parameters
    ----------
    xy_um, sections
        Centroids, (cells, 2), µm, and section of each cell.
    config
        Mode, reaches and weight.
    """
    contacts = near(xy_um, sections, config.contact_um)
    if config.mode == "contact":
        return contacts
    # Contacts lie within the radius and weigh at least 1, so their excess on top of the radius graph makes the larger of the two.
    return sparse.csr_array(near(xy_um, sections, config.radius_um) + (config.contact_weight - 1) * contacts)


def normalize_rows(graph: sparse.csr_array) -> sparse.csr_array:
    """Scale rows to a sum of one; rows without an edge stay empty."""
    degree = np.asarray(graph.sum(axis=1), dtype=np.float64)
    return sparse.csr_array(sparse.diags_array(np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)) @ graph)


def transition(graph: sparse.csr_array) -> sparse.csr_array:
    """Give the averaging matrix P = D⁻¹(A + I), (cells, cells): no entry is negative, and rows sum to one."""
    return normalize_rows(sparse.csr_array(graph + sparse.eye_array(graph.shape[0], format="csr")))


def diffuse(weights: Floats, graph: sparse.csr_array, beta: float, steps: int) -> Floats:
    """Average over neighbours: W ← (1 − β) W + β P W, `steps` times, then clip at zero.

    Parameters
    ----------
    weights
        Factor weights W, (cells, rank).
    graph
        Edge weights A, (cells, cells), without loops.
    beta, steps
        Share taken from the surroundings, and how often.
    """
    averaging = transition(graph)
    for _ in range(steps):
        weights = (1 - beta) * weights + beta * (averaging @ weights)
    return np.clip(weights, 0, None)
