"""How compact, distinct and well marked the domains of a slide are, none of it against a truth."""

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.metrics import davies_bouldin_score, silhouette_score

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.expression.clustering import Codes
from nuclass_pipeline.expression.domains.factors import Factors
from nuclass_pipeline.expression.domains.graphs import normalize_rows

SAMPLE = 10_000
"""Cells for the scores that compare all pairs."""

TOP_MARKERS = 5
"""Markers of a domain."""

_COLUMNS_AT_ONCE = 64


def adjacency(graph: sparse.csr_array, domains: Codes) -> float:
    """Give the share of edges whose two ends have one domain; NaN without edges."""
    edges = sparse.coo_array(graph)
    return float((domains[edges.row] == domains[edges.col]).mean()) if edges.nnz else np.nan


def chaos(xy_um: Floats, sections: ArrayLike, domains: Codes) -> float:
    """Give the mean distance of a cell to the nearest cell of its domain and section; lower is more compact.

    The unit is the root mean square of a section's two standard deviations, one for both axes, so that turning a section changes nothing.
    Cells that are alone in their domain and section are left out.
    """
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
    """Give Moran's I of each column with row-standardised weights: (n / Σw) Σ wᵢⱼ zᵢ zⱼ / Σ zᵢ².

    Parameters
    ----------
    values
        (cells, columns).
    graph
        Edge weights, (cells, cells).
    groups
        z is the distance from the mean of the cell's group, (cells,); from the mean of all cells when left out.

    Returns
    -------
    (columns,): near 0 without spatial structure, NaN for columns that do not vary.
    """
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
    """Give silhouette (higher is better) and Davies–Bouldin index (lower) in the space of factor weights, and the cells they rest on.

    At most `SAMPLE` cells are drawn, in proportion from every domain. NaN unless there are two domains, fewer than cells.
    """
    order = np.random.default_rng(seed).permutation(len(domains))
    order = order[np.argsort(domains[order], kind="stable")]
    drawn = order[np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(np.int64)]
    points, codes = weights[drawn], domains[drawn]
    if not 2 <= len(np.unique(codes)) < len(codes):
        return np.nan, np.nan, len(drawn)
    return float(silhouette_score(points, codes)), float(davies_bouldin_score(points, codes)), len(drawn)


def explained_variance(x: sparse.csr_array, factors: Factors) -> float:
    """Give 1 − ‖X − W H‖² / ‖X − X̄‖², X̄ being the mean of each gene, without forming W H."""
    w, h = factors.weights, factors.programs
    squares = float((x.data**2).sum())
    misfit = squares - 2 * float(((x @ h.T) * w).sum()) + float(((w.T @ w) * (h @ h.T)).sum())
    spread = squares - x.shape[0] * float((np.asarray(x.mean(axis=0)) ** 2).sum())
    return 1 - misfit / spread if spread > 0 else np.nan


def marker_scores(x: sparse.csr_array, domains: Codes) -> dict[str, float]:
    """Score the domains by their `TOP_MARKERS` genes by Wilcoxon's test, one domain against the rest.

    Returns
    -------
    `cmc`, mean over domains of the share of their markers that their cells express; `cmc_weighted`, the same over cells; `specificity`,
    mean over domains of that share minus the same in other cells; `mer`, the share of cells in which another domain's markers have a higher
    mean. Domains need two cells inside and outside; NaN if fewer than two have.
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
    return {
        "cmc": float(inside.mean()),
        "cmc_weighted": float(np.average(inside, weights=sizes[scored])),
        "specificity": float((inside - outside).mean()),
        "mer": float((other > np.where(own, level, 0).sum(axis=1) + 1e-6)[cells].mean()),
    }


def _marker_sets(x: sparse.csr_array, domains: Codes, scored: Codes) -> Floats:
    """Give the weight of each gene in the mean of each domain's markers, (genes, domains)."""
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
    """Give the mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
