"""Reading of patch and feature files: patches that fit into memory are decoded once, the rest batch by batch; features always fit."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import ORIGIN, READ_ERRORS, USUAL_BYTES, BlockCache, WindowReader, damaged_h5, open_h5, open_window_file

BLOCK_ROWS = 4096
"""Rows of features that are read at once."""
PLAIN_AXES = 2
"""Axes of features without views."""
READ_AT_ONCE = 8
"""Windows that are in memory before they are resized."""


MAX_BLOCK_BYTES = 2 * 10**9
"""Largest memory of a process for decoded blocks of images; a bucket of `RunShuffle` needs about as much in dense tissue."""


@dataclass
class CacheBudget:
    """Memory still free for decoded patches.

    Attributes
    ----------
    free
        Bytes.
    processes
        Processes that read patches at once.
    blocks
        Decoded blocks of images, which the readers of one process share.
    """

    free: float
    processes: int = 1
    blocks: BlockCache = field(default_factory=BlockCache)

    @classmethod
    def of_gb(cls, gb: float, processes: int = 1) -> "CacheBudget":
        """Start with this many GB."""
        return cls(gb * 1e9, processes)

    def take_rows(self, rows: int, row_bytes: int) -> int:
        """Reserve as many of `rows` as fit, and return their number."""
        fitting = min(rows, int(self.free // row_bytes))
        self.free -= fitting * row_bytes
        return fitting

    def take_blocks(self, wanted: int) -> None:
        """Reserve up to half of the memory for decoded blocks if `wanted` bytes of patches exceed it, because some are read again then."""
        if wanted > self.free:
            each = min(MAX_BLOCK_BYTES, int(self.free / 2 / self.processes))
            self.free -= each * self.processes
            self.blocks = BlockCache(max(each, USUAL_BYTES))


def resize(images: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize images (N, S, S, 3) to (N, side_px, side_px, 3), bilinear with antialiasing; `resize_batch` does so on a GPU."""
    if images.shape[1] == side_px:
        return images
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    smaller = interpolate(planes, size=(side_px, side_px), mode="bilinear", antialias=True)
    return smaller.permute(0, 2, 3, 1).contiguous().numpy()


def resize_batch(images: Tensor, side_px: int) -> Tensor:
    """Resize images (B, 3, S, S) uint8 in one batch on their device, at most one grey level apart from `resize`; fast on a GPU alone."""
    if images.shape[-1] == side_px:
        return images
    # In single precision, because torch resizes uint8 on the CPU alone.
    with torch.autocast(images.device.type, enabled=False):
        return interpolate(images.float(), size=(side_px, side_px), mode="bilinear", antialias=True).round().clamp(0, 255).byte()


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

    Attributes
    ----------
    holders
        The file.

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
        self._values, self.holders = values, (path,)

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


def patch_bytes(path: Path, side_px: int) -> int:
    """Return the memory of a decoded patch of a file, bytes; 0 if it holds features, or pixels that are read without an image."""
    with open_window_file(path) as file:
        return 3 * side_px**2 if ORIGIN in file else 0


class PatchReader:
    """Images of chosen rows of one file, resized to `side_px`; as many as `memory` allows are kept.

    Parameters
    ----------
    path
        Patch file.
    rows
        Rows of the file (N,), in any order.
    side_px
        Side of the images after resizing, px; None leaves them as they are.
    memory
        Budget shared with other files.

    Attributes
    ----------
    holders
        The file, and that with the pixels.

    Raises
    ------
    UserError
        If the file is missing or broken, or the image that its windows lie in is missing; also where it is read later.
    """

    def __init__(self, path: Path, rows: Integers, side_px: int | None, memory: CacheBudget) -> None:
        self._windows = WindowReader(path, memory.blocks)
        self.rows, self.side_px = rows, side_px or self._windows.side_px
        side_px = self.side_px
        self.holders = (path, self._windows.pixels.holder)
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
        elif not kept:
            values = self._read(positions)
        else:
            values = np.empty((len(positions), *self._cache.shape[1:]), np.uint8)
            inside = positions < kept
            values[inside] = self._cache[positions[inside]]
            values[~inside] = self._read(positions[~inside])
        return torch.from_numpy(values).permute(0, 3, 1, 2)

    def tile_order(self) -> Integers | None:
        """Return the positions (N,) sorted by where the windows lie in their image; None if they are not windows of an image."""
        order = self._windows.order(self.rows) if self._windows.from_image else None
        self.close()
        return order

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._windows.close()

    def _read(self, positions: Integers) -> NDArray[np.uint8]:
        rows = self.rows[positions]
        if self._windows.side_px == self.side_px:
            return self._windows.read(rows)
        values = np.empty((len(positions), *self._cache.shape[1:]), np.uint8)
        order = self._windows.order(rows)
        # A few at once, because context windows take 3 MB each before they are resized.
        for start in range(0, len(order), READ_AT_ONCE):
            few = order[start : start + READ_AT_ONCE]
            values[few] = resize(self._windows.read(rows[few]), self.side_px)
        return values
