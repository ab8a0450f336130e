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

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.expression import RAPIDS_REMEDY, ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import read_counts, totals
from nuclass_pipeline.io import whole_files, write_json, write_table
from nuclass_pipeline.schemas import CLUSTERS

logger = logging.getLogger(__name__)

Codes = Integers
"""Cluster or domain of each cell, (cells,), 0 the largest."""

MIN_CELLS = 10
"""Fewer cells form one cluster, because they have no structure that could be found."""

EXACT_CELLS = 50_000
"""Most cells with exact neighbours: up to here that search takes less than compiling the approximate one, half a minute."""

PANEL_GENES = 2000
"""Genes kept of a larger panel, the most variable ones. Smaller panels are used whole, because their genes were chosen by hand."""

TIE = 0.01
"""Largest difference between stabilities that count as equal, because three seeds cannot resolve less. The finer resolution then wins."""


@dataclass(frozen=True)
class LeidenPartition:
    """Clusters at one resolution.

    Attributes
    ----------
    resolution
        Leiden resolution.
    cluster
        Cluster of each cell, (cells,), 0 the largest.
    stability
        Mean adjusted Rand index between seeds; None with a single resolution, where there is no choice.
    """

    resolution: float
    cluster: Codes
    stability: float | None


def cluster_cells(*, counts: Path, config: ClusteringConfig, clusters: Path, stability: Path) -> None:
    """Cluster the cells of a slide by expression.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw counts, cells × genes.
    config
        Quality control, components, neighbours, resolutions and seed.
    clusters
        Table `CLUSTERS`, one row per cell in the order of `counts`. Cells with fewer than
        `config.min_transcripts` transcripts keep their row, with an empty cluster.
    stability
        JSON: the number of clusters and the stability at each resolution, and the resolution that was `chosen`.

    Raises
    ------
    UserError
        If `counts` is missing or broken, or `config.backend` is not installed.
    """
    cells = read_counts(counts)
    # At least one transcript whatever the run file says, because an empty cell has no expression to cluster.
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
        logger.warning("only %d cells pass quality control, so they form one cluster", cells.n_obs)
        nowhere = np.zeros((cells.n_obs, 2), np.float32)
        one = LeidenPartition(config.resolutions[0], np.zeros(cells.n_obs, np.int64), None)
        return nowhere, nowhere, [one]
    embed(cells, config)
    neighbors = _clip("neighbors", config.neighbors, cells.n_obs - 1)
    tools, search = _tools(config.backend, cells.n_obs)
    tools.pp.neighbors(cells, n_neighbors=neighbors, use_rep="X_pca", random_state=config.seed, **search)
    # A random start for few cells, because the spectral one needs a graph much larger than the number of its dimensions.
    start = "spectral" if cells.n_obs > 50 else "random"
    tools.tl.umap(cells, min_dist=0.3, maxiter=200, init_pos=start, random_state=config.seed)
    tried = partitions(cells.obsp["connectivities"], config)
    return cells.obsm["X_pca"].astype(np.float32), cells.obsm["X_umap"].astype(np.float32), tried


def _tools(backend: str, cells: int) -> tuple[ModuleType, dict[str, str]]:
    """Return the module that finds neighbours and computes the map, and the options of its search."""
    # Leiden is igraph's with either backend, because it takes the smaller part of the time and clusters then differ by their graph alone.
    if backend == "scanpy":
        return sc, {"transformer": "sklearn" if cells <= EXACT_CELLS else "pynndescent"}
    try:
        return import_module("rapids_singlecell"), {"algorithm": "brute"}
    except ImportError as error:
        raise UserError("run file", "clustering.backend", f"rapids cannot be used ({error})", RAPIDS_REMEDY) from error


def embed(cells: ad.AnnData, config: ClusteringConfig) -> None:
    """Normalise to the median depth, take logs, select genes and compute principal components, in place.

    Parameters
    ----------
    cells
        Raw counts, cells × genes. Afterwards `X` is normalised and logged, and `obsm["X_pca"]` has the components, (cells, components).
    config
        Components and seed.
    """
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    genes = None
    # From 100 cells on, because dispersions of fewer cells are mostly noise.
    if cells.n_vars > PANEL_GENES and cells.n_obs >= 100:
        sc.pp.highly_variable_genes(cells, n_top_genes=PANEL_GENES, flavor="seurat")
        genes = "highly_variable"
    components = _clip("components", config.components, min(cells.n_obs, cells.n_vars) - 1)
    sc.pp.pca(cells, n_comps=components, mask_var=genes, svd_solver="arpack", random_state=config.seed)


def _clip(name: str, wanted: int, most: int) -> int:
    if wanted > most:
        logger.warning("%s: %d requested, but so few cells or genes allow only %d", name, wanted, most)
    return min(wanted, most)


def partitions(graph: sparse.csr_matrix, config: ClusteringConfig) -> list[LeidenPartition]:
    """Partition the graph by Leiden at each resolution.

    The stability of a resolution is the mean adjusted Rand index between the partitions of `config.repeats` seeds. It is 1 if the order
    in which cells are visited does not matter. It is not computed if there is only one resolution.

    Parameters
    ----------
    graph
        Weights, (cells, cells), symmetric.
    config
        Resolutions, repeats and the first seed, whose partition is kept.

    Returns
    -------
    One partition per resolution, in the order of `config.resolutions`.
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
    """Return the partition by Leiden (Traag et al. 2019) that maximises modularity at `resolution`, (cells,); 0 is the largest group.

    Parameters
    ----------
    graph
        Edge weights, (cells, cells), symmetric.
    resolution
        Resolution of the modularity; a higher one makes more groups.
    seed
        Seed of the order in which cells are moved.
    """
    cells = ad.AnnData(obs=pd.DataFrame(index=np.arange(graph.shape[0]).astype(str)))
    # One triangle only, because scanpy would add an edge for each of the two.
    edges = sparse.csr_matrix(sparse.triu(graph, k=1))
    # igraph's flavour, because it ranks partitions as leidenalg's RBConfiguration does and is several times faster.
    sc.tl.leiden(
        cells, resolution=resolution, adjacency=edges, flavor="igraph", n_iterations=2, directed=False, random_state=seed, use_weights=True
    )
    names = cells.obs["leiden"].to_numpy(str)
    _, first, code, sizes = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty_like(first)
    rank[np.lexsort((first, -sizes))] = np.arange(len(first))
    return np.asarray(rank[code])


def most_stable(tried: Sequence[LeidenPartition]) -> LeidenPartition:
    """Return the finest of the partitions whose stability is within `TIE` of the best."""
    best = max(partition.stability or 0.0 for partition in tried)
    return max((partition for partition in tried if (partition.stability or 0.0) >= best - TIE), key=lambda partition: partition.resolution)
