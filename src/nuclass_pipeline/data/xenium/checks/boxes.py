"""The box around what a bundle places in each cell: vertices of its outline, or its transcripts."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats


@dataclass
class Boxes:
    """Boxes along the axes of the Xenium frame, one per cell, that grow as points are added.

    Attributes
    ----------
    path
        File of the points.
    n_cells
        Number of cells.
    low_um, high_um
        Corners (cells, 2) as x, y in µm; infinite where a cell has no point.
    """

    path: Path
    n_cells: int
    low_um: Floats = field(init=False)
    high_um: Floats = field(init=False)

    def __post_init__(self) -> None:
        # By column, because NumPy grows contiguous numbers twenty times as fast, and a slide has a hundred million points.
        self.low_um = np.full((self.n_cells, 2), np.inf, order="F")
        self.high_um = np.full((self.n_cells, 2), -np.inf, order="F")

    def add(self, cell: NDArray[np.integer], xy_um: Floats) -> None:
        """Add points, (N, 2) in µm, to the boxes of their cells, (N,); points of cell -1 are left out."""
        inside = cell >= 0
        for axis in (0, 1):
            values = np.ascontiguousarray(xy_um[inside, axis])
            np.minimum.at(self.low_um[:, axis], cell[inside], values)
            np.maximum.at(self.high_um[:, axis], cell[inside], values)

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Whether each cell has a point, (cells,)."""
        return np.asarray(np.isfinite(self.low_um).all(axis=1))

    @property
    def area_um2(self) -> Floats:
        """Area of each box, (cells,); NaN where a cell has no point."""
        sides = np.where(self.filled[:, None], self.high_um - self.low_um, np.nan)
        return np.asarray(sides.prod(axis=1))

    def distance_um(self, xy_um: Floats) -> Floats:
        """Compute the distance of a point of each cell, (cells, 2) in µm, from the cell's box; 0 inside, NaN where it has no box."""
        low, high = (np.where(self.filled[:, None], corner, np.nan) for corner in (self.low_um, self.high_um))
        return np.asarray(np.hypot(*np.maximum(np.maximum(low - xy_um, xy_um - high), 0).T))
