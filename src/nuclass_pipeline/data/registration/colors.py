"""Colors of the H&E: red and blue exchanged are seen in the nuclei, because haematoxylin absorbs red more than blue."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.pictures import fullest_squares
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.units import Micron

SQUARES = 12
SQUARE_UM = 128.0
NUCLEUS_UM = 1.25
"""Standard deviation of the weight of a nucleus, µm."""
SURROUNDINGS = 8
"""Ratio of the widths of surroundings and nucleus."""
MIN_CONTRAST_OD = 0.05
# Below zero, because single pale fields of public H&E reach −0.06; the median of sound ones is +0.2 (benchmarks/registration_errors.py).
EXCHANGED_BELOW = -0.1
"""Excess of red over blue, as a share of their sum, below which they look exchanged."""


@dataclass(frozen=True)
class NuclearContrast:
    """How much darker nuclei are than their surroundings, as optical density of red, green and blue."""

    red: float
    green: float
    blue: float

    @property
    def looks_exchanged(self) -> bool:
        """Whether nuclei absorb blue clearly more than red."""
        excess = (self.red - self.blue) / max(abs(self.red) + abs(self.blue), 1e-6)
        return max(self.red, self.blue) > MIN_CONTRAST_OD and excess < EXCHANGED_BELOW


def nuclear_contrast(he: HeImage, mapping: Alignment, centroids: Micron, shift_um: tuple[float, float]) -> NuclearContrast:
    """Return the colors of nuclei in the squares of 128 µm that hold most cells.

    `centroids` are the cells, (N, 2) in µm of the Xenium frame, and `shift_um` is their best shift in the frame of the H&E.
    """
    xy_px = mapping.to_he(centroids) + np.array(shift_um) / mapping.mpp_he
    side_px = max(1, round(SQUARE_UM / mapping.mpp_he))
    inside = xy_px[((xy_px >= 0) & (xy_px < he.shape[::-1])).all(axis=1)]
    sums, cells = np.zeros(3), 0
    corners: list[list[int]] = fullest_squares(inside, side_px, SQUARES).tolist()
    for left, top in corners:
        height, width = min(side_px, he.shape[0] - top), min(side_px, he.shape[1] - left)
        near = inside[((inside >= (left, top)) & (inside < (left + width, top + height))).all(axis=1)] - (left, top)
        density = -np.log10((he.read(0, top, left, height, width).astype(np.float64) + 1) / 256)
        sums += np.tensordot(weigh_nuclei(near, (height, width), mapping.mpp_he), density)
        cells += len(near)
    red, green, blue = (sums / max(1, cells)).tolist()
    return NuclearContrast(red, green, blue)


def weigh_nuclei(xy_px: Floats, shape: tuple[int, int], mpp_he: float) -> Floats:
    """Return nuclei minus their surroundings, (height, width); the weights sum to zero for every cell."""
    dots, *_ = np.histogram2d(xy_px[:, 1], xy_px[:, 0], bins=shape, range=((0, shape[0]), (0, shape[1])))
    sigma = NUCLEUS_UM / mpp_he
    return np.asarray(gaussian_filter(dots, sigma) - gaussian_filter(dots, SURROUNDINGS * sigma))
