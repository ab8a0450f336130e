"""Which of the cells lie where the H&E has nuclei in the same places, tile by tile.

A half of the slide that is blank leaves the correlation of the whole high enough. Its tiles have none.
"""

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Floats, Integers

# Larger ones where cells are sparse, because the correlation of a few cells is chance.
TILES_PX = (64, 128, 256)
MIN_TILE_CELLS = 5
MIN_IN_TILES = 0.5
"""Share of the cells that must lie in tiles with enough cells."""
# Between the two, because tiles of aligned tissue have 0.3 to 0.7, and those of other tissue up to 0.1 (benchmarks/registration_errors.py).
MAX_TILE_CORRELATION = 0.2
"""Correlation that is always enough for a tile; half of that of the whole slide is enough too."""


def find_matching(texture: NDArray[np.float32], nuclei: NDArray[np.float32], xy_px: Floats, correlation: float) -> tuple[Booleans, float]:
    """Find the cells in tiles where the texture of the H&E correlates with the cells.

    Parameters
    ----------
    texture, nuclei
        Haematoxylin from `sharpen`, and the cells as blurred dots, both (height, width).
    xy_px
        Cells, (N, 2) in px of them.
    correlation
        That of the whole slide.

    Returns
    -------
    matching, share
        Whether each cell does, (N,), and the share among cells in tiles with enough cells; 1 where there are none such.
    """
    inside = ((xy_px >= 0) & (xy_px < texture.shape[::-1])).all(axis=1)
    matching = np.zeros(len(xy_px), bool)
    for side_px in TILES_PX:
        row, column = (xy_px[inside][:, ::-1] // side_px).astype(int).T
        cells = _count(row, column, texture.shape, side_px)
        counted = cells[row, column] >= MIN_TILE_CELLS
        if counted.sum() >= MIN_IN_TILES * len(xy_px):
            is_high = _correlate_tiles(texture, nuclei, side_px) >= min(MAX_TILE_CORRELATION, correlation / 2)
            matching[inside] = is_high[row, column] & counted
            return matching, float(matching.sum() / counted.sum())
    return matching, 1.0


def _count(row: Integers, column: Integers, shape: tuple[int, ...], side_px: int) -> Integers:
    cells = np.zeros((-(-shape[0] // side_px), -(-shape[1] // side_px)), np.int64)
    np.add.at(cells, (row, column), 1)
    return cells


def _correlate_tiles(texture: NDArray[np.float32], nuclei: NDArray[np.float32], side_px: int) -> Floats:
    """Return the correlation within every tile, (rows, columns); 0 where either is flat."""
    height, width = texture.shape
    rows, columns = np.arange(0, height, side_px), np.arange(0, width, side_px)

    def total(values: NDArray[np.float32]) -> Floats:
        # In double precision, because the sums of squares would lose their last digits.
        return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.float64), columns, axis=1))

    area = np.outer(np.diff(np.append(rows, height)), np.diff(np.append(columns, width)))
    covariance = total(texture * nuclei) - total(texture) * total(nuclei) / area
    variances = [np.maximum(total(values**2) - total(values) ** 2 / area, 0) for values in (texture, nuclei)]
    norm = np.sqrt(variances[0] * variances[1])
    return np.asarray(np.divide(covariance, norm, out=np.zeros_like(covariance), where=norm > 1e-9))
