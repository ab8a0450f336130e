"""Counts of an AnnData file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy import sparse

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.tables.count_table import USE_COUNTS, CountTable, first_wrong, name_features
from nuclass_pipeline.data.tables.places import find_places, places_um
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, first_line, open_h5
from nuclass_pipeline.io.cell_columns import AS_H5AD, ids_of
from nuclass_pipeline.vocabulary import looks_like

COUNTS = (("layers/counts", "var"), ("X", "var"), ("raw/X", "raw/var"))
"""Where the counts may be, with the table of their genes; the first that holds counts is read. X may be binary beside a layer of counts."""
SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "symbol", "feature_name", "gene_name", "gene_names", "gene_short_name", "name")
GENE_ID_COLUMNS = ("gene_ids", "gene_id", "id", "ensembl_id")
KIND_COLUMN = "feature_types"
"""Not `feature_type`, which holds the biotype in CELLxGENE."""


def read_annotated(path: Path) -> CountTable:
    """Read the counts of an AnnData file: of `layers["counts"]`, `X` or `raw`; the places of `obsm["spatial"]` or of columns of `obs`.

    Raises
    ------
    UserError
        If the file is broken, or none of them holds counts.
    """
    with open_h5(path, AS_H5AD) as file:
        try:
            parts = {name: read_elem(file[name]) for name in ("obs", "obsm/spatial") if name in file}
            place, counts, var = _find_counts(path, _parts_of(file))
            features = _features(var)
        except READ_ERRORS as error:
            raise UserError(path, "file", f"not a readable AnnData file ({first_line(error)})", AS_H5AD) from error
    obs = parts.get("obs")
    if obs is None or len(obs) != counts.shape[0]:
        raise UserError(path, "obs", f"it is missing, or has not one row for each of {counts.shape[0]} cells", AS_H5AD)
    ids, warnings = ids_of(obs), _warn_of(place)
    if ids != [str(name).strip() for name in obs.index]:
        warnings.append(
            f"cells have the ids of a column of obs, such as {ids[0]!r}, not the names of its rows, such as {str(obs.index[0])!r}"
        )
    xy_um = _places(path, obs, parts.get("obsm/spatial"))
    return CountTable(path, counts, np.array(ids, object), features, xy_um, warnings=warnings)


def read_in_memory(cells: Any) -> CountTable:
    """Return the counts of an AnnData object, without coordinates; cells keep the names of their rows. See `read_annotated`."""
    cells, path = cells.to_memory() if cells.isbacked else cells, Path("adata")
    parts = [("layers/counts", cells.layers.get("counts"), cells.var), ("X", cells.X, cells.var)]
    parts += [("raw/X", cells.raw.X, cells.raw.var)] if cells.raw is not None else []
    place, counts, var = _find_counts(path, [part for part in parts if part[1] is not None])
    return CountTable(path, counts, cells.obs_names.astype(str).to_numpy(object), _features(var), warnings=_warn_of(place))


def _warn_of(place: str) -> list[str]:
    return [] if place == "X" else [f"the counts are those of {place}, not of X"]


def _find_counts(path: Path, parts: Iterable[tuple[str, Any, pd.DataFrame]]) -> tuple[str, sparse.csr_matrix, pd.DataFrame]:
    """Return the first of some matrices that holds counts: where it is, its values, and the table of its genes."""
    wrong = []
    for place, values, genes in parts:
        counts = sparse.csr_matrix(values)
        found = first_wrong(counts.data)
        if not found and (counts.data.any() or not all(counts.shape)):
            return place, counts, genes
        wrong.append(f"{place} holds {found}, which is not a count" if found else f"{place} holds zeros alone")
    raise UserError(path, "X", f"no counts in layers['counts'], X or raw: {'; '.join(wrong) or 'all three are missing'}", USE_COUNTS)


def _parts_of(file: Any) -> Iterator[tuple[str, Any, pd.DataFrame]]:
    # One by one, because they may be large, and the first is usually the one.
    for place, genes in COUNTS:
        if place in file and genes in file:
            yield place, read_elem(file[place]), read_elem(file[genes])


def _features(var: pd.DataFrame) -> pd.DataFrame:
    names = var.index.astype(str)
    symbols, ids = (next((var[name] for name in known if name in var), None) for known in (SYMBOL_COLUMNS, GENE_ID_COLUMNS))
    kinds = var[KIND_COLUMN].astype(object).where(var[KIND_COLUMN].notna(), "") if KIND_COLUMN in var else None
    if symbols is not None and looks_like(names) == "ensembl":
        texts = pd.Series(symbols, index=var.index).astype(object)
        return name_features(np.where(texts.notna(), texts, names), names, kinds)
    return name_features(names, ids, kinds)


def _places(path: Path, obs: pd.DataFrame, spatial: Any) -> Floats | None:
    if spatial is not None:
        xy = np.asarray(spatial)
        if xy.dtype.kind not in "iuf" or xy.ndim != 2 or xy.shape[1] < 2:
            problem = f"it is an array of {xy.dtype} of the shape {xy.shape}"
            raise UserError(path, "obsm['spatial']", problem, "Store x and y in two columns, µm, or remove it.")
        xy = xy[:, :2].astype(np.float64)
        if not np.isfinite(xy).all():
            row = int(np.flatnonzero(~np.isfinite(xy).all(axis=1))[0])
            raise UserError(path, "obsm['spatial']", f"cell {obs.index[row]!r} has no coordinates", "Fill them in, or remove the cell.")
        return xy
    columns = find_places(obs)
    return places_um(path, obs, columns) if columns else None
