"""The cell–feature matrix in each of the encodings a bundle may hold: HDF5, matrix market in a tar, Zarr in a zip."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.io
import zarr
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS


@dataclass(frozen=True)
class Matrix:
    """Counts (cells, features) in CSR, the cell ids, and features with columns id, name and kind."""

    counts: sparse.csr_matrix
    cell_ids: NDArray[np.str_]
    features: pd.DataFrame


def read_matrix(bundle: Path) -> Matrix:
    """Read the first encoding found in `bundle`.

    Raises
    ------
    UserError
        If there is none, it is broken, or it holds something else than counts.
    """
    path = matrix_file(bundle)
    try:
        matrix = MATRIX_READERS[path.name](path)
    except READ_ERRORS as error:
        problem = f"not a readable cell–feature matrix ({str(error) or type(error).__name__})"
        raise UserError(path, "file", problem, "Copy the file again.") from error
    _check(path, matrix)
    return matrix


def _check(path: Path, matrix: Matrix) -> None:
    cells, features = matrix.counts.shape
    for field, found, wanted in (("barcodes", len(matrix.cell_ids), cells), ("features", len(matrix.features), features)):
        if found != wanted:
            raise UserError(path, field, f"are {found}, and the counts are of {wanted}", "Copy the file again.")
    values = matrix.counts.data
    if values.dtype.kind not in "biuf":
        raise UserError(path, "counts", f"are {values.dtype}", "Use the bundle's own matrix.")
    wrong = values[~np.isfinite(values) | (values < 0) | (values != np.trunc(values))]
    if len(wrong):
        raise UserError(path, "counts", f"{wrong[0]} is no count; {len(wrong)} of {len(values)} are none", "Use the bundle's own matrix.")
    empty = (matrix.features.isna().any(axis=1) | (matrix.features[["name", "kind"]] == "").any(axis=1)).to_numpy()
    if empty.any():
        raise UserError(path, "features", f"id, name or type is empty in row {int(np.argmax(empty)) + 1}", "Copy the file again.")


def matrix_file(bundle: Path) -> Path:
    """Return the path of the encoding that is read."""
    path = next((bundle / name for name in MATRIX_READERS if (bundle / name).exists()), None)
    if path is None:
        raise UserError(
            bundle, "cell_feature_matrix.h5", f"none of {', '.join(MATRIX_READERS)} is there", "Is this the output folder of a Xenium run?"
        )
    return path


def read_h5(path: Path) -> Matrix:
    """Read the 10x HDF5 layout, which is CSC of (features, cells) and so CSR of (cells, features)."""
    with h5py.File(path) as file:
        group = file["matrix"]
        features, cells = (int(n) for n in group["shape"][:])
        counts = _csr(group["data"][:], group["indices"][:], group["indptr"][:], (cells, features))
        names = {column: group[f"features/{key}"].asstr()[:] for column, key in (("id", "id"), ("name", "name"), ("kind", "feature_type"))}
        return Matrix(counts, group["barcodes"].asstr()[:].astype(str), pd.DataFrame(names))


def _csr(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]) -> sparse.csr_matrix:
    """Build a CSR matrix; without the full check an index that is too large would be read beyond the end of memory."""
    if indptr[-1:].tolist() != [len(data)]:
        raise ValueError(f"indptr ends at {indptr[-1:]}, and data has {len(data)} values")
    counts = sparse.csr_matrix((data, indices, indptr), shape=shape)
    counts.check_format(full_check=True)
    return counts


def read_mtx(path: Path) -> Matrix:
    """Read `matrix.mtx.gz`, `features.tsv.gz` and `barcodes.tsv.gz` from a folder or a tar."""
    wanted = ("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz")
    if path.is_dir():
        members = {name: (path / name).read_bytes() for name in wanted}
    else:
        with tarfile.open(path) as archive:
            members = {}
            for member in archive:
                if (name := Path(member.name).name) in members:
                    raise ValueError(f"{name} is in it twice")
                if name in wanted:
                    members[name] = _extract(archive, member)
    features, barcodes = (gzip.decompress(members[name]) for name in wanted[1:])
    table = pd.DataFrame([line.split("\t")[:3] for line in features.decode().splitlines()], columns=["id", "name", "kind"])
    stream = io.BytesIO(gzip.decompress(members[wanted[0]]))
    try:
        matrix = sparse.csr_matrix(scipy.io.mmread(stream).T)
    except READ_ERRORS as error:
        # The parser, which the traceback keeps, seeks in the stream when it is freed, and a closed stream then ends the interpreter.
        raise ValueError(str(error)) from error.with_traceback(None)
    return Matrix(matrix, np.array(barcodes.decode().split()), table)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(f"{member.name} is no file")
    return stream.read()


@contextmanager
def open_zarr(path: Path) -> Iterator[Any]:
    """Open the group in a Zarr in a zip."""
    zipfile.ZipFile(path).close()  # A store on a broken zip fails when it is closed, and that error would hide the first.
    with zarr.storage.ZipStore(path, mode="r") as store:
        yield zarr.open_group(store, mode="r")


def whole_array(group: Any, name: str) -> NDArray[Any]:
    """Return an array of a Zarr group; a chunk that is missing is an error, and would else be read as zeros."""
    array = group[name]
    if array.nchunks_initialized < array.nchunks:
        raise ValueError(f"{name} has {array.nchunks_initialized} of {array.nchunks} chunks")
    return np.asarray(array)


def read_zarr(path: Path) -> Matrix:
    """Read the Explorer's Zarr, CSR of (features, cells), without its closing sums ("Total transcripts", of a kind aggregate_…)."""
    with open_zarr(path) as root:
        group = root["cell_features"]
        names: dict[str, Any] = dict(group.attrs)
        data, indices, indptr, ids = (whole_array(group, name) for name in ("data", "indices", "indptr", "cell_id"))
        counts = _csr(data, indices, indptr, (len(names["feature_keys"]), len(ids)))
    table = pd.DataFrame(
        {"id": names["feature_ids"], "name": names["feature_keys"], "kind": [KINDS.get(k, k) for k in names["feature_types"]]}
    )
    kept = ~table["kind"].str.startswith("aggregate_", na=False).to_numpy(dtype=bool)
    return Matrix(sparse.csr_matrix(counts[kept].T), decode_ids(ids), table[kept].reset_index(drop=True))


