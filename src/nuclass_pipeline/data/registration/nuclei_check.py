"""A second check of the registration: nuclei segmented on the H&E, in a sample of squares, against the cells of the bundle.

Haematoxylin also stains what is not a nucleus, and its density follows every blur; outlines do not. Both checks must agree on the shift.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.pictures import fullest_squares
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import QC_MPP, ShiftFit, correlate_shifts, draw_nuclei, sharpen
from nuclass_pipeline.data.segmentation.tiles import Segmenter, segment_image
from nuclass_pipeline.units import ImagePixel, Micron

WINDOW_UM = 256.0
"""Side of a square."""


@dataclass(frozen=True)
class NucleiCheck:
    """Result of the nuclei check.

    Attributes
    ----------
    windows
        Number of squares.
    nuclei
        Number of nuclei found in them.
    fit
        Best shift of the cells against these nuclei.
    """

    windows: int
    nuclei: int
    fit: ShiftFit

    def contradicts(self, by_haematoxylin: ShiftFit, max_shift_um: float) -> bool:
        """Return whether the fit is clear, and its shift differs from that by haematoxylin by more than `max_shift_um`."""
        apart_um = float(np.hypot(*np.subtract(self.fit.shift_um, by_haematoxylin.shift_um)))
        return self.fit.is_clear and apart_um > max_shift_um

    def record(self) -> dict[str, Any]:
        """Return the entry `nuclei` of `registration.json`."""
        return {
            "windows": self.windows,
            "nuclei": self.nuclei,
            "shift_um": list(self.fit.shift_um),
            "correlation_best": self.fit.correlation_best,
            "correlation_chance": self.fit.correlation_chance,
            "confidence": self.fit.confidence,
            "clear": self.fit.is_clear,
        }


def check_nuclei(he: HeImage, mapping: Alignment, centroids: Micron, segmenter: Segmenter, windows: int, search_um: float) -> NucleiCheck:
    """Segment nuclei in the `windows` squares of 256 µm that hold most cells, and fit the cells to them.

    `centroids` are the cells, (N, 2) in µm of the Xenium frame, and `search_um` is the largest shift searched.
    """
    xy_px = mapping.to_he(centroids)
    side_px = max(1, round(WINDOW_UM / mapping.mpp_he))
    in_image = ((xy_px >= 0) & (xy_px < he.shape[::-1])).all(axis=1)
    corners: list[list[int]] = fullest_squares(xy_px[in_image], side_px, windows).tolist()
    # Side by side, with a gap on every side, because the largest shift must not move a cell onto the nuclei of the next square.
    pitch_um = WINDOW_UM + 2 * search_um
    found, cells = [], []
    for number, (left, top) in enumerate(corners):
        height, width = min(side_px, he.shape[0] - top), min(side_px, he.shape[1] - left)
        pixels = he.read(0, top, left, height, width)
        nuclei = segment_image(lambda *area, pixels=pixels: pixels[area], (height, width), segmenter, mapping.mpp_he, side_px, overlap_px=0)
        offset_um = np.array([search_um + number * pitch_um, search_um])
        found.append(nuclei[["x_px", "y_px"]].to_numpy() * mapping.mpp_he + offset_um)
        inside = ((xy_px >= (left, top)) & (xy_px < (left + width, top + height))).all(axis=1)
        cells.append((xy_px[inside] - (left, top)) * mapping.mpp_he + offset_um)
    shape = (round(pitch_um / QC_MPP), round(max(1, len(corners)) * pitch_um / QC_MPP))
    texture = sharpen(draw_nuclei(np.concatenate(found) / QC_MPP, shape))
    fit = correlate_shifts(texture, ImagePixel(np.concatenate(cells) / QC_MPP), search_um)
    return NucleiCheck(len(corners), sum(map(len, found)), fit)
