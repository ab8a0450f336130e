"""Marker genes of each cluster against all other cells."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import ArrayLike
from scipy import sparse, stats

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.counts import match_cells, normalize, read_counts, sections_of
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, CLUSTERS, GENE_SCORES, MARKERS
from nuclass_pipeline.vocabulary import natural_key

logger = logging.getLogger(__name__)

# Lower bounds on effect and prevalence, because on a large slide a tiny difference is significant too.
MIN_LOG2FC, MIN_FRACTION, MIN_EXCESS, MAX_P = 0.5, 0.1, 0.05, 0.05
"""A marker's smallest log2 fold change, share of the cluster's cells and excess over the share of other cells, and its largest p."""

# Three, because a paired t test of two sections has a single degree of freedom and finds nothing.
MIN_SECTIONS, SECTION_CELLS, SECTION_TRANSCRIPTS = 3, 10, 10
"""Fewest sections for a comparison, cells of a section inside and outside of the cluster, and transcripts of a gene in these sections."""

PRIOR = 2.0
"""Transcripts added to a sum of average depth before logs are taken, in proportion to its depth; the default of edgeR."""

# A hundredth of a transcript per cell: far below the noise of a panel, and it keeps absent genes finite.
_PSEUDO = 0.01


def rank_markers(
    *, counts: Path, clusters: Path, config: ClusteringConfig, markers: Path, gene_scores: Path | None = None, cells: Path | None = None
) -> None:
    """Rank the genes that set each cluster apart.

    Each cluster is compared with all other cells by Wilcoxon's rank-sum test with tie correction on log-normalised counts.
    p is adjusted by Benjamini–Hochberg over all genes of a cluster. Ranks follow z, because p underflows to 0 on large slides.
    The clusters were found in the same data, so the p values rank genes and prove nothing.

    With three or more sections, a marker has to be up across them too. A gene is left out if `pseudobulk` finds p > 0.05 or a
    negative change for it. That p is not adjusted, because it only confirms a gene that already passed over all genes.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw counts, cells × genes.
    clusters
        Table `CLUSTERS` of the same cells.
    config
        `markers_per_cluster`: the most markers kept per cluster; fewer where fewer qualify.
    markers
        Table `MARKERS`, clusters in the order of their names.
    gene_scores
        Table `GENE_SCORES`: z of every gene in every cluster, clusters in the order of their names and genes in that of the panel.
    cells
        Table `CELLS` of the same cells. Its column `section`, if there is one, separates sections that share the slide.

    Raises
    ------
    UserError
        If a cell has no row in `clusters` or `cells`, or its section is empty.
    """
    slide = read_counts(counts)
    table = match_cells(read_table(clusters, CLUSTERS, ["cell_id", "cluster"]), slide.obs_names, clusters)
    named = table["cluster"].notna().to_numpy()
    sections = np.full(len(named), "", object)
    if cells:
        sections = sections_of(match_cells(read_table(cells, CELLS), slide.obs_names, cells), cells)
    sections = sections[named]
    slide = slide[named].copy()
    groups = table.loc[named, "cluster"].astype(str)
    replicates = pseudobulk(slide, groups, sections)
    tested = compare_clusters(slide, groups)
    if gene_scores:
        write_table(tabulate_scores(tested, groups, slide.var_names), gene_scores, GENE_SCORES)
    write_table(_qualified(_replicated(tested, replicates), config.markers_per_cluster), markers, MARKERS)


def pseudobulk(cells: ad.AnnData, clusters: ArrayLike, sections: ArrayLike) -> pd.DataFrame:
    """Compare each cluster with the rest of the cells across sections, with sections as the replicates.

    Counts are summed inside and outside of the cluster in each section. Their log2 counts per million are compared by a paired t test.
    What is added before logs are taken is in proportion to the depth, as in `cpm` of edgeR (Robinson et al. 2010). An absent gene then
    does not change.

    Parameters
    ----------
    cells
        Raw counts, cells × genes.
    clusters
        Cluster of each cell, (cells,).
    sections
        Section of each cell, (cells,).

    Returns
    -------
    Columns `cluster`, `gene`, `sections` (their number), `log2fc` (mean over the sections), `t`, `p` and `p_adjusted` (Benjamini–Hochberg
    within the cluster). Clusters need `SECTION_CELLS` cells inside and outside in `MIN_SECTIONS` sections; genes need
    `SECTION_TRANSCRIPTS` transcripts in these.
    """
    names, cluster = np.unique(np.asarray(clusters, str), return_inverse=True)
    section = np.unique(np.asarray(sections, str), return_inverse=True)[1]
    frames = [pd.DataFrame({column: [] for column in _PSEUDOBULK})]
    if section.max(initial=0) + 1 >= MIN_SECTIONS:
        everything = _sums(cells.X, section, np.ones(len(section), bool))
        for code, name in enumerate(names):
            frame = _paired(_sums(cells.X, section, cluster == code), everything, cells.var_names)
            frames.append(frame.assign(cluster=name)[[*_PSEUDOBULK]])
    return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


_PSEUDOBULK = ("cluster", "gene", "sections", "log2fc", "t", "p", "p_adjusted")

Sums = tuple[Floats, Integers]


def _sums(x: sparse.csr_matrix, section: Integers, chosen: Booleans) -> Sums:
    """Add up the counts of the `chosen` cells of each section, (sections, genes), and count these cells."""
    rows = np.flatnonzero(chosen)
    sections = section.max() + 1
    member = sparse.csr_array((np.ones(len(rows)), (section[rows], rows)), shape=(sections, len(section)))
    return np.asarray((member @ sparse.csr_array(x)).todense(), np.float64), np.bincount(section[rows], minlength=sections)


def _paired(inside: Sums, everything: Sums, genes: pd.Index) -> pd.DataFrame:
    kept = (inside[1] >= SECTION_CELLS) & (everything[1] - inside[1] >= SECTION_CELLS)
    seen = everything[0][kept].sum(axis=0) >= SECTION_TRANSCRIPTS
    if kept.sum() < MIN_SECTIONS or not seen.any():
        return pd.DataFrame(columns=[*_PSEUDOBULK])
    within, without = inside[0][kept], (everything[0] - inside[0])[kept]
    mean_depth = float(np.vstack([within, without]).sum(axis=1).mean())
    first, second = _log_cpm(within, mean_depth)[:, seen], _log_cpm(without, mean_depth)[:, seen]
    t, p = stats.ttest_rel(first, second, axis=0)
    # The test gives NaN where no section differs, because the differences then have no variance.
    p = np.nan_to_num(p, nan=1.0)
    return pd.DataFrame(
        {
            "gene": genes[seen].to_numpy(str),
            "sections": kept.sum(),
            "log2fc": (first - second).mean(axis=0),
            "t": t,
            "p": p,
            "p_adjusted": stats.false_discovery_control(p),
        }
    )


def _log_cpm(sums: Floats, mean_depth: float) -> Floats:
    depth = sums.sum(axis=1, keepdims=True)
    prior = PRIOR * depth / mean_depth
    return np.asarray(np.log2(1e6 * (sums + prior) / (depth + 2 * prior)))


def _replicated(tested: pd.DataFrame, replicates: pd.DataFrame) -> pd.DataFrame:
    """Drop the genes that do not go up across sections; those that could not be compared across sections stay."""
    against = replicates[(replicates["p"] > MAX_P) | (replicates["log2fc"] <= 0)]
    refuted = pd.MultiIndex.from_frame(tested[["cluster", "gene"]]).isin(pd.MultiIndex.from_frame(against[["cluster", "gene"]]))
    return tested[~refuted]


def compare_clusters(cells: ad.AnnData, clusters: ArrayLike) -> pd.DataFrame:
    """Test every gene in every cluster that has two cells inside and two outside.

    Parameters
    ----------
    cells
        Raw counts, cells × genes; normalised and logged in place.
    clusters
        Cluster of each cell, (cells,).

    Returns
    -------
    The columns of `MARKERS` but `rank`, genes from the highest z to the lowest within a cluster. It is empty if no cluster can be compared.
    """
    cells.obs["cluster"] = pd.Categorical(np.asarray(clusters, object))
    sizes = cells.obs["cluster"].value_counts()
    groups = sorted((str(name) for name, n in sizes.items() if 2 <= n <= cells.n_obs - 2), key=natural_key)
    if not groups:
        logger.warning("no cluster can be compared with others: the marker table is empty")
        return pd.DataFrame({column.name: [] for column in MARKERS.columns}).astype({"cluster": str, "gene": str, "rank": int})
    linear = normalize(cells.X)
    cells.X = linear.log1p()
    sc.tl.rank_genes_groups(cells, "cluster", groups=groups, method="wilcoxon", tie_correct=True)
    return pd.concat([_group(cells, linear, name) for name in groups], ignore_index=True)


def _group(cells: ad.AnnData, linear: sparse.csr_matrix, name: str) -> pd.DataFrame:
    tested = sc.get.rank_genes_groups_df(cells, name).rename(columns={"names": "gene", "scores": "score", "pvals_adj": "p_adjusted"})
    inside = (cells.obs["cluster"] == name).to_numpy()
    # Fold changes come from counts, because a mean of logs is not the log of a mean.
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


def _mean(x: sparse.csr_matrix) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(x.mean(axis=0), dtype=np.float64).ravel()


def tabulate_scores(tested: pd.DataFrame, clusters: ArrayLike, genes: pd.Index) -> pd.DataFrame:
    """Return table `GENE_SCORES`: z of all `genes` in all `clusters`.

    Parameters
    ----------
    tested
        Result of `compare_clusters`.
    clusters
        Cluster of each cell, (cells,). Those without a test get rows with an empty score, so that the table names every cluster.
    genes
        Genes of the panel, in their order.
    """
    names = sorted(np.unique(np.asarray(clusters, str)), key=natural_key)
    rows = pd.MultiIndex.from_product([np.array(names, object), genes], names=["cluster", "gene"])
    scores: pd.DataFrame = tested.set_index(["cluster", "gene"])["score"].reindex(rows).astype(np.float32).reset_index()
    return scores


def _qualified(genes: pd.DataFrame, most: int) -> pd.DataFrame:
    excess = genes["fraction_in"] - genes["fraction_out"]
    kept = genes[
        (genes["log2fc"] >= MIN_LOG2FC) & (genes["fraction_in"] >= MIN_FRACTION) & (excess >= MIN_EXCESS) & (genes["p_adjusted"] <= MAX_P)
    ].copy()
    kept["rank"] = kept.groupby("cluster")["score"].rank(ascending=False, method="first").astype(int)
    kept = kept[kept["rank"] <= most].sort_values(["cluster", "rank"], key=lambda c: c.map(natural_key) if c.name == "cluster" else c)
    return kept[[column.name for column in MARKERS.columns]].reset_index(drop=True)
