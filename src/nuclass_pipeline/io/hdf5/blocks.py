"""Squares of an image, cut from decoded blocks that are kept in memory."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import h5py

WindowPixels = NDArray[np.uint8]

CACHED_PX = 256
"""Side of a block: that of the chunks of `image.h5`."""
BLOCK_BYTES = 3 * CACHED_PX**2
USUAL_BYTES = 64 * 2**20
"""341 blocks: several rows of blocks around a cell."""


class BlockCache:
    """Decoded blocks of the images that a process reads; the least used ones make room for others.

    It can be pickled, and starts empty in another process.

    Parameters
    ----------
    size
        Memory for the blocks, bytes; it is taken when blocks are read.
    """

    def __init__(self, size: int = USUAL_BYTES) -> None:
        self.slots = max(1, size // BLOCK_BYTES)
        self._memory: NDArray[np.uint8] | None = None
        self._found: OrderedDict[Hashable, int] = OrderedDict()

    def cut(self, image: Hashable, level: "h5py.Dataset", left_px: int, top_px: int, window: WindowPixels, fill: int) -> None:
        """Fill a window (S, S, 3) as `cut_square` does, from the blocks of a level (height, width, 3); `image` names it in this cache."""
        side_px, (height, width) = len(window), level.shape[:2]
        (rows, columns), (target_rows, target_columns) = overlap(left_px, top_px, side_px, height, width)
        if (rows.stop - rows.start, columns.stop - columns.start) != (side_px, side_px):
            window.fill(fill)
        target = window[target_rows, target_columns]
        for top in range(rows.start // CACHED_PX * CACHED_PX, rows.stop, CACHED_PX):
            ours, theirs = _shared(rows, top)
            for left in range(columns.start // CACHED_PX * CACHED_PX, columns.stop, CACHED_PX):
                our_columns, their_columns = _shared(columns, left)
                target[ours, our_columns] = self._block(image, level, top, left)[theirs, their_columns]

    def _block(self, image: Hashable, level: "h5py.Dataset", top: int, left: int) -> WindowPixels:
        key = (image, top, left)
        if self._memory is None:
            # Not touched here, so the system gives the pages one by one when blocks fill them.
            self._memory = np.empty((self.slots, CACHED_PX, CACHED_PX, 3), np.uint8)
        if (slot := self._found.get(key)) is not None:
            self._found.move_to_end(key)
            kept: WindowPixels = self._memory[slot]
            return kept
        slot = len(self._found) if len(self._found) < self.slots else self._found.popitem(last=False)[1]
        height, width = min(CACHED_PX, level.shape[0] - top), min(CACHED_PX, level.shape[1] - left)
        try:
            level.read_direct(self._memory, np.s_[top : top + height, left : left + width], np.s_[slot, :height, :width])
        except BaseException:
            # Whole, because the slot of the dropped block now holds part of another.
            self._found.clear()
            raise
        self._found[key] = slot
        decoded: WindowPixels = self._memory[slot]
        return decoded

    def clear(self) -> None:
        """Drop all blocks."""
        self._memory, self._found = None, OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"slots": self.slots, "_memory": None, "_found": OrderedDict()}


def cut_square(level: "h5py.Dataset | WindowPixels", left_px: int, top_px: int, side_px: int, fill: int) -> WindowPixels:
    """Return the square (side, side, 3) of an image (height, width, 3) from its corner; outside the image it holds `fill`."""
    (rows, columns), target = overlap(left_px, top_px, side_px, *level.shape[:2])
    if target == (slice(0, side_px), slice(0, side_px)):
        return np.asarray(level[rows, columns])
    window = np.full((side_px, side_px, 3), fill, dtype=np.uint8)
    window[target] = level[rows, columns]
    return window


def overlap(left_px: int, top_px: int, side_px: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of a square that lies in the image, as (rows, columns) of the image and as (rows, columns) of the square."""
    source, target = [], []
    for start, size in ((top_px, height), (left_px, width)):
        low, high = min(max(start, 0), size), max(min(start + side_px, size), 0)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - start, max(low, high) - start))
    return (source[0], source[1]), (target[0], target[1])


def _shared(wanted: slice, start: int) -> tuple[slice, slice]:
    """Return what a block from `start` shares with the wanted pixels, as pixels of the target and of the block."""
    low, high = max(wanted.start, start), min(wanted.stop, start + CACHED_PX)
    return slice(low - wanted.start, high - wanted.start), slice(low - start, high - start)
