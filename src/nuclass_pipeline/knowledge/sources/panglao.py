"""PanglaoDB: canonical human markers, weighted by their sensitivity and specificity."""

from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, OrganTypes
from nuclass_pipeline.knowledge.sources.combine import MAX_WEIGHT, tabulate
from nuclass_pipeline.knowledge.sources.files import Origin, read_download, to_numbers
from nuclass_pipeline.knowledge.sources.symbols import Symbols

PANGLAO = Origin(
    "PanglaoDB_markers_27_Mar_2020.tsv.gz",
    "https://panglaodb.se/markers.html",
    "none stated, so it is not shipped",
    "Franzén et al. 2019, 10.1093/database/baz046",
)

# Without `nicknames`, because one gene's nickname is another gene's symbol.
_COLUMNS = (
    "species",
    "official gene symbol",
    "cell type",
    "ubiquitousness index",
    "canonical marker",
    "organ",
    "sensitivity_human",
    "specificity_human",
)


def read_panglao(path: Path | str, organ: str, *, organ_types: OrganTypes = ORGAN_TYPES, symbols: Symbols | None = None) -> pd.DataFrame:
    """Read the canonical human markers of an organ's tissues as a table `MARKER_SOURCES`; a gene may have several cell types.

    Parameters
    ----------
    path
        The original .tsv.gz, or unpacked.
    organ
        One of `ORGANS`.
    organ_types
        Organs of PanglaoDB that belong to each organ.
    symbols
        Renames genes to approved symbols.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, lacks a column, has a share outside 0 to 1, or nothing is left.
    """
    frame, release = read_download(path, PANGLAO, _COLUMNS)
    frame = canonical_human(frame)
    frame = frame[frame["organ"].str.casefold().isin(organ_types.tissues_of(organ))]
    sensitivity, specificity, ubiquitousness = (
        to_numbers(frame, name, path, high=1).to_numpy(float) for name in ("sensitivity_human", "specificity_human", "ubiquitousness index")
    )
    rows = pd.DataFrame(
        {
            "gene": frame["official gene symbol"],
            "name": frame["cell type"],
            "tissue": frame["organ"],
            "weight": panglao_weight(sensitivity, specificity, ubiquitousness),
        }
    )
    return tabulate(rows, path, source="PanglaoDB", release=release, organ=organ, symbols=symbols)


def canonical_human(frame: pd.DataFrame) -> pd.DataFrame:
    """Select rows of human genes (species `Hs` or `Mm Hs`) that are marked canonical."""
    human = frame["species"].str.split().map(lambda species: "Hs" in species)
    return frame[human & frame["canonical marker"].isin(["1", "1.0"])]


def panglao_weight(sensitivity: Floats, specificity: Floats, ubiquitousness: Floats) -> Floats:
    """Compute the weights of markers, (markers,): from 1, never seen, to 3, seen in all cells of the type and in no other.

    The weight is 1 + 2 s (1 − f) (1 − u). A marker that was not measured has weight 1.

    Parameters
    ----------
    sensitivity
        Share s of the type's cells with the gene, (markers,).
    specificity
        Share f of all other cells with the gene, (markers,).
    ubiquitousness
        Share u of all clusters with the gene, (markers,).
    """
    # 1 − f, because PanglaoDB's "specificity" is a share of false positives, small for a specific gene.
    gain = sensitivity * (1 - specificity) * (1 - ubiquitousness)
    return np.asarray(1 + (MAX_WEIGHT - 1) * np.nan_to_num(gain, nan=0.0))
