"""Expression clusters of the cells that pass quality control."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import NDArray

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.counts import read_counts, totals
from nuclass_pipeline.expression.given_clusters import read_given_clusters
from nuclass_pipeline.expression.maps import EXACT_CELLS, MapPositions, clip, draw_map, find_neighbors, spread_positions
from nuclass_pipeline.expression.partitions import (
    Codes,
    LeidenPartition,
    Submit,
    compare_seeds,
    leiden,
    most_stable,
    seeded_resolutions,
    worker_pool,
)
from nuclass_pipeline.io import whole_files, write_json, write_table
from nuclass_pipeline.runtime import limit_threads
from nuclass_pipeline.schemas import CLUSTERS

logger = logging.getLogger(__name__)

MIN_CELLS = 10
"""Fewer cells form one cluster, because they have no structure that could be found."""

SAMPLE_CELLS = 50_000
"""Most cells on which resolutions are compared. A slide of more is compared on so many of its cells, drawn at random."""

SHARED_CELLS = 20_000
"""Fewer cells are the work of one process, because another takes longer to start than it saves."""

PANEL_GENES = 2000
"""Genes kept of a larger panel, the most variable ones. Smaller panels are used whole, because their genes were chosen by hand."""


@dataclass(frozen=True)
class _Clustering:
    """The map and the clusters of the cells, (cells, …), and the partitions that were compared, maybe of a sample."""

    umap: MapPositions
    cluster: Codes
    tried: list[LeidenPartition]


def cluster_cells(
    *,
    counts: Path,
    config: ClusteringConfig,
    clusters: Path,
    stability: Path,
    given: Path | None = None,
    column: str | None = None,
    threads: int = 1,
) -> None:
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
        JSON: the number of clusters and the stability at each resolution, the number of `cells` on which these were compared, and the
        resolution that was `chosen`.
    given, column
        A person's clusters in place of Leiden's, and their column in that table; see `read_given_clusters`. No resolution is chosen then.
    threads
        Processes that share the resolutions, the seeds and the map. Results do not depend on it.

    Raises
    ------
    UserError
        If `counts` or `given` is missing or broken, or `config.backend` is not installed.
    """
    # Of each process, because sums and the random numbers of pynndescent depend on the number of threads.
    limit_threads(1)
    names, passed, components = _read_components(counts, config)
    # Before the map, because it takes longest.
    own, warnings = read_given_clusters(given, column, names, passed) if given else (None, [])
    found = _map_only(components, config) if own is not None else _cluster(components, config, threads)
    frame = pd.DataFrame({"cell_id": names, "cluster": pd.Series([None] * len(names), dtype=object)})
    frame.loc[passed, "cluster"] = found.cluster.astype(str) if own is None else own
    columns = ["umap_1", "umap_2", *(f"pc_{i + 1}" for i in range(components.shape[1]))]
    coordinates = np.full((len(names), len(columns)), np.nan, np.float32)
    coordinates[passed] = np.hstack([found.umap, components])
    with whole_files(clusters, stability) as (clusters_partial, stability_partial):
        write_table(pd.concat([frame, pd.DataFrame(coordinates, columns=columns)], axis=1), clusters_partial, CLUSTERS, warnings)
        record = {"chosen": None, "cells": int(passed.sum()), "resolutions": [], "given": str(given)} if given else _record(found.tried)
        write_json(record, stability_partial)


def _record(tried: list[LeidenPartition]) -> dict[str, object]:
    resolutions = [
        {"resolution": partition.resolution, "clusters": len(np.unique(partition.cluster)), "stability": partition.stability}
        for partition in tried
    ]
    return {"chosen": most_stable(tried).resolution, "cells": len(tried[0].cluster), "resolutions": resolutions}


def _read_components(counts: Path, config: ClusteringConfig) -> tuple[NDArray[np.str_], NDArray[np.bool_], NDArray[np.float32]]:
    """Return the names of all cells, which of them pass quality control, and the components of these. The counts are released."""
    cells = read_counts(counts)
    # At least one transcript whatever the run file says, because an empty cell has no expression to cluster.
    passed = totals(cells) >= max(config.min_transcripts, 1)
    logger.info("%d of %d cells have at least %d transcripts", passed.sum(), passed.size, config.min_transcripts)
    names, cells = cells.obs_names.to_numpy(str), cells[passed].copy()
    # A component needs two genes.
    if cells.n_obs < MIN_CELLS or cells.n_vars < 2:
        return names, passed, np.zeros((cells.n_obs, 2), np.float32)
    embed(cells, config)
    return names, passed, cells.obsm["X_pca"]


def _cluster(components: NDArray[np.float32], config: ClusteringConfig, threads: int) -> _Clustering:
    number = len(components)
    if number < MIN_CELLS or not components.any():
        logger.warning("%d cells pass quality control, too few, or with too few genes, so they form one cluster", number)
        one = LeidenPartition(config.resolutions[0], np.zeros(number, np.int64), None)
        return _Clustering(np.zeros((number, 2), np.float32), one.cluster, [one])
    with worker_pool(threads if number >= SHARED_CELLS else 1) as submit:
        find = partial(find_neighbors, config=config, exact=number <= EXACT_CELLS)
        cells = find(components)
        if number > SAMPLE_CELLS:
            return _cluster_by_sample(cells, find, config, submit)
        umap, tried = _draw_and_compare(cells, config, submit)
    return _Clustering(umap, most_stable(tried).cluster, tried)


def _map_only(components: NDArray[np.float32], config: ClusteringConfig) -> _Clustering:
    """Draw the map of cells whose clusters are known."""
    return _cluster(components, config.model_copy(update={"resolutions": config.resolutions[:1]}), threads=1)


def _cluster_by_sample(cells: ad.AnnData, find: Callable[..., ad.AnnData], config: ClusteringConfig, submit: Submit) -> _Clustering:
    """Choose the resolution on a sample of the cells, and partition all of them at that one alone."""
    rows = np.sort(np.random.default_rng(config.seed).choice(cells.n_obs, SAMPLE_CELLS, replace=False))
    logger.info("%d cells, drawn at random, decide on the resolution", SAMPLE_CELLS)
    # With neighbours of its own, because a sample keeps few of the neighbours that its cells have among all.
    drawn, tried = _draw_and_compare(find(cells.obsm["X_pca"][rows]), config, submit)
    chosen, graph = most_stable(tried), cells.obsp["connectivities"]
    cluster = submit(leiden, graph, chosen.resolution, config.seed)
    # By scanpy only, because RAPIDS takes no positions to start from, and needs none to be fast.
    start = spread_positions(graph, rows, drawn, config.seed) if config.backend == "scanpy" else None
    found = _Clustering(draw_map(cells, config, start), cluster(), tried)
    # A single resolution was not compared, on a sample or otherwise.
    return found if chosen.stability is not None else replace(found, tried=[replace(chosen, cluster=found.cluster)])


def _draw_and_compare(cells: ad.AnnData, config: ClusteringConfig, submit: Submit) -> tuple[MapPositions, list[LeidenPartition]]:
    codes = [submit(leiden, cells.obsp["connectivities"], *run) for run in seeded_resolutions(config)]
    # Here, while other processes partition the graph.
    umap = draw_map(cells, config)
    return umap, compare_seeds([code() for code in codes], config)


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
    components = clip("components", config.components, min(cells.n_obs, cells.n_vars) - 1)
    sc.pp.pca(cells, n_comps=components, mask_var=genes, svd_solver="arpack", random_state=config.seed)
