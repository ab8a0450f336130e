"""A marker table from the own one and what the user has downloaded."""

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
    profiles: OrganTypes = ORGAN_TYPES,
) -> None:
    """Write a marker table of the own one and other sources, for `labeling.markers` of a run file.

    Parameters
    ----------
    own
        Marker table; its rows keep their organs.
    organ, profiles
        What is taken of the other sources, and where it counts.
    output
        Marker table. It is derived from the sources: their licences decide whether it may be passed on.
    panglao, cellmarker, panels, hgnc
        Downloads, each as published.
    """
    symbols = read_hgnc(hgnc) if hgnc else None
    release = f"{own.name} {hashlib.sha256(require(own).read_bytes()).hexdigest()[:12]}"
    tables = [from_markers(read_markers(own), source="own", release=release, symbols=symbols)]
    readers = [(read_panglao, panglao), (read_cellmarker, cellmarker), *((read_panel_list, panel) for panel in panels)]
    tables += [read(path, organ, profiles=profiles, symbols=symbols) for read, path in readers if path]
    write_markers(combine(pd.concat(tables, ignore_index=True)), output)