MATRIX_READERS = {
    "cell_feature_matrix.h5": read_h5,
    "cell_feature_matrix": read_mtx,
    "cell_feature_matrix.tar.gz": read_mtx,
    "cell_feature_matrix.zarr.zip": read_zarr,
}
"""Encodings in the order of preference."""
KINDS = {
    "gene": "Gene Expression",
    "negative_control_probe": "Negative Control Probe",
    "negative_control_codeword": "Negative Control Codeword",
    "unassigned_codeword": "Unassigned Codeword",
    "deprecated_codeword": "Deprecated Codeword",
    "genomic_control": "Genomic Control",
}
"""Names of feature types in the Zarr → in the other encodings."""
COUNTERS = {
    "transcript_counts": ("Gene Expression",),
    "control_probe_counts": ("Negative Control Probe",),
    "genomic_control_counts": ("Genomic Control",),
    "control_codeword_counts": ("Negative Control Codeword",),
    "unassigned_codeword_counts": ("Unassigned Codeword", "Blank Codeword"),
    "deprecated_codeword_counts": ("Deprecated Codeword",),
}
"""Columns of the cell table → feature types that they count. Release 1.0 calls unassigned codewords blank."""


def count_kinds(matrix: Matrix) -> pd.DataFrame:
    """Sum each cell's counts by the columns of `COUNTERS`; rows in the order of the matrix."""
    kinds = matrix.features["kind"]
    members = np.column_stack([kinds.isin(counted).to_numpy(dtype=np.int64) for counted in COUNTERS.values()])
    return pd.DataFrame(matrix.counts @ members, columns=list(COUNTERS)).astype(np.int64)


def decode_ids(ids: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.str_]:
    """Return the Zarr's cell ids as text.

    Two numbers make one id: the first as eight hexadecimal digits written a–p, the second after a hyphen. Old releases have one number.
    """
    if ids.ndim == 1:
        return ids.astype(str)
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    return np.array([f"{number:08x}".translate(letters) + f"-{suffix}" for number, suffix in ids.tolist()])
