"""What is known before looking at a slide: markers of each type, and the types an organ can hold."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require, whole_file
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, OrganTypes
from nuclass_pipeline.vocabulary import ORGANS

logger = logging.getLogger(__name__)

TYPES: dict[str, str] = {name: HIERARCHY.lineage_of(name) for name in HIERARCHY.types}
"""Lineage of every type the marker table may name: the 22 classes, and types that compete for cells without being taught."""

lineage_of, resolve, assign = HIERARCHY.lineage_of, HIERARCHY.resolve, HIERARCHY.assign

_COLUMNS = ("class", "gene", "weight", "organs", "source")


@dataclass(frozen=True)
class Marker:
    """A gene that speaks for a type (weight up to 3) or against it (negative), in all or some organs, and who says so."""

    type: str
    gene: str
    weight: float
    organs: frozenset[str]
    source: str


@dataclass(frozen=True)
class Panel:
    """Marker weights on one panel: `weights` is (genes, types), and every type has a positive marker."""

    types: tuple[str, ...]
    weights: NDArray[np.float64]

    @property
    def lineages(self) -> tuple[str, ...]:
        """Lineage of each type."""
        return tuple(TYPES[name] for name in self.types)


def admissible(organ: str, profiles: OrganTypes = ORGAN_TYPES) -> tuple[str, ...]:
    """Name the types that occur in `organ`, sorted.

    Raises
    ------
    UserError
        If the organ has no profile.
    """
    return profiles.types_of(organ)


def read_markers(path: Path | str) -> list[Marker]:
    """Read the marker table: tab-separated `class, gene, weight, organs, source`.

    Raises
    ------
    UserError
        At the first row with an unknown type or organ, a weight outside ±3, or a marker that an earlier row has in the same organ;
        if a column is missing, or there is no row.
    """
    with require(path).open(newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or [])]:
            raise UserError(path, missing[0], "the column is missing", f"The columns are {', '.join(_COLUMNS)}, separated by tabs.")
        markers = [_marker(path, line, row) for line, row in enumerate(reader, start=2)]
    if not markers:
        raise UserError(path, "rows", "there is none", "Restore config/markers.tsv.")
    _refuse_repeats(path, markers)
    return markers


def _marker(path: Path | str, line: int, row: dict[str, str | None]) -> Marker:
    if not all(row[name] for name in _COLUMNS):
        raise UserError(path, f"line {line}", "a cell is empty", f"Fill in {', '.join(_COLUMNS)}.")
    values = {name: str(row[name]) for name in _COLUMNS}
    if values["class"] not in TYPES:
        raise UserError(path, f"class, line {line}", f"{values['class']!r} is no known type", f"Use one of {', '.join(TYPES)}.")
    organs = frozenset(ORGANS if values["organs"] == "all" else values["organs"].split(","))
    if unknown := sorted(organs - set(ORGANS)):
        raise UserError(path, f"organs, line {line}", f"{unknown[0]!r} is no organ", f"Use all, or some of {', '.join(ORGANS)}.")
    try:
        weight = float(values["weight"])
    except ValueError:
        weight = np.nan
    if not 0 < abs(weight) <= 3:
        raise UserError(path, f"weight, line {line}", f"{values['weight']!r} is no weight", "Use a number up to 3, or down to -3.")
    return Marker(values["class"], values["gene"], weight, organs, values["source"])


def _refuse_repeats(path: Path | str, markers: Sequence[Marker]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for marker in markers:
        rows = {(marker.type, marker.gene, organ) for organ in marker.organs}
        if seen & rows:
            raise UserError(path, "gene", f"{marker.gene} occurs twice for {marker.type} in one organ", "Keep one row.")
        seen |= rows


def write_markers(markers: Sequence[Marker], path: Path | str) -> None:
    """Write a marker table that `read_markers` reads; weights are rounded to three decimals."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        for marker in markers:
            organs = "all" if marker.organs == set(ORGANS) else ",".join(sorted(marker.organs))
            writer.writerow((marker.type, marker.gene, f"{round(marker.weight, 3):g}", organs, marker.source))


def restrict_to_panel(markers: Sequence[Marker], organ: str, genes: Sequence[str], profiles: OrganTypes = ORGAN_TYPES) -> Panel:
    """Reduce the markers to the genes of a panel and the types of an organ.

    Parameters
    ----------
    markers
        The marker table.
    organ
        One of `ORGANS`.
    genes
        Symbols on the panel; those without a marker get zero weights.
    profiles
        Which types the organ can hold.

    Returns
    -------
    Types with at least one positive marker on the panel, and their weights, (genes, types).
    """
    column = {name: i for i, name in enumerate(admissible(organ, profiles))}
    row = {gene: i for i, gene in enumerate(genes)}
    weights = np.zeros((len(row), len(column)))
    for marker in markers:
        if organ in marker.organs and marker.type in column and marker.gene in row:
            weights[row[marker.gene], column[marker.type]] = marker.weight
    seen = np.asarray((weights > 0).any(axis=0))
    if not seen.all():
        logger.warning("no marker on the panel, so never a label: %s", ", ".join(name for name, i in column.items() if not seen[i]))
    return Panel(tuple(name for name, i in column.items() if seen[i]), weights[:, seen])
