"""Stage `read_tables`: cells and counts from files of any kind but a Xenium bundle."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.data.tables.annotated import read_annotated
from nuclass_pipeline.data.tables.count_table import CONTROL, NO_PLACES, CountTable, check_counts, place_warnings
from nuclass_pipeline.data.tables.flat import COSMX_COUNTS, MERSCOPE_COUNTS, add_places, read_cosmx, read_csv_counts, read_merscope
from nuclass_pipeline.data.tables.places import CELL_FILES
from nuclass_pipeline.data.tables.tenx import MATRIX, find_part, read_matrix_folder, read_matrix_h5
from nuclass_pipeline.data.xenium.gene_names import name_genes
from nuclass_pipeline.data.xenium.matrix import GENE, Matrix
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require, whole_files, write_table
from nuclass_pipeline.schemas import ANY_CELLS

TEXT_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")


NO_GENES = {
    *("antibody capture", "protein expression", "crispr guide capture", "antigen capture", "multiplexing capture", "custom", "peaks"),
    *("negative control probe", "negative control codeword", "unassigned codeword", "deprecated codeword", "blank codeword"),
    *("genomic control", "vdj-t", "vdj-b"),
}
"""Types of features of 10x that are no genes, in small letters. Other programs have words of their own for genes."""


def read_tables(*, source: Path, places: Path | None, cells: Path, counts: Path) -> None:
    """Read cells and counts, as `read_cells` does from a bundle.

    Parameters
    ----------
    source
        See `reader_of`.
    places
        Table of cells with coordinates, in place of those of `source`; else that beside a 10x matrix, if there is one.
    cells
        Table `ANY_CELLS` to write.
    counts
        AnnData file to write, as by `read_cells`; without coordinates it has no `obsm["spatial"]`.

    Raises
    ------
    UserError
        If a file is missing or broken, or its values are not counts.
    """
    table = reader_of(source)(source)
    if places := places or (None if table.xy_um is not None else _beside(source)):
        table = add_places(table, places)
    write_cells(table, cells, counts)


def write_cells(table: CountTable, cells: Path, counts: Path) -> None:
    """Check a table of counts, and write the two files of `read_tables`."""
    check_counts(table)
    table, controls = _without_controls(table)
    named, about_genes = name_genes(Matrix(table.path, table.counts, table.cell_ids.astype(str), table.features), table.path)
    table = replace(table, counts=sparse.csr_matrix(named.counts), features=named.features)
    about_places = [NO_PLACES] if table.xy_um is None else place_warnings(table.path, table.xy_um)
    with whole_files(cells, counts) as (cells_partial, counts_partial):
        write_table(_cells(table, controls), cells_partial, ANY_CELLS, [*table.warnings, *about_genes, *about_places])
        _annotated(table).write_h5ad(counts_partial, compression="lzf")


def reader_of(source: Path) -> Callable[[Path], CountTable]:
    """Return the reader of an input: an AnnData file, a 10x matrix, a table of counts, or a folder of CosMx or MERSCOPE.

    Raises
    ------
    UserError
        If it is none of them.
    """
    name = require(source, "Check the path.").name.lower()
    if source.is_dir():
        readers = ((MATRIX, read_matrix_folder), ((COSMX_COUNTS,), read_cosmx), ((f"{MERSCOPE_COUNTS}*",), read_merscope))
        for patterns, reader in readers:
            if find_part(source, patterns) or any(any(source.glob(pattern)) for pattern in patterns):
                return reader
        files = f"{MATRIX[0]}, {COSMX_COUNTS[:-1]} (CosMx), {MERSCOPE_COUNTS} (MERSCOPE)"
        problem = f"holds neither experiment.xenium nor one of {files}"
        raise UserError(source, "input", problem, "Name the folder that holds one of these, an archive of a bundle, or a table.")
    if name.endswith((".h5ad", ".h5")):
        return read_annotated if name.endswith(".h5ad") else read_matrix_h5
    if name.endswith(TEXT_ENDINGS):
        if "_exprmat_file" in name:
            return read_cosmx
        return read_merscope if name.startswith(MERSCOPE_COUNTS) else read_csv_counts
    problem = f"is a file of none of the kinds {', '.join(('.h5ad', '.h5', *TEXT_ENDINGS[:2]))}, and not an archive of a bundle"
    raise UserError(source, "input", problem, "Save the counts as one of these.")


def _beside(source: Path) -> Path | None:
    """Return the table of cells beside a 10x matrix; the folder of a Xenium matrix lies in that of its cells."""
    if source.is_file() and not source.name.lower().endswith(".h5"):
        return None
    folders = (source, source.parent) if source.is_dir() else (source.parent,)
    return next((path for folder in folders for name in CELL_FILES if (path := folder / name).is_file()), None)


def _without_controls(table: CountTable) -> tuple[CountTable, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return the genes alone, and the controls counted in each cell."""
    kinds, names = table.features["kind"], table.features["name"]
    is_control = (kinds.str.casefold().isin(NO_GENES) | names.map(lambda name: bool(CONTROL.fullmatch(name)))).to_numpy(bool)
    if is_control.all():
        raise UserError(table.path, "features", "none of them is a gene", f"Genes are of the type {GENE}.")
    left = names[is_control]
    shown = ", ".join(left[:3]) + (" …" if len(left) > 3 else "")
    warnings = [*table.warnings, f"{len(left)} features that are not genes are left out: {shown}"] if len(left) else table.warnings
    sums = np.asarray(table.counts[:, is_control].sum(axis=1)).ravel().astype(np.int64)
    genes = table.features[~is_control].reset_index(drop=True).assign(kind=GENE)
    return replace(table, counts=table.counts[:, ~is_control], features=genes, warnings=warnings), sums


def _cells(table: CountTable, controls: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pd.DataFrame:
    empty = np.full(len(table.cell_ids), np.nan)
    xy_um = np.column_stack([empty, empty]) if table.xy_um is None else table.xy_um
    return pd.DataFrame(
        {
            "cell_id": table.cell_ids.astype(object),
            "x_um": xy_um[:, 0],
            "y_um": xy_um[:, 1],
            "cell_area_um2": table.areas.get("cell_area_um2", empty),
            "nucleus_area_um2": empty,
            "transcripts": np.asarray(table.counts.sum(axis=1)).ravel().astype(np.int64),
            "nucleus_transcripts": empty,
            "controls": controls,
        }
    )


def _annotated(table: CountTable) -> ad.AnnData:
    return ad.AnnData(
        X=table.counts.astype(np.float32),
        obs=pd.DataFrame(index=pd.Index(table.cell_ids.astype(str), name="cell_id")),
        var=table.features[["name", "id"]].set_index("name"),
        obsm={} if table.xy_um is None else {"spatial": table.xy_um},
    )
