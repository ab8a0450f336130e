"""Scores of domains without a truth: how compact, distinct and well marked they are."""

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.metrics import davies_bouldin_score, silhouette_score

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.expression.domains.factors import Factors
from nuclass_pipeline.expression.domains.graphs import normalize_rows
from nuclass_pipeline.expression.partitions import Codes

SAMPLE = 10_000
"""Cells drawn for the scores that compare all pairs, because time and memory grow with their square."""

TOP_MARKERS = 5
"""Markers of a domain, five as in the scores of hSNMF."""

# Dense columns at once, because all genes of a large slide would fill the memory.
_COLUMNS_AT_ONCE = 64


def adjacency(graph: sparse.csr_array, domains: Codes) -> float:
    """Return the share of edges whose two ends have one domain; NaN without edges."""
    edges = sparse.coo_array(graph)
    return float((domains[edges.row] == domains[edges.col]).mean()) if edges.nnz else np.nan


def chaos(xy_um: Floats, sections: ArrayLike, domains: Codes) -> float:
    """Return the mean distance of a cell to the nearest cell of its domain and section; lower is more compact.

    The unit is the root mean square of a section's two standard deviations. Cells that are alone in their domain and section are left out.

    Parameters
    ----------
    xy_um
        Centroids, (cells, 2), µm.
    sections
        Section of each cell, (cells,).
    domains
        Domain of each cell, (cells,).
    """
    # One unit for both axes, because a unit for each would change the score when a section is turned.
    place = pd.DataFrame({"section": np.asarray(sections), "domain": domains})
    unit = np.ones(len(place))
    for cells in place.groupby("section").indices.values():
        unit[cells] = np.sqrt(np.mean(xy_um[cells].var(axis=0)))
    nearest = np.full(len(place), np.nan)
    for cells in place.groupby(["section", "domain"]).indices.values():
        if len(cells) > 1:
            nearest[cells] = np.asarray(cKDTree(xy_um[cells]).query(xy_um[cells], k=2)[0])[:, 1]
    return mean(nearest / np.where(unit > 0, unit, 1))


def morans_i(values: Floats | sparse.csr_array, graph: sparse.csr_array, groups: Codes | None = None) -> Floats:
    """Return Moran's I of each column with row-standardised weights: (n / Σw) Σ wᵢⱼ zᵢ zⱼ / Σ zᵢ².

    Parameters
    ----------
    values
        Values of each cell, (cells, columns).
    graph
        Edge weights, (cells, cells).
    groups
        Group of each cell, (cells,), from whose mean z is measured; all cells are one group if it is left out.

    Returns
    -------
    Moran's I, (columns,): near 0 without spatial structure, NaN for columns that do not vary.
    """
    # Not scanpy.metrics.morans_i, because it needs all columns dense and differs in the last digits (6e-14 on a planted tissue).
    weights = normalize_rows(graph)
    codes = np.zeros(values.shape[0], np.int64) if groups is None else groups
    member = sparse.csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)))
    averaging = sparse.diags_array(1 / np.maximum(member.sum(axis=0), 1)) @ member.T
    found = np.full(values.shape[1], np.nan)
    for start in range(0, values.shape[1], _COLUMNS_AT_ONCE):
        part = values[:, start : start + _COLUMNS_AT_ONCE]
        block = part.toarray() if sparse.issparse(part) else part
        z = block - member @ (averaging @ block)
        squares, products = (z**2).sum(axis=0), (z * (weights @ z)).sum(axis=0)
        scale = len(z) / max(float(weights.sum()), 1)
        found[start : start + len(squares)] = np.divide(scale * products, squares, out=np.full_like(squares, np.nan), where=squares > 1e-12)
    return found


