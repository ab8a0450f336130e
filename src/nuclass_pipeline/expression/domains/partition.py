"""Graphs that Leiden partitions into domains: of likeness, or of likeness and place."""

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.expression.domains.graphs import normalize_rows
from nuclass_pipeline.expression.maps import EXACT_CELLS


def feature_graph(weights: Floats, neighbors: int, seed: int) -> sparse.csr_array:
    """Link cells with similar factor weights; the edge weights are UMAP's connectivities, (cells, cells), symmetric.

    Parameters
    ----------
    weights
        Factor weights, (cells, rank), compared by euclidean distance.
    neighbors
        Nearest cells of each cell, including itself; at most all cells.
    seed
        Seed of the approximate search on large slides.
    """
    cells = ad.AnnData(weights.astype(np.float32))
    search = "sklearn" if len(weights) <= EXACT_CELLS else "pynndescent"
    sc.pp.neighbors(cells, n_neighbors=min(neighbors, len(weights) - 1), use_rep="X", transformer=search, random_state=seed)
    return sparse.csr_array(cells.obsp["connectivities"], dtype=np.float64)


def blend_graphs(spatial: sparse.csr_array, feature: sparse.csr_array, alpha: float) -> sparse.csr_array:
    """Blend place and likeness: A = α A_spatial + (1 − α) A_feature, rows scaled to one before and after, then A + Aᵀ.

    Scaling rows leaves the blend asymmetric. The sum with its transpose is what Leiden uses of it on an undirected graph.

    Parameters
    ----------
    spatial, feature
        Edge weights, (cells, cells). A cell without an edge in one of them is linked by the other alone.
    alpha
        Weight α of place, 0 to 1.
    """
    blend = sparse.csr_array(alpha * normalize_rows(spatial) + (1 - alpha) * normalize_rows(feature))
    # Scaled again, because a cell without an edge in one graph has a row sum of α or 1 − α only.
    blend = normalize_rows(blend)
    return sparse.csr_array(blend + blend.T)
