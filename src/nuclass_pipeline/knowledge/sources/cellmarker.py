"""CellMarker 2.0: markers by the papers that report them."""

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

MIN_PAPERS = 2
"""A marker that one paper reports is not enough."""

_COLUMNS = ("species", "tissue_class", "cell_type", "cell_name", "Symbol", "PMID")


def read_cellmarker(path: Path | str, organ: str, *, profiles: OrganTypes = ORGAN_TYPES, symbols: Symbols | None = None) -> pd.DataFrame:
    """Read the human markers of an organ's tissues that at least two papers report, as a table `EVIDENCE`.

    The type is the column `cell_name`. The column `cell_type` is a disease state (Normal cell, Cancer cell) and never a label. Papers are
    counted per gene and cell name over the organ's tissues, and weigh as `paper_weight` says.

    Parameters
    ----------
    path
        The original .xlsx, or its sheet as .csv or .tsv.
    organ, profiles
        Decide which tissue classes are kept.
    symbols
        Renames genes to approved symbols.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, lacks a column (as lists derived from it do), or nothing is left.
    """
    frame, release = read_download(path, CELLMARKER, _COLUMNS)
    kept = (frame["species"].str.casefold() == "human") & frame["tissue_class"].str.casefold().isin(profiles.tissues_of(organ))
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
    """Weigh a marker by the papers that report it: log2 of their number, so 1 for two, 2 for four, and 3 for eight or more."""
    return float(min(np.log2(papers), MAX_WEIGHT))


def _listed(values: pd.Series) -> str:
    return ", ".join(sorted({str(value) for value in values} - {""}))
