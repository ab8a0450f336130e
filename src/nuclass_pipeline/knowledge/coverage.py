"""How much of an organ's marker table is on the panel of a slide, in words."""

import logging
from collections.abc import Sequence
from pathlib import Path

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.markers import Panel, admissible
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
    missing = [name for name in admissible(organ) if name not in panel.types]
    logger.info("%s%s", _coverage(panel, organ), f"; without one: {', '.join(missing)}" if missing else "")
    return [_describe(panel, organ, genes)] if _is_poor(panel, organ) else []


def check_panel(panel: Panel, organ: str, genes: Sequence[str], source: Path) -> None:
    """Check that the marker table can label the cells of a panel.

    It cannot if few types of the organ have a marker on the panel and the gene names are not human symbols, because those few share a
    name by chance.

    Parameters
    ----------
    panel, organ, genes
        As for `coverage_warnings`.
    source
        What the genes are of, for the message.
    """
    if looks_like(genes) and _is_poor(panel, organ):
        remedy = "Name a marker table with the genes of the panel: --markers FILE, or labeling.markers in the run file."
        raise UserError(source, "panel", _describe(panel, organ, genes), remedy)


def _is_poor(panel: Panel, organ: str) -> bool:
    return len(panel.types) < MIN_SEEN_SHARE * len(admissible(organ))


def _describe(panel: Panel, organ: str, genes: Sequence[str]) -> str:
    style = looks_like(genes)
    return _coverage(panel, organ) + (f"; the gene names look like {GENE_NAME_STYLES[style]}" if style else "")


def _coverage(panel: Panel, organ: str) -> str:
    return f"{len(panel.types)} of {len(admissible(organ))} cell types of the {organ} have a marker on the panel"
