"""The cell–feature matrix in each of the encodings a bundle may hold: HDF5, matrix market in a tar, Zarr in a zip."""

import gzip
import io
import tarfile
import zipfile
import zlib
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


@dataclass(frozen=True)
class Matrix:
    """Counts (cells, features) in CSR, the cell ids, and features with columns id, name and kind."""

    counts: sparse.csr_matrix
    cell_ids: NDArray[np.str_]
    features: pd.DataFrame


READABLE = (OSError, KeyError, ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def read_matrix(bundle: Path) -> Matrix:
    """Read the first encoding found in `bundle`.

    Raises
    ------
    UserError
        If there is none, or it is broken.
    """
    path = matrix_file(bundle)
    try:
        return READERS[path.name](path)
    except READABLE as error:
        raise UserError(path, "file", f"not a readable cell–feature matrix ({error})", "Copy the file again.") from error


def matrix_file(bundle: Path) -> Path:
    """Return the path of the encoding that is read."""
    path = next((bundle / name for name in READERS if (bundle / name).exists()), None)
    if path is None:
        raise UserError(
            bundle, "cell_feature_matrix.h5", f"none of {', '.join(READERS)} is there", "Is this the output folder of a Xenium run?"
        )
    return path


def read_h5(path: Path) -> Matrix:
    """Read the 10x HDF5 layout, which is CSC of (features, cells) and so CSR of (cells, features)."""
    with h5py.File(path) as file:
        group = file["matrix"]
        features, cells = (int(n) for n in group["shape"][:])
        counts = sparse.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=(cells, features))
        names = {column: group[f"features/{key}"].asstr()[:] for column, key in (("id", "id"), ("name", "name"), ("kind", "feature_type"))}
        return Matrix(counts, group["barcodes"].asstr()[:].astype(str), pd.DataFrame(names))


def read_mtx(path: Path) -> Matrix:
    """Read `matrix.mtx.gz`, `features.tsv.gz` and `barcodes.tsv.gz` from a folder or a tar."""
    wanted = ("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz")
    if path.is_dir():
        members = {name: (path / name).read_bytes() for name in wanted}
    else:
        with tarfile.open(path) as archive:
            members = {Path(member.name).name: _extract(archive, member) for member in archive if Path(member.name).name in wanted}
    features, barcodes = (gzip.decompress(members[name]) for name in wanted[1:])
    table = pd.DataFrame([line.split("\t")[:3] for line in features.decode().splitlines()], columns=["id", "name", "kind"])
    with io.BufferedReader(gzip.open(io.BytesIO(members[wanted[0]]))) as stream:
        matrix = sparse.csr_matrix(scipy.io.mmread(stream).T)
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


def read_zarr(path: Path) -> Matrix:
    """Read the Explorer's Zarr, CSR of (features, cells), without its closing sums ("Total transcripts", of a kind aggregate_…)."""
    with open_zarr(path) as root:
        group = root["cell_features"]
        names: dict[str, Any] = dict(group.attrs)
        ids = np.asarray(group["cell_id"])
        shape = (len(names["feature_keys"]), len(ids))
        counts = sparse.csr_matrix((np.asarray(group["data"]), np.asarray(group["indices"]), np.asarray(group["indptr"])), shape=shape)
    table = pd.DataFrame(
        {"id": names["feature_ids"], "name": names["feature_keys"], "kind": [KINDS.get(k, k) for k in names["feature_types"]]}
    )
    kept = ~table["kind"].str.startswith("aggregate_").to_numpy(dtype=bool)
    return Matrix(sparse.csr_matrix(counts[kept].T), decode_ids(ids), table[kept].reset_index(drop=True))


READERS = {
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
