"""Xenium bundles: the one place that knows how releases differ.

Release notes that matter here, as seen in real bundles:

* before 1.3 cell ids are integers; later they are strings such as ``aaabckmo-1``, at times stored as bytes;
* before 2.0 every cell has a nucleus; later `nucleus_area` is empty where `nucleus_count` is 0;
* control columns come and go: probes and codewords since 1.0, unassigned since 1.4, deprecated since 2.0, genomic since 3.0.
"""

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from nuclass_pipeline.data.matrix import Matrix, read_matrix
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, read_parquet, require, whole_files, write_table
from nuclass_pipeline.schemas import CELLS

REQUIRED = ("cell_id", "x_centroid", "y_centroid", "transcript_counts")
CONTROLS = (
    "control_probe_counts",
    "genomic_control_counts",
    "control_codeword_counts",
    "unassigned_codeword_counts",
    "deprecated_codeword_counts",
)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read `experiment.xenium`; it must say a pixel size."""
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("pixel_size"), int | float) or record["pixel_size"] <= 0:
        raise UserError(path, "pixel_size", "is missing or no positive number", "Is this the experiment.xenium of the bundle?")
    return dict(record)


def read_cell_table(bundle: Path) -> pd.DataFrame:
    """Read the bundle's own cell table, with string ids, whatever its file is.

    Raises
    ------
    UserError
        If there is no table, a column is missing, an id is repeated or a centroid is not a finite number.
    """
    path = next((bundle / name for name in ("cells.parquet", "cells.csv.gz", "cells.csv") if (bundle / name).is_file()), None)
    if path is None:
        raise UserError(bundle, "cells.parquet", "neither it nor cells.csv.gz is there", "Is this the output folder of a Xenium run?")
    frame = read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    for name in REQUIRED:
        if name not in frame:
            raise UserError(
                path, name, f"the column is missing; found {', '.join(map(str, frame.columns))}", "Use the bundle's own cell table."
            )
    frame["cell_id"] = frame["cell_id"].map(text)
    _check_values(path, frame)
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", "Copy the file again.") from error


def _check_values(path: Path, frame: pd.DataFrame) -> None:
    if frame.empty:
        raise UserError(path, "cell_id", "the table has no cell", "Use a bundle with cells.")
    if frame["cell_id"].duplicated().any():
        raise UserError(
            path, "cell_id", f"{frame.loc[frame['cell_id'].duplicated(), 'cell_id'].iloc[0]!r} occurs twice", "Ids must be unique."
        )
    for name in REQUIRED[1:]:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            found, cell = frame[name].iloc[row], frame["cell_id"].iloc[row]
            raise UserError(path, name, f"{str(found)!r} for cell {cell} is no finite number", "Copy the file again, or drop the cell.")


def text(value: object) -> str:
    """Return an id or name as text; old releases store bytes or integers."""
    return value.decode() if isinstance(value, bytes) else str(value)


def read_cells(*, manifest: Path, cells: Path, counts: Path) -> None:
    """Read a bundle's cells and gene counts.

    Writes `cells.parquet` (schema `CELLS`) and `counts.h5ad`: X (cells, genes) raw counts in CSR, rows in the order of the cells,
    `obsm["spatial"]` centroids in µm.
    """
    read_manifest(manifest)
    bundle = require(manifest).parent
    table = read_cell_table(bundle)
    matrix = read_matrix(bundle)
    with whole_files(cells, counts) as (cells_partial, counts_partial):
        write_table(_standardise(table), cells_partial, CELLS)
        write_counts(matrix, table, bundle, counts_partial)


def _standardise(table: pd.DataFrame) -> pd.DataFrame:
    controls = [name for name in CONTROLS if name in table]
    missing = pd.Series(np.nan, index=table.index)
    return pd.DataFrame(
        {
            "cell_id": table["cell_id"],
            "x_um": table["x_centroid"].astype(np.float64),
            "y_um": table["y_centroid"].astype(np.float64),
            "cell_area_um2": table.get("cell_area", missing).astype(np.float64),
            "nucleus_area_um2": table.get("nucleus_area", missing).astype(np.float64),
            "transcripts": table["transcript_counts"].astype(np.int64),
            "controls": table[controls].sum(axis=1).astype(np.int64),
        }
    )


def write_counts(matrix: Matrix, table: pd.DataFrame, bundle: Path, counts: Path) -> None:
    """Write the genes of `matrix` for the cells of `table`, in the table's order."""
    position = pd.Series(np.arange(len(matrix.cell_ids)), index=matrix.cell_ids)
    if absent := [cell for cell in table["cell_id"] if cell not in position.index][:1]:
        raise UserError(bundle, "cell_feature_matrix", f"cell {absent[0]} of the cell table is not in it", "Use the files of one run.")
    genes = matrix.features["kind"].to_numpy() == "Gene Expression"
    if not genes.any():
        raise UserError(bundle, "cell_feature_matrix", "has no feature of type 'Gene Expression'", "Use the bundle's own matrix.")
    data = anndata.AnnData(
        X=matrix.counts[position[table["cell_id"]].to_numpy()][:, genes].astype(np.float32),
        obs=pd.DataFrame(index=pd.Index(table["cell_id"].to_numpy(dtype=str), name="cell_id")),
        var=matrix.features.loc[genes, ["name", "id"]].set_index("name"),
        obsm={"spatial": table[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)},
    )
    data.var_names_make_unique()
    data.write_h5ad(counts, compression="lzf")
