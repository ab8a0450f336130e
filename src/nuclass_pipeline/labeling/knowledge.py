"""What is known before looking at a slide: markers of each type, and the types an organ can hold."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require
from nuclass_pipeline.vocabulary import LINEAGES, ORGANS

log = logging.getLogger(__name__)

OTHER_TYPES: dict[str, str] = {
    "Adipocyte": "Stromal",
    "Cholangiocyte": "Epithelial",
    "Epithelial_Fallopian": "Epithelial",
    "Epithelial_Intestinal": "Epithelial",
    "Epithelial_Renal": "Epithelial",
    "Hepatocyte": "Epithelial",
    "Myoepithelial": "Epithelial",
}
"""Lineage of the types that are no class: they compete for cells, so that their cells do not pollute a class."""

TYPES: dict[str, str] = {**LINEAGES, **OTHER_TYPES}
"""Lineage of every type the marker table may name."""

_EVERYWHERE = frozenset(
    {
        *("B_Cell", "Dendritic_Cell", "Endothelial", "Fibroblast", "Macrophage", "Mast_Cell", "Monocyte", "NK_Cell"),
        *("Neutrophil", "Pericyte", "Plasma_Cell", "Smooth_Muscle", "T_Cell"),
    }
)
_TUMOUR = frozenset({"Epithelial_Malignant", "Endothelial_TumorAssociated", "Tumor_Associated_Fibroblast"})
_OF_ORGAN: dict[str, frozenset[str]] = {
    "breast": _TUMOUR | {"Adipocyte", "Myoepithelial"},
    "colon": _TUMOUR | {"Epithelial_Intestinal"},
    "heart": frozenset({"Adipocyte", "Cardiomyocyte"}),
    "kidney": _TUMOUR | {"Epithelial_Renal"},
    "liver": _TUMOUR | {"Cholangiocyte", "Hepatocyte"},
    "lung": _TUMOUR | {"Epithelial_Airway", "Epithelial_Alveolar"},
    "ovary": _TUMOUR | {"Epithelial_Fallopian"},
    "pancreas": _TUMOUR | {"Acinar", "Ductal", "Endocrine"},
}

_COLUMNS = ("class", "gene", "weight", "organs", "source")


@dataclass(frozen=True)
class Marker:
    """A gene that speaks for a type (weight 1 to 3) or against it (negative), in all or some organs."""

    type: str
    gene: str
    weight: float
    organs: frozenset[str]


@dataclass(frozen=True)
class Panel:
    """Marker weights on one panel: `weights` is (genes, types), and every type has a positive marker."""

    types: tuple[str, ...]
    weights: NDArray[np.float64]

    @property
    def lineages(self) -> tuple[str, ...]:
        """Lineage of each type."""
        return tuple(TYPES[name] for name in self.types)


def admissible(organ: str) -> tuple[str, ...]:
    """Name the types that occur in `organ`, sorted.

    Raises
    ------
    UserError
        If the organ is not in the vocabulary.
    """
    if organ not in _OF_ORGAN:
        raise UserError("config/slides.tsv", "organ", f"{organ!r} has no profile", f"Use one of {', '.join(ORGANS)}.")
    return tuple(sorted(_EVERYWHERE | _OF_ORGAN[organ]))


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
        raise UserError(path, f"weight, line {line}", f"{values['weight']!r} is no weight", "Use 1 to 3, or a negative number down to -3.")
    return Marker(values["class"], values["gene"], weight, organs)


def _refuse_repeats(path: Path | str, markers: Sequence[Marker]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for marker in markers:
        rows = {(marker.type, marker.gene, organ) for organ in marker.organs}
        if seen & rows:
            raise UserError(path, "gene", f"{marker.gene} occurs twice for {marker.type} in one organ", "Keep one row.")
        seen |= rows


def on_panel(markers: Sequence[Marker], organ: str, genes: Sequence[str]) -> Panel:
    """Reduce the markers to the genes of a panel and the types of an organ.

    Parameters
    ----------
    markers
        The marker table.
    organ
        One of `ORGANS`.
    genes
        Symbols on the panel; those without a marker get zero weights.

    Returns
    -------
    Types with at least one positive marker on the panel, and their weights, (genes, types).
    """
    column = {name: i for i, name in enumerate(admissible(organ))}
    row = {gene: i for i, gene in enumerate(genes)}
    weights = np.zeros((len(row), len(column)))
    for marker in markers:
        if organ in marker.organs and marker.type in column and marker.gene in row:
            weights[row[marker.gene], column[marker.type]] = marker.weight
    seen = np.asarray((weights > 0).any(axis=0))
    if not seen.all():
        log.warning("no marker on the panel, so never a label: %s", ", ".join(name for name, i in column.items() if not seen[i]))
    return Panel(tuple(name for name, i in column.items() if seen[i]), weights[:, seen])
