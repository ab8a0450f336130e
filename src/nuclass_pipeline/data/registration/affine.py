"""The affine map that fits the cells to the haematoxylin best: it finds turns, shears and stretches within a few micrometers.

A turn moves the cells of a region in several directions, so that the best shift of the region hides it. An affine map does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.units import ImagePixel

# Coarse first, because cells at the edge of a turned slide may lie several nuclei away from their own.
SIGMAS_PX = (8.0, 4.0, 2.5)
"""Blur of the texture in each step of the fit, px."""
# Above, because a map with six numbers follows chance where it has few cells.
MIN_AFFINE_CELLS = 150
MAX_CELLS = 20_000
"""Cells that are fitted; of more, every second, third, ... one."""
HALF_STEP_PX = 0.5


@dataclass(frozen=True)
class AffineFit:
    """How the cells move under the best affine map.

    Attributes
    ----------
    linear
        Change of the shift of a cell per distance from the middle, (2, 2): rows for the shift along x and y.
    center_px
        Middle of the cells, (x, y).
    shift_px
        Shift in the middle, (x, y).
    """

    linear: Floats
    center_px: Floats
    shift_px: Floats

    def shifts_px(self, xy_px: Floats) -> Floats:
        """Return the shift of every point, (N, 2) in pixels."""
        return np.asarray((xy_px - self.center_px) @ self.linear.T + self.shift_px)

    @property
    def turn_deg(self) -> float:
        """Turn of the cells against the H&E, degrees."""
        return float(np.degrees((self.linear[1, 0] - self.linear[0, 1]) / 2))

    @property
    def strain(self) -> float:
        """Largest stretch or shear of the cells against the H&E, as a share of their distance."""
        return float(np.abs(np.linalg.eigvalsh((self.linear + self.linear.T) / 2)).max())


def fit_affine(texture: NDArray[np.float32], xy_px: ImagePixel, start_px: tuple[float, float]) -> AffineFit | None:
    """Fit the cells to the texture of the H&E by an affine map that makes the mean texture at the cells highest.

    Parameters
    ----------
    texture
        Haematoxylin, (height, width), from `sharpen`.
    xy_px
        Cells, (N, 2) in px of `texture`.
    start_px
        Best shift (x, y), at which the fit begins.

    Returns
    -------
    AffineFit
        None with fewer than `MIN_AFFINE_CELLS` cells on the image.
    """
    inside = xy_px[((xy_px >= 0) & (xy_px < texture.shape[::-1])).all(axis=1)]
    if len(inside) < MIN_AFFINE_CELLS:
        return None
    inside = inside[:: -(-len(inside) // MAX_CELLS)]
    center = inside.mean(axis=0)
    # In units of their spread, because all six numbers are then shifts in pixels.
    spread = float(np.sqrt(((inside - center) ** 2).sum(axis=1).mean()))
    design = np.column_stack([np.ones(len(inside)), (inside - center) / spread])
    solution = np.zeros((3, 2))
    solution[0] = start_px
    for sigma in SIGMAS_PX:
        solution = _climb(gaussian_filter(texture, sigma), inside, design, solution)
    return AffineFit(solution[1:].T / spread, center, solution[0])


def _climb(blurred: NDArray[np.float32], xy_px: Floats, design: Floats, start: Floats) -> Floats:
    """Return the map, (3, 2), near `start` that makes the mean of `blurred` at the cells highest."""
    unit = float(np.abs(blurred).max()) or 1.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        # Half a pixel less, because the middle of the first pixel is at half a pixel.
        x, y = (xy_px + design @ flat.reshape(3, 2) - 0.5).T

        def at(right_px: float, down_px: float) -> Floats:
            return np.asarray(map_coordinates(blurred, [y + down_px, x + right_px], order=1, output=np.float64)) / unit

        slope = np.column_stack([at(HALF_STEP_PX, 0) - at(-HALF_STEP_PX, 0), at(0, HALF_STEP_PX) - at(0, -HALF_STEP_PX)])
        return -100 * float(at(0, 0).mean()), -100 * (design.T @ slope).ravel() / len(xy_px)

    return np.asarray(minimize(loss, start.ravel(), jac=True, method="L-BFGS-B").x).reshape(3, 2)
