"""Names of genes in a matrix: symbols in place of Ensembl ids where the bundle has them, and one column per name."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.data.xenium.matrix import GENE, Matrix
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, read_json
from nuclass_pipeline.vocabulary import ENSEMBL_ID, GENE_NAME_STYLES, looks_like

PANEL_FILE = "gene_panel.json"
_DATE = re.compile(r"\d{1,2}-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)|\d{4}-\d{2}-\d{2}.*", re.IGNORECASE)


def name_genes(matrix: Matrix, bundle: Path) -> tuple[Matrix, list[str]]:
    """Return the matrix with a symbol for each gene that the bundle names by its Ensembl id, and genes of one name summed.

    The symbol is the id of the feature, where names and ids are exchanged, or else that of `gene_panel.json`.

    Parameters
    ----------
    matrix
        Counts of a bundle.
    bundle
        Folder of the bundle.

    Returns
    -------
    matrix, warnings
        The matrix, and what was changed or is unusual about the names.
    """
    features, warnings = _with_symbols(matrix.features, bundle)
    matrix, repeated = _sum_equal_names(replace(matrix, features=features))
    names = matrix.features.loc[matrix.features["kind"] == GENE, "name"]
    warnings += repeated
    if (style := looks_like(names)) in GENE_NAME_STYLES:
        # Of any table, because the reading of a slide does not know whose markers will label it.
        remedy = "; only a marker table with such names can label its cells"
        warnings.append(f"the gene names look like {GENE_NAME_STYLES[style]}, such as {names.iloc[0]}{remedy}")
    if len(dates := names[[bool(_DATE.fullmatch(name)) for name in names]]):
        warnings.append(f"{len(dates)} gene names are dates, such as {dates.iloc[0]}: a spreadsheet has changed them")
    return matrix, warnings


def _with_symbols(features: pd.DataFrame, bundle: Path) -> tuple[pd.DataFrame, list[str]]:
    by_id = (features["kind"] == GENE).to_numpy() & _are_ensembl(features["name"])
    if not by_id.any():
        return features, []
    exchanged = by_id & ~_are_ensembl(features["id"]) & (features["id"] != "").to_numpy()
    panel = read_panel(bundle / PANEL_FILE) if (by_id & ~exchanged).any() else {}
    stem = features["name"].str.partition(".")[0]
    symbols = features["id"].where(exchanged, stem.map(panel))
    found = by_id & symbols.notna().to_numpy()
    named = features.assign(name=symbols.where(found, features["name"]), id=features["name"].where(found, features["id"]))
    n = int(found.sum())
    return named, [f"{n} genes are named by Ensembl ids; their symbols are those of the bundle"] if n else []


def _are_ensembl(names: pd.Series) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.array([bool(ENSEMBL_ID.fullmatch(name)) for name in names], dtype=bool)


def read_panel(path: Path) -> dict[str, str]:
    """Read the symbols of `gene_panel.json` by Ensembl id; none where there is no such file, or it is of an unknown layout."""
    if not path.is_file():
        return {}
    try:
        genes = [target["type"]["data"] for target in read_json(path)["payload"]["targets"]]
        return {str(gene["id"]).partition(".")[0]: str(gene["name"]) for gene in genes if gene.get("id") and gene.get("name")}
    except (UserError, *READ_ERRORS):
        return {}


def _sum_equal_names(matrix: Matrix) -> tuple[Matrix, list[str]]:
    """Sum the columns of genes that share a name, because all later stages choose genes by name."""
    genes = (matrix.features["kind"] == GENE).to_numpy()
    # Controls get names of their own, because they are never joined with a gene.
    keys = matrix.features["name"].where(genes, "\0" + matrix.features.index.astype(str))
    if not keys.duplicated().any():
        return matrix, []
    columns, names = pd.factorize(keys)
    joined = sparse.csr_matrix((np.ones(len(keys), dtype=np.int64), (np.arange(len(keys)), columns)), shape=(len(keys), len(names)))
    first = matrix.features[~keys.duplicated().to_numpy()]
    ids = matrix.features["id"].groupby(columns).agg(";".join)
    twice = keys[keys.duplicated()].unique().tolist()
    counts = sparse.csr_matrix(matrix.counts @ joined)
    features = first.assign(id=ids.to_numpy()).reset_index(drop=True)
    return replace(matrix, counts=counts, features=features), [f"{len(twice)} gene names occur twice and are summed: {_some(twice)}"]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def genes_by_any_name(features: pd.DataFrame) -> Mapping[str, str]:
    """Return name or id of each gene → its name, because transcripts may name a gene by either."""
    genes = features[features["kind"] == GENE]
    ids = {part: name for both, name in zip(genes["id"], genes["name"], strict=True) for part in str(both).split(";") if part}
    return ids | {name: name for name in genes["name"]}
