"""The marker table: marker genes of each cell type, with weights, and their restriction to an organ and a panel."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import quote_row, read_rows, whole_file
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, OrganTypes
from nuclass_pipeline.vocabulary import ORGANS

TYPES: dict[str, str] = {name: HIERARCHY.lineage_of(name) for name in HIERARCHY.types}
"""Lineage of each cell type: the 22 classes, and seven further types that compete for cells without being trained."""

# The cell type is in the column `class`, because tables of users have that name; seven of its values are not classes.
_COLUMNS = ("class", "gene", "weight", "organs", "source")
_DATE = re.compile(r"\d{1,2}-[A-Za-z]{3}|[A-Za-z]{3}-\d{2}|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


@dataclass(frozen=True)
class Marker:
    """A gene that is evidence for or against a cell type.

    Attributes
    ----------
    type
        Cell type.
    gene
        Symbol.
    weight
        Above 0 up to 3 for the type, negative against it.
    organs
        Organs in which it counts.
    source
        Publication or panel that it is from.
    """

    type: str
    gene: str
    weight: float
    organs: frozenset[str]
    source: str


@dataclass(frozen=True)
class Panel:
    """Marker weights on one panel.

    Attributes
    ----------
    types
        Cell types, each with a positive marker on the panel.
    weights
        Weight of each gene for each type, (genes, types); 0 where it is not a marker.
    """

    types: tuple[str, ...]
    weights: Floats

    @property
    def lineages(self) -> tuple[str, ...]:
        """Lineage of each type, in the order of `types`."""
        return tuple(TYPES[name] for name in self.types)

    @property
    def broader(self) -> tuple[str, ...]:
        """The type of the panel that contains each type, such as Fibroblast for Tumor_Associated_Fibroblast; else the type itself."""
        above = [next((parent for parent in HIERARCHY.nodes[name].parents if parent in self.types), name) for name in self.types]
        return tuple(above)


def admissible(organ: str, organ_types: OrganTypes = ORGAN_TYPES) -> tuple[str, ...]:
    """Return the cell types that can occur in `organ`, sorted.

    Raises
    ------
    UserError
        If no types are listed for the organ.
    """
    return organ_types.types_of(organ)


def read_markers(path: Path | str) -> list[Marker]:
    """Read the marker table: tab-separated `class, gene, weight, organs, source`.

    Raises
    ------
    UserError
        If a column is missing, or there is no row. Else at the first row with an empty field, an unknown type or organ, or a weight of 0
        or outside ±3. Last, at a marker that an earlier row has in the same organ.
    """
    markers = [_marker(path, line, row) for line, row in read_rows(path, required=_COLUMNS).rows]
    if not markers:
        raise UserError(path, "rows", "the table has none", "Add one, or use the shipped config/markers.tsv.")
    _check_repeats(path, markers)
    return markers


def _marker(path: Path | str, line: int, values: dict[str, str]) -> Marker:
    if empty := [name for name in _COLUMNS if not values[name]]:
        raise UserError(path, f"{empty[0]}, line {line}", "a field is empty", f"Fill in {', '.join(_COLUMNS)}.")
    if values["class"] not in TYPES:
        problem = f"{values['class']!r} is not a known cell type{similar(values['class'], TYPES)}"
        raise UserError(path, f"class, line {line}", problem, f"Use one of {', '.join(TYPES)}.")
    organs = frozenset(ORGANS if values["organs"] == "all" else (name.strip() for name in values["organs"].split(",")))
    if unknown := sorted(organs - set(ORGANS)):
        problem = f"{unknown[0]!r} is not a known organ{similar(unknown[0], ORGANS)}"
        raise UserError(path, f"organs, line {line}", problem, f"Use all, or some of {', '.join(ORGANS)}.")
    if _DATE.fullmatch(values["gene"]):
        problem = f"{values['gene']!r} is a date that a spreadsheet made of a gene"
        raise UserError(path, f"gene, line {line}", problem, "Write its symbol, such as SEPTIN7 or MARCHF1, in a column of text.")
    try:
        weight = float(values["weight"])
    except ValueError:
        weight = np.nan
    if not 0 < abs(weight) <= 3:
        raise UserError(path, f"weight, line {line}", f"{values['weight']!r} is not a weight", "Use a number from -3 to 3 other than 0.")
    return Marker(values["class"], values["gene"], weight, organs, values["source"])


def _check_repeats(path: Path | str, markers: Sequence[Marker]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for marker in markers:
        rows = {(marker.type, marker.gene, organ) for organ in marker.organs}
        if seen & rows:
            raise UserError(path, "gene", f"{marker.gene} occurs twice for {marker.type} in one organ", "Keep one row.")
        seen |= rows


def write_markers(markers: Sequence[Marker], path: Path | str) -> None:
    """Write a marker table for `read_markers`, with weights of three decimals."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        for marker in markers:
            organs = "all" if marker.organs == set(ORGANS) else ",".join(sorted(marker.organs))
            writer.writerow(quote_row((marker.type, marker.gene, f"{round(marker.weight, 3):g}", organs, marker.source)))


def restrict_to_panel(markers: Sequence[Marker], organ: str, genes: Sequence[str], organ_types: OrganTypes = ORGAN_TYPES) -> Panel:
    """Select the markers on a panel of the cell types of an organ.

    Parameters
    ----------
    markers
        The marker table.
    organ
        One of `ORGANS`.
    genes
        Symbols on the panel; the weights of genes that are not markers are 0.
    organ_types
        Cell types that can occur in each organ.

    Returns
    -------
    Cell types with a positive marker on the panel, and their weights, (genes, types). A type without one cannot be a label.
    """
    column = {name: i for i, name in enumerate(admissible(organ, organ_types))}
    row = {gene: i for i, gene in enumerate(genes)}
    weights = np.zeros((len(row), len(column)))
    for marker in markers:
        if organ in marker.organs and marker.type in column and marker.gene in row:
            weights[row[marker.gene], column[marker.type]] = marker.weight
    seen = np.asarray((weights > 0).any(axis=0))
    return Panel(tuple(name for name, i in column.items() if seen[i]), weights[:, seen])
