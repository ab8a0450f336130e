"""What a person calls cells, matched to classes: by their own table, config/labels.tsv, and the names of cell types."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import TextTable, quote_row, read_rows, whole_file
from nuclass_pipeline.knowledge.cell_types import HIERARCHY, name_key
from nuclass_pipeline.labeling.confidence import NOT_A_CLASS
from nuclass_pipeline.vocabulary import UNRESOLVED, LabelMap

NOT_MATCHED, GROUP = "not in the label map", "lineage, not a class"
"""Reasons of cells whose name is unknown, or is that of a group of cell types."""
MAX_UNMATCHED = 0.1
"""Share of the labelled cells whose name may be unknown."""
_COLUMNS = ("name", "cells", "label")


@dataclass(frozen=True)
class Match:
    """What a name means.

    Attributes
    ----------
    label
        Class or other cell type, or Unresolved.
    reason
        Why it is Unresolved; None where it has a label, or where a person wrote Unresolved.
    """

    label: str
    reason: str | None = None


def match_names(names: Iterable[str], label_map: LabelMap, filled: Mapping[str, str]) -> dict[str, Match]:
    """Return what each name means.

    These are tried in turn: the table that a person filled in; rows of the label map, which win over the following because a person wrote
    them; names, synonyms and Cell Ontology ids of cell types; rows of the label map without regard to case, punctuation, plural and the
    word "cell"; groups of cell types.

    Parameters
    ----------
    names
        Names of the labels; empty ones and Unresolved have no place here.
    label_map
        `config/labels.tsv`.
    filled
        Name → label, of `read_names`.
    """
    rows = {name_key(raw): raw for raw in (*label_map.dropped, *label_map.classes)}
    return {name: _match(name, label_map, filled, rows) for name in names}


def _match(name: str, label_map: LabelMap, filled: Mapping[str, str], rows: Mapping[str, str]) -> Match:
    found = filled.get(name) or _in_rows(name, label_map) or type_of(name) or _in_rows(rows.get(name_key(name), ""), label_map)
    if isinstance(found, Match):
        return found
    if found is None:
        return Match(UNRESOLVED, GROUP if _is_group(name) else NOT_MATCHED)
    # Said here, because types such as hepatocytes compete for cells and are no classes.
    return Match(found) if found in label_map.classes or found == UNRESOLVED else Match(UNRESOLVED, NOT_A_CLASS)


def _in_rows(raw: str, label_map: LabelMap) -> Match | None:
    if raw in label_map.classes:
        return Match(label_map.classes[raw])
    return Match(UNRESOLVED, label_map.dropped[raw]) if raw in label_map.dropped else None


def type_of(name: str) -> str | None:
    """Return the cell type that a name, synonym, or name or id in the Cell Ontology means; None for groups and unknown names."""
    return HIERARCHY.type_named(name) or _BY_ONTOLOGY.get(name.strip().upper()) or _BY_ONTOLOGY.get(name_key(name))


def _is_group(name: str) -> bool:
    try:
        HIERARCHY.types_in(name)
    except UserError:
        return name.strip().upper() in {node.cl_id for node in HIERARCHY.nodes.values() if node.kind == "group"}
    return True


def _by_ontology() -> dict[str, str]:
    found: dict[str, str] = {}
    # Types with a state last, because the id of a fibroblast does not say that a tumour is near.
    for name in sorted(HIERARCHY.types, key=lambda name: bool(HIERARCHY.nodes[name].state)):
        for key in (HIERARCHY.nodes[name].cl_id, name_key(HIERARCHY.nodes[name].cl_name)):
            found.setdefault(key, name)
    return found


_BY_ONTOLOGY = _by_ontology()
"""Id, and key of the name, in the Cell Ontology → cell type."""


def read_names(path: Path | None, own: Iterable[str] = ()) -> dict[str, str]:
    """Read the table of names that a person filled in: name → class or Unresolved. Rows without a label are left out.

    Parameters
    ----------
    path
        Tab-separated `name, label`; further columns are not read. Nothing is read where there is no such file.
    own
        Names of the study's own classes.

    Raises
    ------
    UserError
        If a column is missing, a name occurs twice, or a label is not a class.
    """
    if path is None or not path.is_file():
        return {}
    own, found = (*own, UNRESOLVED), dict[str, str]()
    for line, row in read_rows(path, required=("name", "label")).rows:
        name, label = row["name"], row["label"]
        if name in found:
            raise UserError(path, f"line {line}, name", f"{name!r} occurs twice", "Remove one of its rows.")
        if not label:
            continue
        meant = label if label in own else type_of(label)
        if meant is None:
            problem = f"{label!r} is not a class{similar(label, (*own, *HIERARCHY.types))}"
            raise UserError(path, f"line {line}, label", problem, f"Use a class, or {UNRESOLVED}, or leave it empty.")
        found[name] = meant
    return found


def write_names(unmatched: Counter[str], path: Path) -> None:
    """Write the table of names for a person to fill in, the commonest first; rows and columns of one that is there are kept."""
    table = read_rows(path) if path.is_file() else TextTable(_COLUMNS, [])
    rows = [row for _, row in table.rows]
    known = {row["name"] for row in rows}
    rows += [{"name": name, "cells": str(cells)} for name, cells in unmatched.most_common() if name not in known]
    if len(rows) == len(table.rows):
        return
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(quote_row(table.columns))
        writer.writerows(quote_row(row.get(column, "") for column in table.columns) for row in rows)
