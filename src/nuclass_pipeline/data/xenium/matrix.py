"""The cell–feature matrix in each of the encodings it may have: HDF5, matrix market in a tar, Zarr in a zip."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io
import zarr
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.data.xenium.columns import check_names, refuse_broken
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, open_h5, read_texts

COPY_MATRIX = "Copy the bundle's own matrix again."
GENE = "Gene Expression"
"""Type of the features that are genes."""
# Because counts are stored as 32-bit floats, which hold all whole numbers up to it; the highest in a real bundle is 147.
MAX_ENTRY = 2**24
"""Highest count of one feature in one cell."""


@dataclass(frozen=True)
class Matrix:
    """The counts of a bundle.

    Attributes
    ----------
    path
        File or folder that it was read from, in the folder of the bundle.
    counts
        Counts (cells, features) in CSR.
    cell_ids
        Ids (cells,) as text.
    features
        One row per feature, with columns id, name and kind (the feature type, as "Gene Expression").
    """

    path: Path
    counts: sparse.csr_matrix
    cell_ids: NDArray[np.str_]
    features: pd.DataFrame


def read_matrix(bundle: Path) -> Matrix:
    """Read the first encoding found in `bundle`.

    Raises
    ------
    UserError
        If there is none, it is broken, or its values are not counts.
    """
    path = matrix_file(bundle)
    with refuse_broken(path, "cell–feature matrix", COPY_MATRIX):
        matrix = MATRIX_READERS[path.name](path)
    _check(matrix)
    return matrix


def _check(matrix: Matrix) -> None:
    cells, features = matrix.counts.shape
    for field, found, wanted in (("barcodes", len(matrix.cell_ids), cells), ("features", len(matrix.features), features)):
        if found != wanted:
            raise UserError(matrix.path, field, f"{found} found, but the counts have {wanted}", COPY_MATRIX)
    check_names(matrix.path, "barcodes", matrix.cell_ids.tolist(), COPY_MATRIX)
    values = matrix.counts.data
    if values.dtype.kind not in "biuf":
        raise UserError(matrix.path, "counts", f"are {values.dtype}, not numbers", COPY_MATRIX)
    # Checked by value, because normalised or logged counts are also numbers, and other programs write them into this layout.
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0) | (values != np.trunc(values)) | (values > MAX_ENTRY))
    if len(wrong):
        problem = f"{values[wrong[0]]} is not a count; {len(wrong)} of {len(values)} values are not"
        raise UserError(matrix.path, "counts", f"{problem}, the first in cell {_cell_of(matrix, wrong[0])}", COPY_MATRIX)
    if not values.any():
        raise UserError(matrix.path, "counts", "are all zero", COPY_MATRIX)
    _check_repeats(matrix)
    _check_features(matrix)


def _check_repeats(matrix: Matrix) -> None:
    # Sorted first, because the order in a row has no meaning, and a feature that occurs twice in a row has.
    matrix.counts.sort_indices()
    if matrix.counts.has_canonical_format:
        return
    rows = np.repeat(np.arange(len(matrix.cell_ids)), np.diff(matrix.counts.indptr))
    entry = int(np.argmax((np.diff(rows) == 0) & (np.diff(matrix.counts.indices) == 0)))
    name = matrix.features["name"].iloc[matrix.counts.indices[entry]]
    raise UserError(matrix.path, "counts", f"cell {matrix.cell_ids[rows[entry]]} has two counts of {name}", COPY_MATRIX)


def _cell_of(matrix: Matrix, entry: int) -> str:
    return str(matrix.cell_ids[np.searchsorted(matrix.counts.indptr, entry, side="right") - 1])


def _check_features(matrix: Matrix) -> None:
    empty = (matrix.features.isna().any(axis=1) | (matrix.features[["name", "kind"]] == "").any(axis=1)).to_numpy()
    if empty.any():
        raise UserError(matrix.path, "features", f"id, name or type is empty in row {int(np.argmax(empty)) + 1}", COPY_MATRIX)
    for column in ("name", "id"):
        check_names(matrix.path, "features", matrix.features[column].map(str), COPY_MATRIX)
    ids = matrix.features.loc[matrix.features["id"] != "", "id"]
    if ids.duplicated().any():
        raise UserError(matrix.path, "features", f"id {ids[ids.duplicated()].iloc[0]!r} occurs twice", COPY_MATRIX)


def matrix_file(bundle: Path) -> Path:
    """Return the path of the encoding that is read."""
    path = next((bundle / name for name in MATRIX_READERS if (bundle / name).is_file() or (bundle / name).is_dir()), None)
    if path is None:
        remedy = "Use the whole output folder of a Xenium run."
        raise UserError(bundle, "cell_feature_matrix.h5", f"none of {', '.join(MATRIX_READERS)} is there", remedy)
    return path


def read_h5(path: Path) -> Matrix:
    """Read the 10x HDF5 layout, which is CSC of (features, cells) and so CSR of (cells, features)."""
    with open_h5(path, COPY_MATRIX) as file:
        group = file["matrix"]
        features, cells = (int(n) for n in group["shape"][:])
        counts = _csr(group["data"][:], group["indices"][:], group["indptr"][:], (cells, features))
        names = {column: read_texts(group[f"features/{key}"]) for column, key in (("id", "id"), ("name", "name"), ("kind", "feature_type"))}
        return Matrix(path, counts, read_texts(group["barcodes"]).astype(str), pd.DataFrame(names))


def _csr(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]) -> sparse.csr_matrix:
    """Build a CSR matrix (rows, columns) from its three arrays; broken ones are a `ValueError`."""
    if indptr[-1:].tolist() != [len(data)]:
        raise ValueError(f"indptr ends at {indptr[-1:]}, and data has {len(data)} values")
    counts = sparse.csr_matrix((data, indices, indptr), shape=shape)
    # In full, because scipy would follow an index that is too large beyond the end of memory.
    counts.check_format(full_check=True)
    return counts


def read_mtx(path: Path) -> Matrix:
    """Read `matrix.mtx.gz`, `features.tsv.gz` and `barcodes.tsv.gz` from a folder or a tar; they hold (features, cells)."""
    wanted = ("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz")
    if path.is_dir():
        members = {name: (path / name).read_bytes() for name in wanted}
    else:
        with tarfile.open(path) as archive:
            members = {}
            for member in archive:
                # By its last name alone, because members are read and never written, so a name that leads outside does no harm.
                if (name := Path(member.name).name) in members:
                    raise ValueError(f"{name} occurs twice in it")
                if name in wanted:
                    members[name] = _extract(archive, member)
    features, barcodes = (gzip.decompress(members[name]) for name in wanted[1:])
    table = pd.DataFrame([line.split("\t")[:3] for line in features.decode().splitlines()], columns=["id", "name", "kind"])
    stream = io.BytesIO(gzip.decompress(members[wanted[0]]))
    try:
        matrix = _from_entries(sparse.coo_matrix(scipy.io.mmread(stream).T))
    except READ_ERRORS as error:
        # Without the traceback, because it keeps the parser, which seeks in the stream when it is freed: if the stream is closed by
        # then, the interpreter crashes.
        raise ValueError(str(error)) from error.with_traceback(None)
    return Matrix(path, matrix, np.array(barcodes.decode().splitlines()), table)


def _from_entries(entries: sparse.coo_matrix) -> sparse.csr_matrix:
    # Not by scipy's own conversion, because it sums entries of one place, which are an error here.
    order = np.lexsort((entries.col, entries.row))
    indptr = np.append(0, np.cumsum(np.bincount(entries.row, minlength=entries.shape[0])))
    return sparse.csr_matrix((entries.data[order], entries.col[order], indptr), shape=entries.shape)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(f"{member.name} is not a file")
    return stream.read()


@contextmanager
def open_zarr(path: Path) -> Iterator[Any]:
    """Open the root group of a Zarr in a zip."""
    # Opened as a zip first, because a store on a broken zip fails again when it is closed, and that error would hide the first.
    zipfile.ZipFile(path).close()
    with zarr.storage.ZipStore(path, mode="r") as store:
        yield zarr.open_group(store, mode="r")


def whole_array(group: Any, name: str) -> NDArray[Any]:
    """Return an array of a Zarr group; a missing chunk is a `ValueError`."""
    array = group[name]
    # Counted, because Zarr reads a missing chunk as zeros.
    if array.nchunks_initialized < array.nchunks:
        raise ValueError(f"{name} has {array.nchunks_initialized} of {array.nchunks} chunks")
    return np.asarray(array)


def read_zarr(path: Path) -> Matrix:
    """Read the Explorer's Zarr, which is CSR of (features, cells)."""
    with open_zarr(path) as root:
        group = root["cell_features"]
        names: dict[str, Any] = dict(group.attrs)
        data, indices, indptr, ids = (whole_array(group, name) for name in ("data", "indices", "indptr", "cell_id"))
        counts = _csr(data, indices, indptr, (len(names["feature_keys"]), len(ids)))
    table = pd.DataFrame(
        {"id": names["feature_ids"], "name": names["feature_keys"], "kind": [KINDS.get(k, k) for k in names["feature_types"]]}
    )
    # Because release 3.0 appends "Total transcripts", of type aggregate_gene: a sum over all genes that the other encodings lack.
    kept = ~table["kind"].str.startswith("aggregate_", na=False).to_numpy(dtype=bool)
    return Matrix(path, sparse.csr_matrix(counts[kept].T), decode_ids(ids), table[kept].reset_index(drop=True))


