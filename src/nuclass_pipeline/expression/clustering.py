"""Expression clusters of the cells that pass quality control."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from pathlib import Path
from types import ModuleType

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import read_counts, totals
from nuclass_pipeline.io import whole_files, write_json, write_table
from nuclass_pipeline.schemas import CLUSTERS

logger = logging.getLogger(__name__)

Codes = NDArray[np.int64]

MIN_CELLS = 10
"""With fewer cells there is no structure to find: they form one cluster."""

EXACT_CELLS = 50_000
"""Up to here exact neighbours are found faster than the approximate search is compiled (half a minute)."""

PANEL_GENES = 2000
"""Larger panels are cut to their most variable genes, smaller ones were chosen by hand and are used whole."""

TIE = 0.01
"""Stabilities this close are equal, as three seeds cannot tell them apart; the finer resolution is then taken."""


@dataclass(frozen=True)
class LeidenPartition:
    """Clusters at one resolution, 0 the largest; no stability where there was nothing to choose from."""

    resolution: float
    cluster: Codes
    stability: float | None


def cluster_cells(*, counts: Path, config: ClusteringConfig, clusters: Path, stability: Path) -> None:
    """Cluster the cells of a slide by expression.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw integer counts, cells × genes.
    config
        Quality control, components, neighbours, resolutions and seed.
    clusters
        Table `CLUSTERS`, one row per cell in the order of `counts`. Cells with fewer than
        `config.min_transcripts` transcripts keep their row, with an empty cluster.
    stability
        JSON: the number of clusters and the stability at each resolution, and the resolution that was `chosen`.
    """
    cells = read_counts(counts)
    passed = totals(cells) >= max(config.min_transcripts, 1)
    logger.info("%d of %d cells have at least %d transcripts", passed.sum(), passed.size, config.min_transcripts)
    components, umap, tried = _cluster(cells[passed].copy(), config)
    chosen = most_stable(tried)
    frame = pd.DataFrame({"cell_id": cells.obs_names.to_numpy(str), "cluster": pd.Series([None] * cells.n_obs, dtype=object)})
    frame.loc[passed, "cluster"] = chosen.cluster.astype(str)
    columns = ["umap_1", "umap_2", *(f"pc_{i + 1}" for i in range(components.shape[1]))]
    coordinates = np.full((cells.n_obs, len(columns)), np.nan, np.float32)
    coordinates[passed] = np.hstack([umap, components])
    with whole_files(clusters, stability) as (clusters_partial, stability_partial):
        write_table(pd.concat([frame, pd.DataFrame(coordinates, columns=columns)], axis=1), clusters_partial, CLUSTERS)
        write_json({"chosen": chosen.resolution, "resolutions": [_summary(partition) for partition in tried]}, stability_partial)


def _summary(partition: LeidenPartition) -> dict[str, float | None]:
    return {
        "resolution": partition.resolution,
        "clusters": len(np.unique(partition.cluster)),
        "stability": partition.stability,
    }


def _cluster(cells: ad.AnnData, config: ClusteringConfig) -> tuple[NDArray[np.float32], NDArray[np.float32], list[LeidenPartition]]:
    if cells.n_obs < MIN_CELLS:
        logger.warning("only %d cells pass quality control: they form one cluster", cells.n_obs)
        nowhere = np.zeros((cells.n_obs, 2), np.float32)
        one = LeidenPartition(config.resolutions[0], np.zeros(cells.n_obs, np.int64), None)
        return nowhere, nowhere, [one]
    embed(cells, config)
    neighbors = _clip("neighbors", config.neighbors, cells.n_obs - 1)
    tools, search = _tools(config.backend, cells.n_obs)
    tools.pp.neighbors(cells, n_neighbors=neighbors, use_rep="X_pca", random_state=config.seed, **search)
    # A spectral start needs a graph much larger than the number of its dimensions.
    start = "spectral" if cells.n_obs > 50 else "random"
    tools.tl.umap(cells, min_dist=0.3, maxiter=200, init_pos=start, random_state=config.seed)
    tried = partitions(cells.obsp["connectivities"], config)
    return cells.obsm["X_pca"].astype(np.float32), cells.obsm["X_umap"].astype(np.float32), tried


def _tools(backend: str, cells: int) -> tuple[ModuleType, dict[str, str]]:
    """Give the module that finds neighbours and draws the map, and how it is to search.

    Leiden is igraph's with either: it takes the smaller part of the time, and clusters of the two then differ by their graph alone.
    """
    if backend == "scanpy":
        return sc, {"transformer": "sklearn" if cells <= EXACT_CELLS else "pynndescent"}
    try:
        return import_module("rapids_singlecell"), {"algorithm": "brute"}
    except ImportError as error:
        remedy = "Install rapids-singlecell on a machine with an NVIDIA GPU, or set clustering.backend to scanpy."
        raise UserError("run file", "clustering.backend", f"rapids cannot be used ({error})", remedy) from error


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
        logger.warning("%s: %d wanted, %d possible with so few cells or genes", name, wanted, most)
    return min(wanted, most)


def partitions(graph: sparse.csr_matrix, config: ClusteringConfig) -> list[LeidenPartition]:
    """Cut the graph by Leiden at each resolution.

    The stability of a resolution is the mean adjusted Rand index between the partitions of `config.repeats` seeds: 1 if the order in which
    cells are visited does not matter. It is not taken where there is only one resolution.

    Parameters
    ----------
    graph
        Weights, (cells, cells), symmetric.
    config
        Resolutions, repeats and the first seed, which names the clusters.
    """
    seeds = range(config.seed, config.seed + (config.repeats if len(config.resolutions) > 1 else 1))
    found = []
    for resolution in config.resolutions:
        repeats = [leiden(graph, resolution, seed) for seed in seeds]
        agreement = [adjusted_rand_score(first, second) for first, second in combinations(repeats, 2)]
        found.append(LeidenPartition(resolution, repeats[0], float(np.mean(agreement)) if agreement else None))
        logger.info("resolution %g: %d clusters, stability %s", resolution, repeats[0].max() + 1, found[-1].stability)
    return found


def leiden(graph: sparse.csr_matrix | sparse.csr_array, resolution: float, seed: int) -> Codes:
    """Partition by Leiden, two iterations, so as to maximise modularity at `resolution`; 0 is the largest group.

    igraph's modularity with a resolution ranks partitions as leidenalg's RBConfiguration does, and is several times faster.

    Parameters
    ----------
    graph
        Edge weights, (cells, cells), symmetric.
    resolution
        Higher makes more groups.
    seed
        Of the order in which cells are moved.
    """
    cells = ad.AnnData(obs=pd.DataFrame(index=np.arange(graph.shape[0]).astype(str)))
    # One triangle: scanpy would add an edge for either.
    edges = sparse.csr_matrix(sparse.triu(graph, k=1))
    sc.tl.leiden(
        cells, resolution=resolution, adjacency=edges, flavor="igraph", n_iterations=2, directed=False, random_state=seed, use_weights=True
    )
    names = cells.obs["leiden"].to_numpy(str)
    _, first, code, sizes = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty_like(first)
    rank[np.lexsort((first, -sizes))] = np.arange(len(first))
    return np.asarray(rank[code])


def most_stable(tried: Sequence[LeidenPartition]) -> LeidenPartition:
    """Choose the most stable partition, and the finest of those within `TIE` of it."""
    best = max(partition.stability or 0.0 for partition in tried)
    return max((partition for partition in tried if (partition.stability or 0.0) >= best - TIE), key=lambda partition: partition.resolution)
