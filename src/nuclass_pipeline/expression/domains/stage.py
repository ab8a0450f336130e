"""Spatial domains of a slide, and their scores."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.clustering import MIN_CELLS
from nuclass_pipeline.expression.counts import match_cells, read_counts, sections_of, totals
from nuclass_pipeline.expression.domains.factors import Factors, log_rates
from nuclass_pipeline.expression.domains.graphs import crowding, near, spatial_graph
from nuclass_pipeline.expression.domains.hsnmf import DomainFit, fit_domains, smooth
from nuclass_pipeline.expression.domains.scores import adjacency, chaos, explained_variance, marker_scores, mean, morans_i, separation
from nuclass_pipeline.io import read_table, whole_files, write_table
from nuclass_pipeline.schemas import ALL, CELLS, DOMAINS, METRICS

logger = logging.getLogger(__name__)

MAX_NEIGHBORS = 1000
"""Most neighbours of a cell, on average. Above it coordinates are not in µm, because the densest lymph node has 300 within 80 µm."""

MAX_GENES = 100
"""Most held-out genes that are scored, spread over the panel. Not all, because a panel may have thousands and the mean changes little."""

DomainRows = list[tuple[str, str, float, int]]
"""Variant, metric, value and number of cells of each score."""


def find_domains(
    *, counts: Path, cells: Path, config: DomainsConfig, run: str, slide: str, organ: str, domains: Path, scores: Path
) -> None:
    """Find the spatial domains of a slide, or groups of cells at the scale of contact.

    A domain is a neighbourhood with a composition of its own. It is not a cell type.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw counts, cells × genes.
    cells
        Table `CELLS` of the same cells. Its column `section`, if there is one, separates sections that share the slide.
    config
        Mode, graph, factors, resolution and seed.
    run, slide, organ
        Names that are written into each row of the scores.
    domains
        Table `DOMAINS`, one row per cell in the order of `counts`. Cells without transcripts have no domain.
    scores
        Table `METRICS`: model `domains`, variant `fitted` or one of the controls `unsmoothed`, `permuted` and `held_out`.

    Raises
    ------
    UserError
        If a cell has no row in `cells` or no section, or cells lie so close together that their coordinates cannot be in µm.
    """
    table = read_counts(counts)
    place = match_cells(read_table(cells, CELLS), table.obs_names, cells)
    passed = totals(table) > 0
    frame = pd.DataFrame({"cell_id": table.obs_names.to_numpy(str), "domain": pd.Series([None] * len(passed), dtype=object)})
    weights = np.full((len(passed), config.rank), np.nan, np.float32)
    rows: DomainRows = []
    if passed.sum() < MIN_CELLS:
        logger.warning("only %d cells have transcripts, so they form one domain", passed.sum())
        frame.loc[passed, "domain"] = "0"
    else:
        x = log_rates(table.X[passed])
        found, rows = _find(x, place[passed].reset_index(drop=True), config, cells)
        frame.loc[passed, "domain"] = found.domain.astype(str)
        weights = np.full((len(passed), found.smoothed.weights.shape[1]), np.nan, np.float32)
        weights[passed] = found.smoothed.weights
    factors = pd.DataFrame(weights, columns=[f"factor_{i + 1}" for i in range(weights.shape[1])])
    with whole_files(domains, scores) as (domains_partial, scores_partial):
        write_table(pd.concat([frame, factors], axis=1), domains_partial, DOMAINS)
        write_table(_tidy(rows, run=run, slide=slide, organ=organ, seed=config.seed), scores_partial, METRICS)


def _find(x: sparse.csr_array, place: pd.DataFrame, config: DomainsConfig, cells: Path) -> tuple[DomainFit, DomainRows]:
    xy_um = place[["x_um", "y_um"]].to_numpy(np.float64)
    sections = sections_of(place, cells)
    key, reach_um = ("contact_um", config.contact_um) if config.mode == "contact" else ("radius_um", config.radius_um)
    if (crowd := crowding(xy_um, sections, reach_um)) > MAX_NEIGHBORS:
        problem = f"a cell has {crowd:.0f} others within {reach_um:g} µm, on average"
        raise UserError(cells, "x_um, y_um", problem, f"Convert the centroids to µm, or lower domains.{key}.")
    graph = spatial_graph(xy_um, sections, config)
    found = fit_domains(x, graph, config)
    logger.info("%d domains", found.domain.max() + 1)
    rows = [
        *_partition_scores(x, xy_um, sections, found, config),
        *_factor_controls(x, graph, found, config),
        *_gene_controls(x, graph, config),
    ]
    return found, rows


def _partition_scores(
    x: sparse.csr_array, xy_um: Floats, sections: NDArray[np.object_], found: DomainFit, config: DomainsConfig
) -> DomainRows:
    silhouette, davies_bouldin, drawn = separation(found.smoothed.weights, found.domain, config.seed)
    values = {
        "domains": float(found.domain.max() + 1),
        "adjacency_contact": adjacency(near(xy_um, sections, config.contact_um), found.domain),
        "adjacency_radius": adjacency(near(xy_um, sections, config.radius_um), found.domain),
        "chaos": chaos(xy_um, sections, found.domain),
        "explained_variance": explained_variance(x, found.smoothed),
        **marker_scores(x, found.domain),
    }
    rows: DomainRows = [("fitted", name, value, len(found.domain)) for name, value in values.items()]
    return [*rows, ("fitted", "silhouette", silhouette, drawn), ("fitted", "davies_bouldin", davies_bouldin, drawn)]


def _factor_controls(x: sparse.csr_array, graph: sparse.csr_array, found: DomainFit, config: DomainsConfig) -> DomainRows:
    """Score the spatial structure of the factors and of two controls."""
    # With controls, because factors that were smoothed over a graph always look spatial on it.
    n = x.shape[0]
    order = np.random.default_rng(config.seed).permutation(n)
    shuffled = smooth(x[order], Factors(found.plain.weights[order], found.plain.programs), graph, config)
    variants = {"fitted": found.smoothed, "unsmoothed": found.plain, "permuted": shuffled}
    return [(name, "moran_factors", mean(morans_i(factors.weights, graph)), n) for name, factors in variants.items()]


def _gene_controls(x: sparse.csr_array, graph: sparse.csr_array, config: DomainsConfig) -> DomainRows:
    """Score the spatial structure of every second gene, before and after domains that were fitted without them are taken off."""
    # Held-out genes, because the genes that defined the domains would be explained by them in any case.
    n = x.shape[0]
    odd = np.arange(1, x.shape[1], 2)
    unseen = sparse.csr_array(x[:, odd[:: len(odd) // MAX_GENES + 1]])
    order = np.random.default_rng(config.seed).permutation(n)
    domain = fit_domains(sparse.csr_array(x[:, ::2]), graph, config).domain
    return [
        ("held_out", "moran_genes", mean(morans_i(unseen, graph)), n),
        ("held_out", "moran_genes_within", mean(morans_i(unseen, graph, domain)), n),
        ("permuted", "moran_genes", mean(morans_i(unseen[order], graph)), n),
    ]


def _tidy(rows: DomainRows, **constant: str | int) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["variant", "metric", "value", "n_cells"]).astype({"value": float, "n_cells": int})
    frame = frame.assign(model="domains", label=ALL, label_set="open", ci_low=np.nan, ci_high=np.nan, probabilities=None, **constant)
    return frame[[column.name for column in METRICS.columns]]