MATRIX_READERS = {
    "cell_feature_matrix.h5": read_h5,
    "cell_feature_matrix": read_mtx,
    "cell_feature_matrix.tar.gz": read_mtx,
    "cell_feature_matrix.zarr.zip": read_zarr,
}
"""Encodings in the order of preference."""
KINDS = {
    "gene": GENE,
    "negative_control_probe": "Negative Control Probe",
    "negative_control_codeword": "Negative Control Codeword",
    "unassigned_codeword": "Unassigned Codeword",
    "deprecated_codeword": "Deprecated Codeword",
    "genomic_control": "Genomic Control",
}
"""Names of feature types in the Zarr → in the other encodings."""
COUNTERS = {
    "transcript_counts": (GENE,),
    "control_probe_counts": ("Negative Control Probe",),
    "genomic_control_counts": ("Genomic Control",),
    "control_codeword_counts": ("Negative Control Codeword",),
    "unassigned_codeword_counts": ("Unassigned Codeword", "Blank Codeword"),
    "deprecated_codeword_counts": ("Deprecated Codeword",),
}
"""Columns of the cell table → feature types that they count. Release 1.0 calls unassigned codewords blank."""


def count_kinds(matrix: Matrix) -> pd.DataFrame:
    """Return each cell's counts summed by the columns of `COUNTERS` (cells, counters), in the order of the matrix."""
    kinds = matrix.features["kind"]
    members = np.column_stack([kinds.isin(counted).to_numpy(dtype=np.int64) for counted in COUNTERS.values()])
    return pd.DataFrame(matrix.counts @ members, columns=list(COUNTERS)).astype(np.int64)


def decode_ids(ids: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.str_]:
    """Return the Zarr's cell ids as text (cells,).

    Parameters
    ----------
    ids
        Either (cells,), the integer ids of old releases, or (cells, 2), whose two numbers make one id. The first is written in eight
        hexadecimal digits, a–p for 0–f; the second follows a hyphen. (178650478, 1) is ``akkfpngo-1``.
    """
    if ids.ndim == 1:
        return ids.astype(str)
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    return np.array([f"{number:08x}".translate(letters) + f"-{suffix}" for number, suffix in ids.tolist()])
