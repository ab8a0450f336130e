"""What is known about one cluster, in a form that any annotator can read and that always hashes the same."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.markers import TYPES, Panel

MAX_MARKERS, MAX_LABELS, MAX_PROGRAMS = 20, 12, 6
"""A record holds no more than this, the strongest first."""

MIN_FOLD_CHANGE = 2.0
"""Markers that a type is thought to have besides those on the panel, and not up: else a type with one marker is proven by it."""

BLOCKS = ("markers", "support", "programs", "composition")
"""Blocks of evidence; a record names those that are empty."""


@dataclass(frozen=True)
class MarkerGene:
    """A gene that is up in the cluster, as in the table `MARKERS`."""

    gene: str
    log2fc: float
    fraction_in: float
    fraction_out: float
    rank: int


@dataclass(frozen=True)
class Support:
    """How well the cluster's markers support a label, 0 to 1, and the genes that do, the weightiest first."""

    label: str
    lineage: str
    score: float
    genes: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A gene programme, its adjusted p value and the cluster's markers in it."""

    name: str
    q: float
    genes: tuple[str, ...]


@dataclass(frozen=True)
class ClusterEvidence:
    """The evidence on one cluster, and the closed set of labels it may get.

    Raises
    ------
    ValueError
        If no label is admissible, one is listed twice or supported without being admissible, or a block is over its size.
    """

    cluster: str
    n_cells: int
    species: str
    organ: str
    markers: tuple[MarkerGene, ...]
    support: tuple[Support, ...]
    programs: tuple[Program, ...]
    composition: Mapping[str, float]
    admissible: tuple[str, ...]

    def __post_init__(self) -> None:
        # One order, whatever the caller's: an annotator cannot be swayed by it.
        object.__setattr__(self, "admissible", tuple(sorted(self.admissible)))
        if not self.admissible or len(set(self.admissible)) != len(self.admissible):
            raise ValueError(f"admissible labels must be one or more, and different: {self.admissible}")
        if outside := sorted({support.label for support in self.support} - set(self.admissible)):
            raise ValueError(f"{outside[0]!r} is supported and not admissible")
        for block, most in (("markers", MAX_MARKERS), ("support", MAX_LABELS), ("programs", MAX_PROGRAMS)):
            if len(getattr(self, block)) > most:
                raise ValueError(f"{len(getattr(self, block))} {block}; a record holds {most}")

    @property
    def genes(self) -> frozenset[str]:
        """Every gene that the evidence names."""
        listed = [*(support.genes for support in self.support), *(program.genes for program in self.programs)]
        return frozenset({marker.gene for marker in self.markers}.union(*listed))

    def without_evidence(self) -> "ClusterEvidence":
        """Give the same question with every block of evidence empty."""
        return ClusterEvidence(self.cluster, self.n_cells, self.species, self.organ, (), (), (), {}, self.admissible)

    def to_json(self) -> str:
        """Write the record as JSON: keys sorted, no spaces, UTF-8, numbers with six significant digits."""
        record = {name: value for name, value in vars(self).items() if name not in {"species", "organ"}}
        record["context"] = {"species": self.species, "organ": self.organ}
        record["empty"] = [block for block in BLOCKS if not getattr(self, block)]
        return json.dumps(_plain(record), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def sha256(self) -> str:
        """Hash `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Turn records into dictionaries and round numbers, so that the last bit of a sum cannot change the text."""
    if isinstance(value, MarkerGene | Support | Program):
        return _plain(vars(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value


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
    """Make the record of each cluster.

    Parameters
    ----------
    sizes
        Cells of each cluster. Cluster names are opaque and may be numbers; they are compared as text.
    markers
        Table `MARKERS`; a cluster may have no row in it.
    panel, genes
        Marker weights (genes, types) and the symbol of each row; the panel's types are the admissible labels.
    organ, species
        The context.
    programs
        Columns `cluster`, `name`, `q` and `genes` (a list, or text separated by semicolons).
    compositions
        Shares of labels among each cluster's cells.

    Returns
    -------
    One record per cluster, in the order of `sizes`.

    Raises
    ------
    UserError
        If a table names a cluster that has no cells, a marker is not on the panel, or a number is not finite.
    """
    names = [str(name) for name in sizes]
    marked = _by_cluster(markers, names, "markers", ("log2fc", "fraction_in", "fraction_out"))
    programd = _by_cluster(programs, names, "programs", ("q",))
    composed = {str(name): shares for name, shares in (compositions or {}).items()}
    knowledge = _Knowledge(panel, genes)
    records = []
    for name, size in zip(names, sizes.values(), strict=True):
        listed = _markers(marked.get(name))
        shares = {str(label): float(share) for label, share in composed.get(name, {}).items()}
        support = knowledge.support(listed)
        records.append(
            ClusterEvidence(name, int(size), species, organ, listed, support, _programs(programd.get(name)), shares, panel.types)
        )
    return tuple(records)


def _by_cluster(table: pd.DataFrame | None, names: Sequence[str], file: str, numbers: Sequence[str]) -> dict[str, pd.DataFrame]:
    if table is None:
        return {}
    table = table.assign(cluster=table["cluster"].astype(str))
    # Tables that count clusters from 0 and from 1 would otherwise be joined one off, in silence.
    if unknown := sorted(set(table["cluster"]) - set(names)):
        raise UserError(file, "cluster", f"{unknown[0]!r} has no cells", "Make the table and the clusters in one run.")
    for column in numbers:
        if not np.isfinite(table[column].to_numpy(float)).all():
            raise UserError(file, column, "a value is not finite", "Remove the file and run again.")
    return {str(name): rows for name, rows in table.groupby("cluster", sort=False)}


def _markers(rows: pd.DataFrame | None) -> tuple[MarkerGene, ...]:
    if rows is None:
        return ()
    best = rows.sort_values("rank").head(MAX_MARKERS)
    columns = (best[name].tolist() for name in ("gene", "log2fc", "fraction_in", "fraction_out", "rank"))
    return tuple(
        MarkerGene(str(gene), float(log2fc), float(inside), float(outside), int(rank))
        for gene, log2fc, inside, outside, rank in zip(*columns, strict=True)
    )


def _programs(rows: pd.DataFrame | None) -> tuple[Program, ...]:
    if rows is None:
        return ()
    best = rows.sort_values(["q", "name"]).head(MAX_PROGRAMS)
    return tuple(Program(str(name), float(q), _split(genes)) for name, q, genes in zip(best["name"], best["q"], best["genes"], strict=True))


def _split(genes: Any) -> tuple[str, ...]:
    return tuple(gene for gene in (genes.split(";") if isinstance(genes, str) else map(str, genes)) if gene)


class _Knowledge:
    """What each gene is worth to each type, and the most a type can reach."""

    def __init__(self, panel: Panel, genes: Sequence[str]) -> None:
        weights = np.clip(panel.weights, 0, None)
        self._types = panel.types
        self._row = {gene: i for i, gene in enumerate(genes)}
        self._value = marker_values(weights)
        doubt = MIN_FOLD_CHANGE * np.log1p(len(panel.types))
        self._attainable = np.sort(self._value, axis=0)[::-1][:MAX_MARKERS].sum(axis=0) + doubt

    def support(self, markers: Sequence[MarkerGene]) -> tuple[Support, ...]:
        """Score the types that the markers speak for: the sum over markers of value × excess prevalence, of the most attainable.

        `DOUBT` markers of no other type are added to the most attainable.
        """
        if missing := [marker.gene for marker in markers if marker.gene not in self._row]:
            raise UserError("markers", "gene", f"{missing[0]!r} is not on the panel", "Make the markers from this slide's counts.")
        excess = np.clip([marker.fraction_in - marker.fraction_out for marker in markers], 0, 1)
        parts = excess[:, None] * self._value[[self._row[marker.gene] for marker in markers]] / self._attainable
        scored = [
            Support(name, TYPES[name], float(math.fsum(part)), _weightiest(markers, part))
            for name, part in zip(self._types, parts.T, strict=True)
            if part.any()
        ]
        return tuple(sorted(scored, key=lambda found: (-found.score, found.label))[:MAX_LABELS])


def _weightiest(markers: Sequence[MarkerGene], part: NDArray[np.float64]) -> tuple[str, ...]:
    return tuple(markers[i].gene for i in np.argsort(-part, kind="stable") if part[i] > 0)


def marker_values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each gene's worth as a marker of each type: inverse document frequency × specificity.

    With T types of which t have the gene, the first is ln(1 + T / t); the second is the type's share of the gene's weight.

    Parameters
    ----------
    weights
        Positive marker weights, (genes, types); 0 where the gene is no marker.

    Returns
    -------
    (genes, types), not negative.
    """
    types_with = (weights > 0).sum(axis=1, keepdims=True)
    frequency = np.log1p(weights.shape[1] / np.maximum(types_with, 1))
    share = weights / np.where(types_with, weights.sum(axis=1, keepdims=True), 1)
    return np.asarray(frequency * share)
