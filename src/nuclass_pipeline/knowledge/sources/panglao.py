"""PanglaoDB: canonical human markers with measured sensitivity and specificity."""

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


def read_panglao(path: Path | str, organ: str, *, profiles: OrganTypes = ORGAN_TYPES, symbols: Symbols | None = None) -> pd.DataFrame:
    """Read the canonical human markers of an organ's tissues as a table `EVIDENCE`.

    The nicknames are not read: one gene's nickname is another's symbol. Every row counts, so a gene keeps all its cell types.

    Parameters
    ----------
    path
        The original .tsv.gz, or unpacked.
    organ, profiles
        Decide which of PanglaoDB's organs are kept.
    symbols
        Renames genes to approved symbols.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, lacks a column, has a share outside 0 to 1, or nothing is left.
    """
    frame, release = read_download(path, PANGLAO, _COLUMNS)
    frame = canonical_human(frame)
    frame = frame[frame["organ"].str.casefold().isin(profiles.tissues_of(organ))]
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
    """Keep rows of human genes (species `Hs` or `Mm Hs`) that are marked canonical."""
    human = frame["species"].str.split().map(lambda species: "Hs" in species)
    return frame[human & frame["canonical marker"].isin(["1", "1.0"])]


def panglao_weight(sensitivity: Floats, specificity: Floats, ubiquitousness: Floats) -> Floats:
    """Weigh markers from 1, known but never seen, to 3, seen in all cells of the type and in no other.

    1 + 2 s (1 − f) (1 − u), with the share s of the type's cells that show the gene, the share f of other cells that do (PanglaoDB's
    "specificity", small for a specific gene) and the share u of all clusters that do. A marker that was not measured weighs 1.
    """
    gain = sensitivity * (1 - specificity) * (1 - ubiquitousness)
    return np.asarray(1 + (MAX_WEIGHT - 1) * np.nan_to_num(gain, nan=0.0))
