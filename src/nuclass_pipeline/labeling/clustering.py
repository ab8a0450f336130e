"""Expression clusters of the cells that pass quality control."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import NDArray

from nuclass_pipeline.config.study import ClusteringConfig
from nuclass_pipeline.io import write_table
from nuclass_pipeline.labeling.counts import read_counts, totals
from nuclass_pipeline.schemas import CLUSTERS

log = logging.getLogger(__name__)

FEWEST_CELLS = 10
"""With fewer cells there is no structure to find: they form one cluster."""

EXACT_CELLS = 50_000
"""Up to here exact neighbours are found faster than the approximate search is compiled (half a minute)."""

PANEL_GENES = 2000
"""Larger panels are cut to their most variable genes, smaller ones were chosen by hand and are used whole."""


def cluster_cells(*, counts: Path, config: ClusteringConfig, clusters: Path) -> None:
    """Cluster the cells of a slide by expression.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw integer counts, cells × genes.
    config
        Quality control, components, neighbours, resolution and seed.
    clusters
        Table `CLUSTERS`, one row per cell in the order of `counts`. Cells with fewer than
        `config.min_transcripts` transcripts keep their row, with an empty cluster.
    """
    cells = read_counts(counts)
    passed = totals(cells) >= max(config.min_transcripts, 1)
    log.info("%d of %d cells have at least %d transcripts", passed.sum(), passed.size, config.min_transcripts)
    names, components, umap = _cluster(cells[passed].copy(), config)
    frame = pd.DataFrame({"cell_id": cells.obs_names.to_numpy(str), "cluster": pd.Series([None] * cells.n_obs, dtype=object)})
    frame.loc[passed, "cluster"] = names
    columns = ["umap_1", "umap_2", *(f"pc_{i + 1}" for i in range(components.shape[1]))]
    coordinates = np.full((cells.n_obs, len(columns)), np.nan, np.float32)
    coordinates[passed] = np.hstack([umap, components])
    write_table(pd.concat([frame, pd.DataFrame(coordinates, columns=columns)], axis=1), clusters, CLUSTERS)


def _cluster(cells: ad.AnnData, config: ClusteringConfig) -> tuple[NDArray[np.str_], NDArray[np.float32], NDArray[np.float32]]:
    if cells.n_obs < FEWEST_CELLS:
        log.warning("only %d cells pass quality control: they form one cluster", cells.n_obs)
        return np.full(cells.n_obs, "0"), np.zeros((cells.n_obs, 2), np.float32), np.zeros((cells.n_obs, 2), np.float32)
    embed(cells, config)
    neighbors = _clip("neighbors", config.neighbors, cells.n_obs - 1)
    search = "sklearn" if cells.n_obs <= EXACT_CELLS else "pynndescent"
    sc.pp.neighbors(cells, n_neighbors=neighbors, use_rep="X_pca", transformer=search, random_state=config.seed)
    sc.tl.leiden(cells, resolution=config.resolution, flavor="igraph", n_iterations=2, directed=False, random_state=config.seed)
    # A spectral start needs a graph much larger than the number of its dimensions.
    start = "spectral" if cells.n_obs > 50 else "random"
    sc.tl.umap(cells, min_dist=0.3, maxiter=200, init_pos=start, random_state=config.seed)
    names = cells.obs["leiden"].to_numpy(str)
    log.info("%d clusters", len(set(names)))
    return names, cells.obsm["X_pca"].astype(np.float32), cells.obsm["X_umap"].astype(np.float32)


def embed(cells: ad.AnnData, config: ClusteringConfig) -> None:
    """Normalise to the median depth, take logs, choose genes, and find principal components, in place."""
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    genes = None
    # Among too few cells hardly a gene can be called variable.
    if cells.n_vars > PANEL_GENES and cells.n_obs >= 100:
        sc.pp.highly_variable_genes(cells, n_top_genes=PANEL_GENES, flavor="seurat")
        genes = "highly_variable"
    components = _clip("components", config.components, min(cells.n_obs, cells.n_vars) - 1)
    sc.pp.pca(cells, n_comps=components, mask_var=genes, svd_solver="arpack", random_state=config.seed)


def _clip(name: str, wanted: int, most: int) -> int:
    if wanted > most:
        log.warning("%s: %d wanted, %d possible with so few cells or genes", name, wanted, most)
    return min(wanted, most)
