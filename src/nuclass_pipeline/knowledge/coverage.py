"""How much of an organ's marker table is on the panel of a slide, in words."""

import logging
from collections.abc import Sequence
from pathlib import Path

from nuclass_pipeline.knowledge.markers import Panel, admissible, read_markers, restrict_to_panel
from nuclass_pipeline.vocabulary import GENE_NAME_STYLES, MIN_SEEN_SHARE, looks_like

logger = logging.getLogger(__name__)


def coverage_warnings(panel: Panel, organ: str, genes: Sequence[str]) -> list[str]:
    """Return a warning if few types of an organ have a marker on the panel, or if its gene names are not human symbols.

    Parameters
    ----------
    panel
        Marker weights on the panel of the slide.
    organ
        One of `ORGANS`.
    genes
        Gene names on the panel.

    Returns
    -------
    No warning or one; the types without a marker are logged in any case.
    """
    types = admissible(organ)
    missing = [name for name in types if name not in panel.types]
    coverage = f"{len(panel.types)} of {len(types)} cell types of the {organ} have a marker on the panel"
    logger.info("%s%s", coverage, f"; without one: {', '.join(missing)}" if missing else "")
    kind = looks_like(genes)
    if not kind and len(panel.types) >= MIN_SEEN_SHARE * len(types):
        return []
    return [f"{coverage}; the gene names look like {GENE_NAME_STYLES[kind]}" if kind else coverage]


def panel_problem(markers: Path, organ: str, genes: Sequence[str]) -> str:
    """Return why a marker table cannot label the cells of a panel; empty if it can.

    It cannot if no type of the organ has a marker on the panel. Nor can it if few have one and the gene names are not human symbols,
    because those few share a name by chance.

    Parameters
    ----------
    markers
        Marker table, such as `config/markers.tsv`.
    organ, genes
        As for `coverage_warnings`.
    """
    panel = restrict_to_panel(read_markers(markers), organ, list(genes))
    found = coverage_warnings(panel, organ, genes)
    by_chance = bool(looks_like(genes)) and len(panel.types) < MIN_SEEN_SHARE * len(admissible(organ))
    return found[0] if by_chance or not panel.types else ""
