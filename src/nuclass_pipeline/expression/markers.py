"""Marker genes of each cluster against all other cells."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.counts import match_cells, normalize, read_counts, sections_of
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, CLUSTERS, MARKERS

logger = logging.getLogger(__name__)

MIN_LOG2FC, MIN_FRACTION, MIN_EXCESS, MAX_P = 0.5, 0.1, 0.05, 0.05
"""A marker is up by this much, seen in this share of the cluster's cells, in this much more than of the others, and significant."""

MIN_SECTIONS, SECTION_CELLS, SECTION_TRANSCRIPTS = 3, 10, 10
"""Sections count from this many cells inside and outside of a cluster; of so many sections, genes with this many transcripts are tested."""

PRIOR = 2.0
"""Transcripts added to a sum of average size before logs are taken, in proportion to its size; the default of edgeR."""


def rank_markers(*, counts: Path, clusters: Path, config: ClusteringConfig, markers: Path, cells: Path | None = None) -> None:
    """Rank the genes that set each cluster apart.

    One cluster against all other cells, Wilcoxon's rank-sum test with tie correction on log-normalised counts,
    Benjamini–Hochberg within a cluster over all genes. Ranks follow the z score, which cannot underflow as p values do.
    The clusters were found in the same data, so the p values rank genes and prove nothing.

    If the slide has three or more sections, a marker has to be up across them too: a gene is left out if `pseudobulk` finds p > 0.05 or a
    negative change for it. A gene that qualified over all genes is asked once more, so this p needs no adjustment.

    Parameters
    ----------
    counts, clusters
        Raw counts, and the clusters of the same cells.
    config
        `markers_per_cluster`: the most markers kept per cluster; fewer where fewer qualify.
    markers
        Table `MARKERS`, clusters in the order of their names.
    cells
        Table `CELLS` of the same cells. A column `section`, if there is one, tells sections apart that share the slide.

    Raises
    ------
    UserError
        If a cell has no cluster row, or its section is empty.
    """
    slide = read_counts(counts)
    table = match_cells(read_table(clusters, CLUSTERS, ["cell_id", "cluster"]), slide.obs_names, clusters)
    named = table["cluster"].notna().to_numpy()
    sections = np.full(len(named), "", object)
    if cells:
        sections = sections_of(match_cells(read_table(cells, CELLS), slide.obs_names, cells), cells)
    sections = sections[named]
    slide = slide[named].copy()
    slide.obs["cluster"] = pd.Categorical(table.loc[named, "cluster"].astype(str))
    replicates = pseudobulk(slide, slide.obs["cluster"], sections)
    tested = _replicated(_compare(slide), replicates)
    write_table(_qualified(tested, config.markers_per_cluster), markers, MARKERS)


def pseudobulk(cells: ad.AnnData, clusters: ArrayLike, sections: ArrayLike) -> pd.DataFrame:
    """Compare each cluster with the rest of the cells across sections, with sections as the replicates.

    Counts are summed within and without the cluster in each section, and their log2 counts per million compared by a paired t test.
    As in `cpm` of edgeR (Robinson et al. 2010), what is added before logs is in proportion to the depth, so that an absent gene does not
    change.

    Parameters
    ----------
    cells
        Raw counts, cells × genes.
    clusters, sections
        Of each cell.

    Returns
    -------
    `cluster`, `gene`, `sections` (their number), `log2fc` (mean over the sections), `t`, `p` and `p_adjusted` (Benjamini–Hochberg within
    the cluster), for clusters with at least `SECTION_CELLS` cells inside and outside in at least `MIN_SECTIONS` sections, and for genes
    with at least `SECTION_TRANSCRIPTS` transcripts in these.
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

Sums = tuple[NDArray[np.float64], NDArray[np.int64]]


def _sums(x: sparse.csr_matrix, section: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Sums:
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
    p = np.nan_to_num(p, nan=1.0)  # no difference in any section
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


def _log_cpm(sums: NDArray[np.float64], mean_depth: float) -> NDArray[np.float64]:
    depth = sums.sum(axis=1, keepdims=True)
    prior = PRIOR * depth / mean_depth
    return np.asarray(np.log2(1e6 * (sums + prior) / (depth + 2 * prior)))


def _replicated(tested: pd.DataFrame, replicates: pd.DataFrame) -> pd.DataFrame:
    """Drop the genes that do not go up across sections; those that could not be compared across sections stay."""
    against = replicates[(replicates["p"] > MAX_P) | (replicates["log2fc"] <= 0)]
    refuted = pd.MultiIndex.from_frame(tested[["cluster", "gene"]]).isin(pd.MultiIndex.from_frame(against[["cluster", "gene"]]))
    return tested[~refuted]


def _compare(cells: ad.AnnData) -> pd.DataFrame:
    """Test every gene in every cluster that has two cells inside and two outside."""
    sizes = cells.obs["cluster"].value_counts()
    groups = sorted((str(name) for name, n in sizes.items() if 2 <= n <= cells.n_obs - 2), key=_natural)
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
