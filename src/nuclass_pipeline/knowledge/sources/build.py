"""One marker table from the shipped one and the user's downloads."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import require
from nuclass_pipeline.knowledge.markers import read_markers, write_markers
from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, OrganTypes
from nuclass_pipeline.knowledge.sources.cellmarker import read_cellmarker
from nuclass_pipeline.knowledge.sources.combine import combine, from_markers
from nuclass_pipeline.knowledge.sources.panel10x import read_panel_list
from nuclass_pipeline.knowledge.sources.panglao import read_panglao
from nuclass_pipeline.knowledge.sources.symbols import read_hgnc


def build_markers(
    *,
    own: Path,
    organ: str,
    output: Path,
    panglao: Path | None = None,
    cellmarker: Path | None = None,
    panels: Sequence[Path] = (),
    hgnc: Path | None = None,
    organ_types: OrganTypes = ORGAN_TYPES,
) -> None:
    """Write a marker table from an own one and other sources, for `labeling.markers` of a run file.

    Parameters
    ----------
    own
        Marker table to start from; its rows keep their organs.
    organ
        Organ whose markers are read from the other sources; there they count.
    output
        Marker table to write. It is derived from the sources, so their licences decide whether it may be shared.
    panglao
        PanglaoDB, as downloaded.
    cellmarker
        CellMarker 2.0, as downloaded.
    panels
        Gene lists of Xenium panels, as downloaded.
    hgnc
        HGNC table, as downloaded; genes are then renamed to approved symbols.
    organ_types
        Tissues of each organ in the other sources.
    """
    symbols = read_hgnc(hgnc) if hgnc else None
    release = f"{own.name} {hashlib.sha256(require(own).read_bytes()).hexdigest()[:12]}"
    tables = [from_markers(read_markers(own), source="own", release=release, symbols=symbols)]
    readers = [(read_panglao, panglao), (read_cellmarker, cellmarker), *((read_panel_list, panel) for panel in panels)]
    tables += [read(path, organ, organ_types=organ_types, symbols=symbols) for read, path in readers if path]
    write_markers(combine(pd.concat(tables, ignore_index=True)), output)
