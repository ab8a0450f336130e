"""The cell–feature matrix in each of the encodings a bundle may hold: HDF5, matrix market in a tar, Zarr in a zip."""

import gzip
import io
import tarfile
import zipfile
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


READABLE = (OSError, KeyError, ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile)


def read_matrix(bundle: Path) -> Matrix:
    """Read the first encoding found in `bundle`.

    Raises
    ------
    UserError
        If there is none, or it is broken.
    """
    readers = {
        "cell_feature_matrix.h5": read_h5,
        "cell_feature_matrix": read_mtx,
        "cell_feature_matrix.tar.gz": read_mtx,
        "cell_feature_matrix.zarr.zip": read_zarr,
    }
    for name, reader in readers.items():
        path = bundle / name
        if path.exists():
            try:
                return reader(path)
            except READABLE as error:
                raise UserError(path, "file", f"not a readable cell–feature matrix ({error})", "Copy the file again.") from error
    raise UserError(
        bundle, "cell_feature_matrix.h5", f"none of {', '.join(readers)} is there", "Is this the output folder of a Xenium run?"
    )


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
    counts, features, barcodes = (gzip.decompress(members[name]) for name in wanted)
    table = pd.DataFrame([line.split("\t")[:3] for line in features.decode().splitlines()], columns=["id", "name", "kind"])
    with io.BytesIO(counts) as stream:
        matrix = sparse.csr_matrix(scipy.io.mmread(stream).T)
    return Matrix(matrix, np.array(barcodes.decode().split()), table)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(f"{member.name} is no file")
    return stream.read()


def read_zarr(path: Path) -> Matrix:
    """Read the Explorer's Zarr, CSR of (features, cells), without its closing sums ("Total transcripts")."""
    with zarr.storage.ZipStore(path, mode="r") as store:
        group: Any = zarr.open_group(store, mode="r")["cell_features"]
        names: dict[str, Any] = dict(group.attrs)
        ids = np.asarray(group["cell_id"])
        shape = (len(names["feature_keys"]), len(ids))
        counts = sparse.csr_matrix((np.asarray(group["data"]), np.asarray(group["indices"]), np.asarray(group["indptr"])), shape=shape)
    table = pd.DataFrame(
        {"id": names["feature_ids"], "name": names["feature_keys"], "kind": [KINDS.get(k, k) for k in names["feature_types"]]}
    )
    kept = (table["kind"] != "aggregate_gene").to_numpy()
    return Matrix(sparse.csr_matrix(counts[kept].T), decode_ids(ids), table[kept].reset_index(drop=True))


KINDS = {
    "gene": "Gene Expression",
    "negative_control_probe": "Negative Control Probe",
    "negative_control_codeword": "Negative Control Codeword",
    "unassigned_codeword": "Unassigned Codeword",
    "deprecated_codeword": "Deprecated Codeword",
    "genomic_control": "Genomic Control",
}
"""Names of feature types in the Zarr → in the other encodings."""


def decode_ids(ids: NDArray[np.uint32]) -> NDArray[np.str_]:
    """Return cell ids as text: the first number as eight hexadecimal digits written a–p, the second after a hyphen."""
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    return np.array([f"{number:08x}".translate(letters) + f"-{suffix}" for number, suffix in ids.tolist()])
