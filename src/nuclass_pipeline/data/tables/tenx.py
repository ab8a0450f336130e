"""Counts of a 10x matrix: a folder with `matrix.mtx`, or an HDF5 file."""

from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.io
from scipy import sparse

from nuclass_pipeline.data.tables.count_table import CountTable, name_features
from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io import READ_ERRORS, open_h5

COPY_10X = "Copy the matrix again."
FEATURES, BARCODES, MATRIX = ("features.tsv", "genes.tsv"), ("barcodes.tsv",), ("matrix.mtx",)


def find_part(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the file of a matrix folder that has one of these names, gzipped or not."""
    return next((path for name in names for end in ("", ".gz") if (path := folder / f"{name}{end}").is_file()), None)


def read_matrix_folder(folder: Path) -> CountTable:
    """Read `matrix.mtx`, `features.tsv` or `genes.tsv`, and `barcodes.tsv`, each gzipped or not; they hold (features, cells).

    Raises
    ------
    UserError
        If a file is missing or broken, or they contradict each other.
    """
    # Not by scanpy, because it takes either all files gzipped or, with genes.tsv, none.
    paths = {names[0]: find_part(folder, names) for names in (MATRIX, FEATURES, BARCODES)}
    if missing := [name for name, path in paths.items() if path is None]:
        raise UserError(folder, missing[0], "no such file, gzipped or not", "Use the whole folder of the matrix.")
    matrix, features, barcodes = (path for path in paths.values() if path is not None)
    try:
        counts = sparse.csr_matrix(scipy.io.mmread(matrix).T)
        genes = pd.read_csv(features, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
        cells = pd.read_csv(barcodes, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)[0]
    except READ_ERRORS as error:
        raise UserError(folder, "file", f"the matrix cannot be read ({first_line(error)})", COPY_10X) from None
    for path, found, wanted in ((features, len(genes), counts.shape[1]), (barcodes, len(cells), counts.shape[0])):
        if found != wanted:
            raise UserError(path, "rows", f"there are {found}, but {matrix.name} has {wanted}", "Use the files of one matrix.")
    named = genes[1] if 1 in genes else genes[0]
    return CountTable(folder, counts, cells.to_numpy(object), name_features(named, genes[0], genes.get(2)))


def read_matrix_h5(path: Path) -> CountTable:
    """Read the HDF5 file of a 10x matrix.

    Raises
    ------
    UserError
        If it is broken or of another layout.
    """
    # Inspected first, because HDF5 files can refer to other files.
    with open_h5(path, COPY_10X) as file:
        is_10x = "matrix" in file or any("barcodes" in group for group in file.values() if hasattr(group, "keys"))
    if not is_10x:
        raise UserError(path, "matrix", "the file has none, so it is not a 10x matrix", "Use cell_feature_matrix.h5, or an .h5ad file.")
    try:
        cells = sc.read_10x_h5(path, gex_only=False)
    except READ_ERRORS as error:
        raise UserError(path, "file", f"the matrix cannot be read ({first_line(error)})", COPY_10X) from error
    features = name_features(cells.var_names, cells.var.get("gene_ids"), cells.var.get("feature_types"))
    return CountTable(path, sparse.csr_matrix(cells.X), np.asarray(cells.obs_names, object), features)