def separation(weights: Floats, domains: Codes, seed: int) -> tuple[float, float, int]:
    """Return silhouette (higher is better), Davies–Bouldin index (lower is better) and the number of cells that were used.

    At most `SAMPLE` cells are drawn, in proportion from every domain.

    Parameters
    ----------
    weights
        Factor weights, (cells, rank).
    domains
        Domain of each cell, (cells,).
    seed
        Seed of the draw.

    Returns
    -------
    Both scores are NaN unless there are at least two domains, and fewer domains than cells.
    """
    order = np.random.default_rng(seed).permutation(len(domains))
    order = order[np.argsort(domains[order], kind="stable")]
    drawn = order[np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(np.int64)]
    points, codes = weights[drawn], domains[drawn]
    if not 2 <= len(np.unique(codes)) < len(codes):
        return np.nan, np.nan, len(drawn)
    return float(silhouette_score(points, codes)), float(davies_bouldin_score(points, codes)), len(drawn)


def explained_variance(x: sparse.csr_array, factors: Factors) -> float:
    """Return the explained variance 1 − ‖X − W H‖² / ‖X − X̄‖², X̄ being the mean of each gene.

    Parameters
    ----------
    x
        Expression X, (cells, genes).
    factors
        W and H.
    """
    # The square is expanded, because W H would be a dense matrix of cells × genes.
    w, h = factors.weights, factors.programs
    squares = float((x.data**2).sum())
    misfit = squares - 2 * float(((x @ h.T) * w).sum()) + float(((w.T @ w) * (h @ h.T)).sum())
    spread = squares - x.shape[0] * float((np.asarray(x.mean(axis=0)) ** 2).sum())
    return 1 - misfit / spread if spread > 0 else np.nan


def marker_scores(x: sparse.csr_array, domains: Codes) -> dict[str, float]:
    """Score domains by their markers, the `TOP_MARKERS` genes of Wilcoxon's test of one domain against the rest.

    Parameters
    ----------
    x
        Log rates, (cells, genes).
    domains
        Domain of each cell, (cells,). Only domains with two cells inside and two outside are scored.

    Returns
    -------
    cmc
        Mean over domains of the share of their markers that their cells express.
    cmc_weighted
        The same, domains weighted by their cells.
    specificity
        Mean over domains of that share minus the share in other cells.
    mer
        Share of cells in which the markers of another domain have a higher mean.

    All are NaN if fewer than two domains can be scored.
    """
    sizes = np.bincount(domains)
    scored = np.flatnonzero((sizes >= 2) & (sizes <= len(domains) - 2))
    if len(scored) < 2:
        return dict.fromkeys(("cmc", "cmc_weighted", "specificity", "mer"), np.nan)
    sets = _marker_sets(x, domains, scored)
    seen, level = np.asarray((x > 0) @ sets), np.asarray(x @ sets)
    own = domains[:, None] == scored
    inside, outside = (np.where(mask, seen, 0).sum(axis=0) / mask.sum(axis=0) for mask in (own, ~own))
    cells = own.any(axis=1)
    other = np.where(own, -np.inf, level).max(axis=1)
    # Higher by more than 1e-6, because equal means of two marker sets may differ by rounding.
    return {
        "cmc": float(inside.mean()),
        "cmc_weighted": float(np.average(inside, weights=sizes[scored])),
        "specificity": float((inside - outside).mean()),
        "mer": float((other > np.where(own, level, 0).sum(axis=1) + 1e-6)[cells].mean()),
    }


def _marker_sets(x: sparse.csr_array, domains: Codes, scored: Codes) -> Floats:
    """Return the weight of each gene in the mean of each domain's markers, (genes, domains)."""
    cells = ad.AnnData(sparse.csr_matrix(x))
    cells.obs["domain"] = pd.Categorical(domains.astype(str))
    groups = [str(code) for code in scored]
    sc.tl.rank_genes_groups(cells, "domain", groups=groups, method="wilcoxon", tie_correct=True, n_genes=TOP_MARKERS)
    names = cells.uns["rank_genes_groups"]["names"]
    chosen = [cells.var_names.get_indexer(names[group]) for group in groups]
    sets = np.zeros((x.shape[1], len(groups)))
    for column, rows in enumerate(chosen):
        sets[rows, column] = 1 / len(rows)
    return sets


def mean(values: Floats) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
