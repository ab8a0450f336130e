"""Build the records of a slide's clusters from its tables, and score how well markers support each label."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.markers import TYPES, Panel
from nuclass_pipeline.proposals.evidence import MAX_LABELS, MAX_MARKERS, MAX_PROGRAMS, ClusterEvidence, MarkerGene, Program, Support

# Two, because one gene then supports a type by 1/3 at most and eight genes by 0.8; with 0, a single marker would prove its type.
UNSEEN_MARKERS = 2.0
"""Prior of the support: markers that each type is assumed to have besides those on the panel, none of them up."""


def collect_evidence(
    *,
    sizes: Mapping[Any, int],
    markers: pd.DataFrame,
    panel: Panel,
    genes: Sequence[str],
    organ: str,
    species: str = "human",
    programs: pd.DataFrame | None = None,
    compositions: Mapping[Any, Mapping[str, float]] | None = None,
) -> tuple[ClusterEvidence, ...]:
    """Build the record of each cluster.

    Parameters
    ----------
    sizes
        Number of cells of each cluster. Cluster names may be numbers; they are compared as text.
    markers
        Table `MARKERS`; a cluster may have no row in it.
    panel, genes
        Marker weights, (genes, types), and the gene symbol of each row; the panel's types are the admissible labels.
    organ, species
        Context of the sample.
    programs
        Columns `cluster`, `name`, `q` and `genes` (a list, or text separated by semicolons).
    compositions
        Share of each label among the cells of each cluster.

    Returns
    -------
    One record per cluster, in the order of `sizes`.

    Raises
    ------
    UserError
        If a table names a cluster that has no cells, a marker is not on the panel, or a number is not finite.
    """
    names = [str(name) for name in sizes]
    marker_rows = _by_cluster(markers, names, "markers", ("log2fc", "fraction_in", "fraction_out"))
    program_rows = _by_cluster(programs, names, "programs", ("q_value",))
    shares_of = {str(name): shares for name, shares in (compositions or {}).items()}
    knowledge = _Knowledge(panel, genes)
    records = []
    for name, size in zip(names, sizes.values(), strict=True):
        top_markers = _markers(marker_rows.get(name))
        shares = {str(label): float(share) for label, share in shares_of.get(name, {}).items()}
        support = knowledge.support(top_markers)
        records.append(
            ClusterEvidence(name, int(size), species, organ, top_markers, support, _programs(program_rows.get(name)), shares, panel.types)
        )
    return tuple(records)


def _by_cluster(table: pd.DataFrame | None, names: Sequence[str], file: str, numbers: Sequence[str]) -> dict[str, pd.DataFrame]:
    if table is None:
        return {}
    table = table.assign(cluster=table["cluster"].astype(str))
    # Refused, because a table that counts clusters from 0 and one that counts from 1 would otherwise be joined one off.
    if unknown := sorted(set(table["cluster"]) - set(names)):
        raise UserError(file, "cluster", f"{unknown[0]!r} has no cells", f"Remove {file}.parquet and run again.")
    for column in numbers:
        if not np.isfinite(table[column].to_numpy(float)).all():
            raise UserError(file, column, "a value is not finite", f"Remove {file}.parquet and run again.")
    return {str(name): rows for name, rows in table.groupby("cluster", sort=False)}


def _markers(rows: pd.DataFrame | None) -> tuple[MarkerGene, ...]:
    if rows is None:
        return ()
    # Only genes that are up, because a cluster without any still has a best rank, and a gene that is down is evidence for nothing.
    best = rows[rows["log2fc"] > 0].sort_values("rank").head(MAX_MARKERS)
    columns = (best[name].tolist() for name in ("gene", "log2fc", "fraction_in", "fraction_out", "rank"))
    return tuple(
        MarkerGene(str(gene), float(log2fc), float(inside), float(outside), int(rank))
        for gene, log2fc, inside, outside, rank in zip(*columns, strict=True)
    )


def _programs(rows: pd.DataFrame | None) -> tuple[Program, ...]:
    if rows is None:
        return ()
    best = rows.sort_values(["q_value", "name"]).head(MAX_PROGRAMS)
    return tuple(
        Program(str(name), float(q), _split(genes)) for name, q, genes in zip(best["name"], best["q_value"], best["genes"], strict=True)
    )


def _split(genes: Any) -> tuple[str, ...]:
    return tuple(gene for gene in (genes.split(";") if isinstance(genes, str) else map(str, genes)) if gene)


class _Knowledge:
    """Value of each gene as a marker of each type, and the largest sum of values that a type can reach."""

    def __init__(self, panel: Panel, genes: Sequence[str]) -> None:
        weights = np.clip(panel.weights, 0, None)
        self._types = panel.types
        self._row = {gene: i for i, gene in enumerate(genes)}
        self._value = marker_values(weights)
        # ln(1 + T) each, because that is the value of a gene that marks one type alone.
        prior = UNSEEN_MARKERS * np.log1p(len(panel.types))
        self._attainable = np.sort(self._value, axis=0)[::-1][:MAX_MARKERS].sum(axis=0) + prior

    def support(self, markers: Sequence[MarkerGene]) -> tuple[Support, ...]:
        """Return the types with support: the sum over markers of value × excess prevalence, divided by the attainable sum.

        The attainable sum includes `UNSEEN_MARKERS` markers of the type alone.
        """
        if missing := [marker.gene for marker in markers if marker.gene not in self._row]:
            raise UserError("markers", "gene", f"{missing[0]!r} is not on the panel", "Remove markers.parquet and run again.")
        excess = np.clip([marker.fraction_in - marker.fraction_out for marker in markers], 0, 1)
        contributions = excess[:, None] * self._value[[self._row[marker.gene] for marker in markers]] / self._attainable
        scored = [
            # fsum, because its exact sum does not depend on the order of the genes.
            Support(name, TYPES[name], float(math.fsum(column)), _by_contribution(markers, column))
            for name, column in zip(self._types, contributions.T, strict=True)
            if column.any()
        ]
        return tuple(sorted(scored, key=lambda support: (-support.score, support.label))[:MAX_LABELS])


def _by_contribution(markers: Sequence[MarkerGene], contributions: Floats) -> tuple[str, ...]:
    return tuple(markers[i].gene for i in np.argsort(-contributions, kind="stable") if contributions[i] > 0)


def marker_values(weights: Floats) -> Floats:
    """Compute the value of each gene as a marker of each type: inverse document frequency × specificity.

    With T types, t of which have the gene, the frequency term is ln(1 + T / t). Specificity is the type's share of the gene's weight.

    Parameters
    ----------
    weights
        Positive marker weights, (genes, types); 0 where the gene is not a marker of the type.

    Returns
    -------
    (genes, types), not negative.
    """
    types_with = (weights > 0).sum(axis=1, keepdims=True)
    frequency = np.log1p(weights.shape[1] / np.maximum(types_with, 1))
    share = weights / np.where(types_with, weights.sum(axis=1, keepdims=True), 1)
    return np.asarray(frequency * share)
