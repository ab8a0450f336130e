"""Which cells share pixels of their context windows: two windows of a side overlap if their corners are closer than it along both axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.alignment import Alignment, read_registration
from nuclass_pipeline.units import HePixel, Micron


@dataclass(frozen=True)
class ContextWindows:
    """The context windows of N cells on `image.h5`.

    Attributes
    ----------
    corners_px
        Left and top of each window, (N, 2), whole px.
    side_px
        Side of all windows, px.
    width_um
        Width of a window along the axes of the cells, µm. Windows of cells that are this far apart along one axis share no pixel.
    """

    corners_px: Floats
    side_px: int
    width_um: float

    @classmethod
    def place(cls, xy_um: Floats, registration: Path | None, config: ImageConfig) -> "ContextWindows":
        """Return the windows of cells at these centroids (N, 2), µm; without a registration, the image lies as the cells do."""
        alignment = read_registration(registration)[0] if registration else Alignment(np.eye(3), config.mpp)
        corners_px = np.round(alignment.to_image(Micron(xy_um), config.mpp) - config.context_px / 2)
        return cls(corners_px, config.context_px, _width_um(alignment, config))

    def share_pixels(self, cells: Booleans, others: Booleans) -> Booleans:
        """Return whether the window of each of `cells` shares a pixel with that of any of `others`, as masks (N,); one value per cell."""
        if not others.any():
            return np.zeros(int(cells.sum()), dtype=bool)
        nearest, _ = cKDTree(self.corners_px[others]).query(self.corners_px[cells], p=np.inf, distance_upper_bound=self.side_px)
        return np.asarray(np.isfinite(nearest))


def _width_um(alignment: Alignment, config: ImageConfig) -> float:
    step_px = config.mpp / np.array(alignment.sides_um)
    origin, *ends = np.asarray(alignment.to_um(HePixel(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * step_px)))
    # Both sides of a window count, because a turned square is wider than its side: 1.03 times at 1.5°, 1.41 times at 45°.
    return float(config.context_px * np.abs(np.array(ends) - origin).sum(axis=0).max())
