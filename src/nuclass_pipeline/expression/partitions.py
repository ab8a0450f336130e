"""Leiden partitions of a graph at several resolutions, the most stable of them, and the processes that share the work."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from typing import Any, cast

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from joblib.externals.loky import ProcessPoolExecutor
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.expression import ClusteringConfig

logger = logging.getLogger(__name__)

Codes = Integers
"""Cluster or domain of each cell, (cells,), 0 the largest."""

TIE = 0.01
"""Largest difference between stabilities that count as equal, because three seeds cannot resolve less. The finer resolution then wins."""

Submit = Callable[..., Callable[[], Any]]
"""Starts work on arguments, and returns a function that waits for the result."""


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


@contextmanager
def worker_pool(threads: int) -> Iterator[Submit]:
    """Yield a function that starts work in another process and returns a function that waits for the result.

    Parameters
    ----------
    threads
        Processes, this one included. With one, the work is done here, when its result is wanted.
    """
    if threads == 1:
        yield partial
        return
    # Processes, because igraph keeps the interpreter's lock, and draws its random numbers from one state in each process. Loky's,
    # because those of the standard library would run the script of the rule again.
    executor = ProcessPoolExecutor(threads - 1)
    try:
        yield lambda work, *arguments: cast(Callable[[], Any], executor.submit(work, *arguments).result)
    finally:
        executor.shutdown(kill_workers=True)


def seeded_resolutions(config: ClusteringConfig) -> list[tuple[float, int]]:
    """Return the resolutions and seeds that are compared, the seeds of a resolution in a row; a single resolution has one seed."""
    return list(product(config.resolutions, range(config.seed, config.seed + _repeats(config))))


def _repeats(config: ClusteringConfig) -> int:
    return config.repeats if len(config.resolutions) > 1 else 1


def compare_seeds(codes: Sequence[Codes], config: ClusteringConfig) -> list[LeidenPartition]:
    """Compare the partitions of each resolution.

    The stability of a resolution is the mean adjusted Rand index between the partitions of `config.repeats` seeds. It is 1 if the order
    in which cells are visited does not matter. It is not computed if there is only one resolution.

    Parameters
    ----------
    codes
        Partition of the cells, (cells,), at each of `seeded_resolutions`.
    config
        Resolutions, repeats and the first seed, whose partition is kept.

    Returns
    -------
    One partition per resolution, in the order of `config.resolutions`.
    """
    repeats, found = _repeats(config), []
    for number, resolution in enumerate(config.resolutions):
        runs = codes[number * repeats : (number + 1) * repeats]
        agreement = [adjusted_rand_score(first, second) for first, second in combinations(runs, 2)]
        found.append(LeidenPartition(resolution, runs[0], float(np.mean(agreement)) if agreement else None))
        logger.info("resolution %g: %d clusters, stability %s", resolution, runs[0].max() + 1, found[-1].stability)
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
