"""Reading of patch and feature files: patches that fit into memory are decoded once, the rest batch by batch; features always fit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, WindowReader, damaged_h5, open_h5, open_window_file

BLOCK_ROWS = 4096
"""Rows of features that are read at once."""
PLAIN_AXES = 2
"""Axes of features without views."""
READ_AT_ONCE = 8
"""Windows that are in memory before they are resized."""


@dataclass
class CacheBudget:
    """Memory still free for decoded patches.

    Attributes
    ----------
    free
        Bytes.
    """

    free: float

    @classmethod
    def of_gb(cls, gb: float) -> "CacheBudget":
        """Start with this many GB."""
        return cls(gb * 1e9)

    def take_rows(self, rows: int, row_bytes: int) -> int:
        """Reserve as many of `rows` as fit, and return their number."""
        fitting = min(rows, int(self.free // row_bytes))
        self.free -= fitting * row_bytes
        return fitting


def resize(images: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize images (N, S, S, 3) to (N, side_px, side_px, 3), bilinear with antialiasing; the package resizes patches here only."""
    if images.shape[1] == side_px:
        return images
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    smaller = interpolate(planes, size=(side_px, side_px), mode="bilinear", antialias=True)
    return smaller.permute(0, 2, 3, 1).contiguous().numpy()


class FeatureReader:
    """Features of chosen rows of one file, in memory.

    Parameters
    ----------
    path
        HDF5 file with `feature`.
    rows
        Rows of the file (N,), in any order.
    all_views
        Keep all views of a window, if the file has several; otherwise only the window as it is.

    Raises
    ------
    UserError
        If the file is missing or broken, or a feature is not finite.
    """

    def __init__(self, path: Path, rows: Integers, *, all_views: bool = False) -> None:
        with open_h5(path) as file:
            try:
                stored = file["feature"]
                kept = (0,) if stored.ndim > PLAIN_AXES and not all_views else ()
                values = np.empty((len(rows), *stored.shape[1 + len(kept) :]), np.float16)
                # In whole blocks, because HDF5 selects scattered rows slowly, and one block at a time, because a slide has up to 10 GB.
                for start in range(0, len(stored), BLOCK_ROWS):
                    inside = (rows >= start) & (rows < start + BLOCK_ROWS)
                    if inside.any():
                        values[inside] = stored[(slice(start, start + BLOCK_ROWS), *kept)][rows[inside] - start]
            except READ_ERRORS as error:
                raise damaged_h5(path, error) from error
        if not np.isfinite(values).all():
            raise UserError(path, "feature", "a value is not finite", "Remove the file and run again.")
        self._values = values

    def read(self, positions: Integers) -> Tensor:
        """Return features (B, D) float32 at these positions (B,) of `rows`; (B, V, D) if all of V views were kept."""
        return torch.from_numpy(self._values[positions]).float()

    def close(self) -> None:
        """Close nothing, because the file is read whole."""


def open_windows(
    path: Path, rows: Integers, side_px: int, memory: CacheBudget, *, all_views: bool = False
) -> "FeatureReader | PatchReader":
    """Return the reader of a file of features or of patches."""
    with open_window_file(path) as file:
        has_features = "feature" in file
    return FeatureReader(path, rows, all_views=all_views) if has_features else PatchReader(path, rows, side_px, memory)


class PatchReader:
    """Images of chosen rows of one file, resized to `side_px`; as many as `memory` allows are kept.

    Parameters
    ----------
    path
        Patch file.
    rows
        Rows of the file (N,), in any order.
    side_px
        Side of the images after resizing, px.
    memory
        Budget shared with other files.

    Raises
    ------
    UserError
        If the file is missing or broken, or the image that its windows lie in is missing; also where it is read later.
    """

    def __init__(self, path: Path, rows: Integers, side_px: int, memory: CacheBudget) -> None:
        self.rows, self.side_px = rows, side_px
        self._windows = WindowReader(path)
        kept = memory.take_rows(len(rows), 3 * side_px**2)
        self._cache = np.empty((kept, side_px, side_px, 3), np.uint8)
        for start in range(0, kept, READ_AT_ONCE):
            block = np.arange(start, min(start + READ_AT_ONCE, kept))
            self._cache[block] = self._read(block)
        self.close()

    def read(self, positions: Integers) -> Tensor:
        """Return images (B, 3, S, S) uint8 at these positions (B,) of `rows`."""
        kept = len(self._cache)
        if len(positions) and positions.max() < kept:
            values = self._cache[positions]
        else:
            values = np.empty((len(positions), *self._cache.shape[1:]), np.uint8)
            inside = positions < kept
            values[inside] = self._cache[positions[inside]]
            values[~inside] = self._read(positions[~inside])
        return torch.from_numpy(values).permute(0, 3, 1, 2)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._windows.close()

    def _read(self, positions: Integers) -> NDArray[np.uint8]:
        rows, values = self.rows[positions], np.empty((len(positions), *self._cache.shape[1:]), np.uint8)
        order = self._windows.order(rows)
        # A few at once, because context windows take 3 MB each before they are resized.
        for start in range(0, len(order), READ_AT_ONCE):
            few = order[start : start + READ_AT_ONCE]
            values[few] = resize(self._windows.read(rows[few]), self.side_px)
        return values
