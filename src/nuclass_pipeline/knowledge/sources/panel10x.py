"""Gene lists of Xenium panels: the cell types that 10x annotates each gene with."""

import re
from pathlib import Path

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, OrganTypes
from nuclass_pipeline.knowledge.sources.combine import MAX_WEIGHT, tabulate
from nuclass_pipeline.knowledge.sources.files import Origin, read_download, require_columns
from nuclass_pipeline.knowledge.sources.symbols import Symbols

PANEL_10X = Origin("the gene list of a Xenium panel", "https://www.10xgenomics.com/products/xenium-panels", "none stated", "10x Genomics")

_GENE = ("gene", "Gene", "Genes", "gene_name")
_CELL_TYPES = ("Annotation", "Cell types", "cell_type")

# A comma alone separates, because names of the Cell Ontology contain a comma and a space.
_SEPARATOR = re.compile(r";|,(?! )")


def read_panel_list(path: Path | str, organ: str, *, organ_types: OrganTypes = ORGAN_TYPES, symbols: Symbols | None = None) -> pd.DataFrame:
    """Read the annotation of a panel as a table `MARKER_SOURCES`.

    A gene's weight of 3 is divided by the number of its cell types, so that a gene of many is weak evidence for each. Where the list has
    tissues, those of other organs are left out. Names that are not a cell type have no type.

    Parameters
    ----------
    path
        The panel's list; the names of its columns differ between panels.
    organ
        One of `ORGANS`.
    organ_types
        Tissues of each organ.
    symbols
        Renames genes to approved symbols.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, has no column of genes or of cell types, or nothing is left.
    """
    frame, release = read_download(path, PANEL_10X)
    gene, types = (_column(frame, names, path) for names in (_GENE, _CELL_TYPES))
    tissues = frame["Tissues"] if "Tissues" in frame else pd.Series("", index=frame.index)
    rows = [
        (symbol, name, tissue)
        for symbol, listed, places in zip(frame[gene], frame[types], tissues, strict=True)
        for name, tissue in _pairs(listed, places, path, symbol)
        if not tissue or tissue.casefold() in organ_types.tissues_of(organ)
    ]
    table = pd.DataFrame(rows, columns=["gene", "name", "tissue"])
    meant = table["name"].map({name: HIERARCHY.type_named(name) for name in set(table["name"])})
    table["weight"] = MAX_WEIGHT / meant.groupby(table["gene"]).transform("nunique").clip(lower=1)
    return tabulate(table, path, source="10x panel", release=release, organ=organ, symbols=symbols)


def _column(frame: pd.DataFrame, names: tuple[str, ...], path: Path | str) -> str:
    if found := [name for name in names if name in frame]:
        return found[0]
    require_columns(frame, path, PANEL_10X, names[:1])
    return names[0]


def _pairs(listed: str, places: str, path: Path | str, gene: str) -> list[tuple[str, str]]:
    """Split an annotation into pairs of cell type and tissue, the tissue "" where there is none.

    The tissue is in front ("Kidney - Podocyte"), or in a column of its own with as many entries as there are cell types.
    """
    names = [name.strip() for name in _SEPARATOR.split(listed) if name.strip()]
    if not places:
        halves = [name.rpartition(" - ") for name in names]
        return [(name.strip(), tissue.strip()) for tissue, _, name in halves]
    tissues = [tissue.strip() for tissue in places.split(";")]
    if len(tissues) != len(names):
        problem = f"{gene} has {len(tissues)} tissues and {len(names)} cell types"
        raise UserError(path, "Tissues", problem, f"List one tissue for each cell type. {PANEL_10X.remedy}")
    return list(zip(names, tissues, strict=True))
