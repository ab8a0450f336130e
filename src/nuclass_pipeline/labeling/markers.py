"""Marker genes of each cluster against all other cells."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

from nuclass_pipeline.config.study import ClusteringConfig
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.labeling.counts import match_cells, normalize, read_counts
from nuclass_pipeline.schemas import CLUSTERS, MARKERS

log = logging.getLogger(__name__)

MIN_LOG2FC, MIN_FRACTION, MIN_EXCESS, MAX_P = 0.5, 0.1, 0.05, 0.05
"""A marker is up by this much, seen in this share of the cluster's cells, in this much more than of the others, and significant."""


def rank_markers(*, counts: Path, clusters: Path, config: ClusteringConfig, markers: Path) -> None:
    """Rank the genes that set each cluster apart.

    One cluster against all other cells, Wilcoxon's rank-sum test with tie correction on log-normalised counts,
    Benjamini–Hochberg within a cluster over all genes. Ranks follow the z score, which cannot underflow as p values do.
    The clusters were found in the same data, so the p values rank genes and prove nothing.

    Parameters
    ----------
    counts, clusters
        Raw counts, and the clusters of the same cells.
    config
        `markers_per_cluster`: the most markers kept per cluster; fewer where fewer qualify.
    markers
        Table `MARKERS`, clusters in the order of their names.
    """
    cells = read_counts(counts)
    table = match_cells(read_table(clusters, CLUSTERS, ["cell_id", "cluster"]), cells.obs_names, clusters)
    named = table["cluster"].notna().to_numpy()
    cells = cells[named].copy()
    cells.obs["cluster"] = pd.Categorical(table.loc[named, "cluster"].astype(str))
    write_table(_qualified(_compare(cells), config.markers_per_cluster), markers, MARKERS)


def _compare(cells: ad.AnnData) -> pd.DataFrame:
    """Test every gene in every cluster that has two cells inside and two outside."""
    sizes = cells.obs["cluster"].value_counts()
    groups = sorted((str(name) for name, n in sizes.items() if 2 <= n <= cells.n_obs - 2), key=_natural)
    if not groups:
        log.warning("no cluster can be compared with others: the marker table is empty")
        return pd.DataFrame({column.name: [] for column in MARKERS.columns}).astype({"cluster": str, "gene": str, "rank": int})
    linear = normalize(cells.X)
    cells.X = linear.log1p()
    sc.tl.rank_genes_groups(cells, "cluster", groups=groups, method="wilcoxon", tie_correct=True)
    return pd.concat([_group(cells, linear, name) for name in groups], ignore_index=True)


def _group(cells: ad.AnnData, linear: sparse.csr_matrix, name: str) -> pd.DataFrame:
    tested = sc.get.rank_genes_groups_df(cells, name).rename(columns={"names": "gene", "scores": "score", "pvals_adj": "p_adjusted"})
    inside = (cells.obs["cluster"] == name).to_numpy()
    effects = pd.DataFrame(
        {
            "log2fc": np.log2(_mean(linear[inside]) + _PSEUDO) - np.log2(_mean(linear[~inside]) + _PSEUDO),
            "fraction_in": _mean(linear[inside] > 0),
            "fraction_out": _mean(linear[~inside] > 0),
        },
        index=cells.var_names,
    )
    frame: pd.DataFrame = tested[["gene", "score", "p_adjusted"]].assign(cluster=name).join(effects, on="gene")
    return frame


# A hundredth of a transcript per cell: far below what a panel can tell from noise, and it keeps absent genes finite.
_PSEUDO = 0.01


def _mean(x: sparse.csr_matrix) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(x.mean(axis=0), dtype=np.float64).ravel()


def _natural(name: str) -> tuple[bool, int, str]:
    return (not name.isdigit(), int(name) if name.isdigit() else 0, name)


def _qualified(genes: pd.DataFrame, most: int) -> pd.DataFrame:
    excess = genes["fraction_in"] - genes["fraction_out"]
    kept = genes[
        (genes["log2fc"] >= MIN_LOG2FC) & (genes["fraction_in"] >= MIN_FRACTION) & (excess >= MIN_EXCESS) & (genes["p_adjusted"] <= MAX_P)
    ].copy()
    kept["rank"] = kept.groupby("cluster")["score"].rank(ascending=False, method="first").astype(int)
    kept = kept[kept["rank"] <= most].sort_values(["cluster", "rank"], key=lambda c: c.map(_natural) if c.name == "cluster" else c)
    return kept[[column.name for column in MARKERS.columns]].reset_index(drop=True)
