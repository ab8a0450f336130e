"""One table of evidence for all sources, and the markers it adds up to."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.markers import Marker
from nuclass_pipeline.knowledge.sources.symbols import Symbols
from nuclass_pipeline.schemas import Column, Table

MAX_WEIGHT = 3.0
"""Weight of the best marker, in every source."""

MARKER_SOURCES = Table(
    "evidence",
    (
        Column("gene", "text", "symbol, approved where HGNC was given"),
        Column("name", "text", "cell type as the source calls it"),
        Column("type", "text", "type it means; empty where it is none, or several", optional=True),
        Column("source", "text", "source"),
        Column("release", "text", "file, and start of its SHA-256"),
        Column("organs", "text", "organs it counts in, separated by commas"),
        Column("tissue", "text", "tissue in the source", optional=True),
        Column("state", "text", "disease state in the source", optional=True),
        Column("weight", "number", "above 0, up to 3"),
        Column("positive", "flag", "speaks for the type, else against it"),
        Column("references", "text", "papers, separated by semicolons", optional=True),
    ),
)


def tabulate(rows: pd.DataFrame, path: Path | str, *, source: str, release: str, organ: str, symbols: Symbols | None) -> pd.DataFrame:
    """Complete a source's rows to a table `EVIDENCE` of markers that count in `organ`.

    Parameters
    ----------
    rows
        Columns gene, name and weight, and any of tissue, state and references. A gene may have many types and a type many genes.
    path, source, release
        Where they come from.
    organ
        Where they count.
    symbols
        Renames genes to approved symbols; those it does not know, or finds ambiguous, keep theirs.

    Raises
    ------
    UserError
        If there is no row left.
    """
    if rows.empty:
        problem = f"no human marker of a tissue of {organ} is left"
        raise UserError(path, "rows", problem, "Check the file, and the tissues of the organ's profile.")
    frame = rows.reindex(columns=[column.name for column in MARKER_SOURCES.columns]).astype(object)
    frame = frame.assign(weight=rows["weight"].astype(float), source=source, release=release, organs=organ, positive=True)
    if symbols:
        frame["gene"] = frame["gene"].map({gene: symbols.approved(gene) or gene for gene in frame["gene"].unique()})
    frame["type"] = frame["name"].map({name: HIERARCHY.type_named(name) for name in frame["name"].unique()}).astype(object)
    frame = frame.where(frame.notna(), None).astype({"weight": float, "positive": bool}).reset_index(drop=True)
    MARKER_SOURCES.check(frame, path)
    return frame


def from_markers(markers: Sequence[Marker], *, source: str, release: str, symbols: Symbols | None = None) -> pd.DataFrame:
    """Turn the own marker table into a table `EVIDENCE`; its types need no mapping."""
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


def combine(evidence: pd.DataFrame) -> list[Marker]:
    """Add up evidence to one weight per type, gene and organ.

    Within a source the heaviest row counts, since its rows are not independent. Between sources weights w on the common scale of 0 to 3
    are combined as independent hints, 3 (1 − Π(1 − w/3)): the order does not matter, two sources weigh more than one, and none more
    than 3. What speaks against a type is combined alike and subtracted. Rows without a type are left out.

    Parameters
    ----------
    evidence
        Table `EVIDENCE`, of one or several sources.

    Returns
    -------
    Markers by type and gene; weights rounded to three decimals, organs with equal weight together.
    """
    MARKER_SOURCES.check(evidence, "evidence")
    heaviest, cited = _collect(evidence[evidence["type"].notna()])
    organs = defaultdict[tuple[str, str, float, str], set[str]](set)
    for (type_, gene, organ), sources in heaviest.items():
        weight = round(_join(sources, True) - _join(sources, False), 3)
        if weight:
            organs[type_, gene, weight, "; ".join(sorted(cited[type_, gene, organ]))].add(organ)
    return [Marker(type_, gene, weight, frozenset(of), source) for (type_, gene, weight, source), of in sorted(organs.items())]


_Key = tuple[str, str, str]


def _collect(evidence: pd.DataFrame) -> tuple[dict[_Key, dict[tuple[str, bool], float]], dict[_Key, set[str]]]:
    """Find, for each type, gene and organ, the heaviest weight of each source and sign, and who is cited."""
    heaviest = defaultdict[_Key, dict[tuple[str, bool], float]](dict)
    cited = defaultdict[_Key, set[str]](set)
    columns = ["type", "gene", "organs", "source", "positive", "weight", "references"]
    for type_, gene, organs, source, positive, weight, references in evidence[columns].itertuples(index=False):
        for organ in organs.split(","):
            weights = heaviest[type_, gene, organ]
            weights[source, positive] = max(weight, weights.get((source, positive), 0.0))
            cited[type_, gene, organ].add(_cite(source, references))
    return heaviest, cited


def _join(sources: dict[tuple[str, bool], float], positive: bool) -> float:
    return MAX_WEIGHT * (1 - math.prod(1 - weight / MAX_WEIGHT for (_, sign), weight in sources.items() if sign is positive))


def _cite(source: str, references: str | None) -> str:
    papers = references.split(";") if references else []
    if len(papers) > 3:
        return f"{source} ({len(papers)} papers)"
    return f"{source} ({', '.join(papers)})" if papers else source
