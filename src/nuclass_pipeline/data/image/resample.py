"""Bicubic resampling of a whole H&E in bands of rows, so that every tile is decoded once and few are in memory.

The kernel is that of Keys (1981) with a = −1/2, widened where pixels are joined so that it also smooths, as Pillow's `BICUBIC` does.
Products are summed in a fixed order without fused operations, so that the pixels do not depend on the processor or on the threads.

A pixel of the output is a weighted sum of source pixels, its taps: first of rows, then of columns. How a band is computed::

    a band of the output        +------------------------+------------------------+------
                                | stripe: one thread     | stripe                 | ...
                                | block | block |  ...   | block | block |  ...   |
                        lane 0  |#######|       |
                        lane 1  |#######|       |           `_weigh_block` computes a block of
                           ...  |#######|       |           BLOCK_PX columns, LANES rows at a time
                       lane 15  |#######|       |

    1. down: a lane is the sum of its taps, which are rows of the source from row_start, four at once; three colors alternate

                         low ............... high                              low ............... high
        row_start       |R G B R G B R G B ... |  * weight 0 -.
        row_start + 1   |R G B R G B R G B ... |  * weight 1  |
        row_start + 2   |R G B R G B R G B ... |  * weight 2  | = sums[lane]  |R G B R G B R G B ... |
        row_start + 3   |R G B R G B R G B ... |  * weight 3 -'

    2. turn: the values of all lanes come together, so that a source column is a run of 3 * LANES values

        lane             0 1 .. 15  0 1 .. 15  0 1 .. 15   0 1 .. 15
        turned          |R R .. R   G G .. G   B B .. B  | R R .. R   ...
                        |------- source column low ------|

    3. across: pixel x of all lanes is the sum of its taps, which are source columns from column_start, four at once

        column_start     column_start + 1   column_start + 2   column_start + 3
        |R..R G..G B..B| |R..R G..G B..B|   |R..R G..G B..B|   |R..R G..G B..B|
          * weight 0       * weight 1         * weight 2         * weight 3        = done[x]  |R..R G..G B..B|

    4. turn back: value r of each color goes to row r of the block
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.data.image.slide import RGB, HeImage

KERNEL_RADIUS_PX = 2
"""Half the width of the kernel, in pixels of the coarser image."""
TAPS_AT_ONCE = 4
"""Taps that are summed in one pass; weights are padded to a multiple of it."""
STRIPE_PX = 2048
"""Columns that a thread computes in one call."""
# So few, because the sums of a block must stay in a core's cache.
BLOCK_PX = 256
"""Columns of a block."""
LANES = 16
"""Rows that are computed together."""


@dataclass(frozen=True)
class Axis:
    """The taps of every pixel along one axis.

    Attributes
    ----------
    start
        Source pixel of the first tap, (N,).
    weights
        Weights of the taps, (N, taps), which sum to 1.
    """

    start: Integers
    weights: NDArray[np.float32]

    @property
    def taps(self) -> int:
        """Number of source pixels that are summed for a pixel."""
        return int(self.weights.shape[1])

    @classmethod
    def of(cls, pixels: int, source_px: int, step: float) -> "Axis":
        """Return the taps of `pixels` pixels, each `step` source pixels wide, of a source of `source_px` that begins at the same edge."""
        widening = max(1.0, step)
        center = (np.arange(pixels) + 0.5) * step
        taps = -(-int(np.ceil(2 * KERNEL_RADIUS_PX * widening)) // TAPS_AT_ONCE) * TAPS_AT_ONCE
        start = np.clip(np.floor(center - KERNEL_RADIUS_PX * widening + 0.5), 0, max(0, source_px - taps)).astype(np.int64)
        position = start[:, None] + np.arange(taps)
        weights = np.where(position < source_px, keys_cubic((position + 0.5 - center[:, None]) / widening), 0)
        return cls(start, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def keys_cubic(x: Floats) -> Floats:
    """Return the cubic convolution kernel at `x`, equation 15 of Keys (1981)."""
    x = np.abs(x)
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, inner, np.where(x < KERNEL_RADIUS_PX, outer, 0))


def resample(he: HeImage, scale: float, band_px: int, threads: int = 1) -> Iterator[RGB]:
    """Yield the whole image enlarged by `scale`, from top to bottom in bands, (rows, width, 3).

    Bands have `band_px` rows; the last may have fewer. The image is read from the coarsest level of its pyramid that is fine enough.
    """
    level = he.level_for(1 / scale)
    height, width = resampled_shape(he, scale)
    (level_height, level_width), (down, across) = he.size(level), he.downsample(level)
    rows = Axis.of(height, level_height, 1 / (down * scale))
    columns = Axis.of(width, level_width, 1 / (across * scale))
    # So many rows are kept, because a band of the output that is not complete yet reaches no further back.
    overlap_px = int(np.ceil(band_px / (down * scale))) + rows.taps
    top = 0
    with ThreadPoolExecutor(threads) as pool:
        for first_row, source in he.bands(level, threads, overlap_px):
            while top < height:
                part = slice(top, top + band_px)
                start, end = rows.start[part] - first_row, first_row + len(source)
                if min(int(rows.start[part][-1]) + rows.taps, level_height) > end:
                    break
                yield apply_weights(_padded(source, rows.taps, columns.taps), Axis(start, rows.weights[part]), columns, pool)
                top += band_px


def resampled_shape(he: HeImage, scale: float) -> tuple[int, int]:
    """Return height and width of the image enlarged by `scale`, px."""
    height, width = (max(1, round(side * step * scale)) for side, step in zip(he.size(0), he.downsample(0), strict=True))
    return height, width


def _padded(pixels: RGB, height: int, width: int) -> RGB:
    """Add zeros, which have no weight, to pixels that are smaller than the kernel."""
    missing = [(0, max(0, least - side)) for least, side in ((height, pixels.shape[0]), (width, pixels.shape[1]))]
    return np.pad(pixels, [*missing, (0, 0)]) if any(after for _, after in missing) else pixels


def apply_weights(pixels: RGB, rows: Axis, columns: Axis, pool: ThreadPoolExecutor) -> RGB:
    """Return the weighted sums of pixels (height, width, 3) along both axes, (rows, columns, 3); stripes go to the threads of `pool`."""
    width = len(columns.start)
    output = np.empty((len(rows.start), 3 * width), np.uint8)
    source = np.ascontiguousarray(pixels).reshape(len(pixels), -1)

    def work(left: int) -> None:
        stripe = slice(left, left + STRIPE_PX)
        place = output[:, 3 * left : 3 * (left + STRIPE_PX)]
        _weigh(source, rows.start, rows.weights, columns.start[stripe], columns.weights[stripe], place)

    list(pool.map(work, range(0, width, STRIPE_PX)))
    return output.reshape(len(rows.start), width, 3)


# The loops run over slices, because the compiler turns those into vector code. Blocks are turned before they are summed over columns,
# because neighbours in memory must have equal weights for that.


@numba.njit(nogil=True, cache=True)
def _weigh(source, row_start, row_weights, column_start, column_weights, output):  # type: ignore[no-untyped-def] # pragma: no cover
    for left in range(0, len(column_start), BLOCK_PX):
        right = min(left + BLOCK_PX, len(column_start))
        place = output[:, 3 * left : 3 * right]
        _weigh_block(source, row_start, row_weights, column_start[left:right], column_weights[left:right], place)


@numba.njit(nogil=True, cache=True)
def _weigh_block(source, row_start, row_weights, column_start, column_weights, output):  # type: ignore[no-untyped-def] # pragma: no cover
    low, high = 3 * column_start[0], 3 * (column_start[-1] + column_weights.shape[1])
    sums = np.empty((LANES, high - low), np.float32)
    turned = np.empty((high - low) * LANES, np.float32)
    done = np.empty(output.shape[1] * LANES, np.uint8)
    for top in range(0, output.shape[0], LANES):
        rows = min(LANES, output.shape[0] - top)
        for r in range(rows):
            sums[r] = np.float32(0)
            for k in range(0, row_weights.shape[1], TAPS_AT_ONCE):
                first = row_start[top + r] + k
                a, b, c, d = source[first, low:high], source[first + 1, low:high], source[first + 2, low:high], source[first + 3, low:high]
                _add(sums[r], row_weights[top + r, k:], a, b, c, d)
        for i in range(high - low):
            for r in range(LANES):
                turned[i * LANES + r] = sums[r, i]
        _weigh_columns(turned, column_start - column_start[0], column_weights, done)
        for r in range(rows):
            row = output[top + r]
            for i in range(output.shape[1]):
                row[i] = done[i * LANES + r]


@numba.njit(nogil=True, cache=True)
def _weigh_columns(turned, start, weights, done):  # type: ignore[no-untyped-def] # pragma: no cover
    span = 3 * LANES
    sums = np.empty(span, np.float32)
    for x in range(len(start)):
        sums[:] = np.float32(0.5)
        for k in range(0, weights.shape[1], TAPS_AT_ONCE):
            part = turned[span * (start[x] + k) : span * (start[x] + k + TAPS_AT_ONCE)]
            _add(sums, weights[x, k:], part[:span], part[span : 2 * span], part[2 * span : 3 * span], part[3 * span :])
        place = done[span * x : span * (x + 1)]
        for i in range(span):
            place[i] = np.uint8(min(max(sums[i], np.float32(0)), np.float32(255)))


@numba.njit(nogil=True, cache=True, inline="always")
def _add(sums, weights, a, b, c, d):  # type: ignore[no-untyped-def] # pragma: no cover
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(len(sums)):
        sums[i] += w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i]
