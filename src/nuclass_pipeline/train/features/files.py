"""Files of features: what is written to them, row by row, and how networks run that compute it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.io import IDS_DIGEST, digest_ids

MAX_HALF = 65504
"""Largest finite number of half precision."""


class RowsWriter:
    """Writer of the datasets of one HDF5 file, which the first values of each create.

    Parameters
    ----------
    file
        File open for writing.
    rows
        Rows of each dataset.
    """

    def __init__(self, file: h5py.File, rows: int) -> None:
        self.file, self.rows, self._next = file, rows, 0

    def append(self, **values: NDArray[Any]) -> None:
        """Add the same number of rows to each dataset."""
        count = len(next(iter(values.values())))
        for name, block in values.items():
            self._dataset(name, block)[self._next : self._next + count] = block
        self._next += count

    def put(self, rows: Integers, **values: NDArray[Any]) -> None:
        """Set rows (n,) of each dataset, in any order."""
        for name, block in values.items():
            stored = self._dataset(name, block)
            # One by one, because HDF5 selects scattered rows slowly.
            for row, value in zip(rows.tolist(), block, strict=True):
                stored[row] = value

    def _dataset(self, name: str, block: NDArray[Any]) -> h5py.Dataset:
        if name not in self.file:
            # In one piece, because the gate reads single rows.
            self.file.create_dataset(name, (self.rows, *block.shape[1:]), block.dtype)
        return self.file[name]


@contextmanager
def running(device: str, compute: Compute) -> Iterator[None]:
    """Run networks without gradients in the configured precision."""
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=compute.precision == "bf16-mixed"):
        yield


def write_ids(file: h5py.File, ids: NDArray[np.object_]) -> None:
    """Write the cell ids (N,) of a feature file in the order of its rows, and their hash."""
    file.create_dataset("cell_id", data=np.asarray(ids, dtype=object), dtype=h5py.string_dtype())
    file.attrs[IDS_DIGEST] = digest_ids(ids)


def to_half(values: Tensor) -> NDArray[np.float16]:
    """Return values in half precision on the CPU."""
    # Clamped, because an infinite feature becomes NaN in the gate's layer norm.
    half: NDArray[np.float16] = values.float().clamp(-MAX_HALF, MAX_HALF).half().cpu().numpy()
    return half
