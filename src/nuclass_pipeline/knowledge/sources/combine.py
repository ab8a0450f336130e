"""One table of markers for all sources, and the weights that they combine to."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.markers import Marker
from nuclass_pipeline.knowledge.sources.symbols import Symbols
from nuclass_pipeline.table_schema import Column, Table

# 3, because config/markers.tsv grades its markers from 1 to 3; the other sources are put on that scale (docs/labels.md).
MAX_WEIGHT = 3.0
"""Weight of the best marker, in every source."""

MARKER_SOURCES = Table(
    "evidence",
    (
        Column("gene", "text", "symbol, approved where HGNC was given"),
        Column("name", "text", "cell type, by the name in the source"),
        Column("type", "text", "cell type that the name means; empty where it means none, or several", optional=True),
        Column("source", "text", "source"),
        Column("release", "text", "file name, and start of its SHA-256"),
        Column("organs", "text", "organs in which it counts, separated by commas"),
        Column("tissue", "text", "tissue in the source", optional=True),
        Column("state", "text", "disease state in the source", optional=True),
        Column("weight", "number", "above 0, up to 3"),
        Column("positive", "flag", "evidence for the type, else against it"),
        Column("references", "text", "papers, separated by semicolons", optional=True),
    ),
)


def tabulate(rows: pd.DataFrame, path: Path | str, *, source: str, release: str, organ: str, symbols: Symbols | None) -> pd.DataFrame:
    """Build a table `MARKER_SOURCES` from the rows of one source.

    Parameters
    ----------
    rows
        Columns gene, name and weight, and any of tissue, state and references. A gene may have many types and a type many genes.
    path
        File of the source, for errors.
    source
        Name of the source.
    release
        Its file name and checksum.
    organ
        Organ in which the markers count.
    symbols
        Renames genes to approved symbols; genes that are unknown or ambiguous there keep theirs.

    Raises
    ------
    UserError
        If there is no row.
    """
    if rows.empty:
        problem = f"no human marker of a tissue of {organ} is left"
        raise UserError(path, "rows", problem, "Check the file, and the tissues of the organ in organs.yaml.")
    frame = rows.reindex(columns=[column.name for column in MARKER_SOURCES.columns]).astype(object)
    frame = frame.assign(weight=rows["weight"].astype(float), source=source, release=release, organs=organ, positive=True)
    if symbols:
        frame["gene"] = frame["gene"].map({gene: symbols.approved(gene) or gene for gene in frame["gene"].unique()})
    frame["type"] = frame["name"].map({name: HIERARCHY.type_named(name) for name in frame["name"].unique()}).astype(object)
    frame = frame.where(frame.notna(), None).astype({"weight": float, "positive": bool}).reset_index(drop=True)
    MARKER_SOURCES.check(frame, path)
    return frame


def from_markers(markers: Sequence[Marker], *, source: str, release: str, symbols: Symbols | None = None) -> pd.DataFrame:
    """Convert a marker table to a table `MARKER_SOURCES`; its cell types are known already."""
    rows = [
        {
            "gene": (symbols.approved(marker.gene) if symbols else None) or marker.gene,
            "name": marker.type,
            "type": marker.type,
            "source": source,
            "release": release,
            "organs": ",".join(sorted(marker.organs)),
            "tissue": None,
            "state": None,
            "weight": abs(marker.weight),
            "positive": marker.weight > 0,
            "references": marker.source,
        }
        for marker in markers
    ]
    return pd.DataFrame(rows, columns=[column.name for column in MARKER_SOURCES.columns])


def combine(table: pd.DataFrame) -> list[Marker]:
    """Combine the markers of all sources to one weight per cell type, gene and organ.

    Within a source the heaviest row counts, since its rows are not independent. The weights w of several sources combine like
    independent probabilities (noisy-or), to 3 (1 − Π(1 − w/3)). The order does not matter; the result is above each weight and at most 3.
    Evidence against a type is combined in the same way and subtracted. Rows without a type are left out.

    Parameters
    ----------
    table
        Table `MARKER_SOURCES` of one or several sources.

    Returns
    -------
    Markers sorted by type and gene, with weights of three decimals; one marker for all organs with the same weight and sources.
    """
    MARKER_SOURCES.check(table, "marker sources")
    heaviest, cited = _collect(table[table["type"].notna()])
    organs = defaultdict[tuple[str, str, float, str], set[str]](set)
    for (cell_type, gene, organ), sources in heaviest.items():
        weight = round(_join(sources, True) - _join(sources, False), 3)
        if weight:
            organs[cell_type, gene, weight, "; ".join(sorted(cited[cell_type, gene, organ]))].add(organ)
    return [
        Marker(cell_type, gene, weight, frozenset(where), source) for (cell_type, gene, weight, source), where in sorted(organs.items())
    ]


_Key = tuple[str, str, str]  # cell type, gene, organ


def _collect(table: pd.DataFrame) -> tuple[dict[_Key, dict[tuple[str, bool], float]], dict[_Key, set[str]]]:
    """Find the heaviest weight of each source and sign, and the citations, for each cell type, gene and organ."""
    heaviest = defaultdict[_Key, dict[tuple[str, bool], float]](dict)
    cited = defaultdict[_Key, set[str]](set)
    columns = ["type", "gene", "organs", "source", "positive", "weight", "references"]
    for cell_type, gene, organs, source, positive, weight, references in table[columns].itertuples(index=False):
        for organ in organs.split(","):
            weights = heaviest[cell_type, gene, organ]
            weights[source, positive] = max(weight, weights.get((source, positive), 0.0))
            cited[cell_type, gene, organ].add(_cite(source, references))
    return heaviest, cited


def _join(sources: dict[tuple[str, bool], float], positive: bool) -> float:
    return MAX_WEIGHT * (1 - math.prod(1 - weight / MAX_WEIGHT for (_, sign), weight in sources.items() if sign is positive))


def _cite(source: str, references: str | None) -> str:
    papers = references.split(";") if references else []
    if len(papers) > 3:
        return f"{source} ({len(papers)} papers)"
    return f"{source} ({', '.join(papers)})" if papers else source
