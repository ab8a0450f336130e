"""CellMarker 2.0: markers weighted by the number of papers that report them."""

from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, OrganTypes
from nuclass_pipeline.knowledge.sources.combine import MAX_WEIGHT, tabulate
from nuclass_pipeline.knowledge.sources.files import Origin, read_download
from nuclass_pipeline.knowledge.sources.symbols import Symbols

CELLMARKER = Origin(
    "Cell_marker_Human.xlsx of CellMarker 2.0",
    "http://bio-bigdata.hrbmu.edu.cn/CellMarker/CellMarker_download.html",
    "none stated, so it is not shipped",
    "Hu et al. 2023, 10.1093/nar/gkac947",
)

# Two, because log2 of one paper is a weight of 0 (docs/labels.md).
MIN_PAPERS = 2
"""Papers that have to report a marker."""

_COLUMNS = ("species", "tissue_class", "cell_type", "cell_name", "Symbol", "PMID")


def read_cellmarker(path: Path | str, organ: str, *, organ_types: OrganTypes = ORGAN_TYPES, symbols: Symbols | None = None) -> pd.DataFrame:
    """Read the human markers of an organ's tissues that at least two papers report, as a table `MARKER_SOURCES`.

    Cell types are in the column `cell_name`; the column `cell_type` is a disease state (Normal cell, Cancer cell). Papers are counted per
    gene and cell name over the organ's tissues, and weighted by `paper_weight`.

    Parameters
    ----------
    path
        The original .xlsx, or its sheet as .csv or .tsv.
    organ
        One of `ORGANS`.
    organ_types
        Tissue classes of each organ.
    symbols
        Renames genes to approved symbols.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, lacks a column (as lists derived from it do), or nothing is left.
    """
    frame, release = read_download(path, CELLMARKER, _COLUMNS)
    kept = (frame["species"].str.casefold() == "human") & frame["tissue_class"].str.casefold().isin(organ_types.tissues_of(organ))
    frame = frame[kept & (frame["Symbol"] != "") & (frame["cell_name"] != "") & (frame["PMID"] != "")]
    groups = frame.groupby(["Symbol", "cell_name"], sort=True)
    papers = groups["PMID"].agg(lambda ids: sorted(set(ids)))
    rows = pd.DataFrame(
        {
            "tissue": groups["tissue_class"].agg(_listed),
            "state": groups["cell_type"].agg(_listed),
            "references": papers.map(lambda ids: ";".join(f"PMID:{pmid}" for pmid in ids)),
            "papers": papers.map(len),
        }
    ).reset_index(names=["gene", "name"])
    rows = rows[rows["papers"] >= MIN_PAPERS]
    rows = rows.assign(weight=[paper_weight(n) for n in rows["papers"]])
    return tabulate(rows, path, source="CellMarker 2.0", release=release, organ=organ, symbols=symbols)


def paper_weight(papers: int) -> float:
    """Compute the weight of a marker: log2 of the papers that report it, so 1 for two, 2 for four, and 3 for eight or more."""
    return float(min(np.log2(papers), MAX_WEIGHT))


def _listed(values: pd.Series) -> str:
    return ", ".join(sorted({str(value) for value in values} - {""}))
