"""A second opinion on the registration: nuclei found on the H&E itself, in a sample of squares, against the cells of the bundle.

Haematoxylin alone also stains what is no nucleus, and follows every blur; outlines do not. Both must tell the same shift.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import QC_MPP, ShiftFit, correlate_shifts, draw_nuclei, sharpen
from nuclass_pipeline.data.segmentation.tiles import Segmenter, segment_image
from nuclass_pipeline.units import HePixel, ImagePixel, Micron

WINDOW_UM = 256.0


@dataclass(frozen=True)
class NucleiCheck:
    """What the nuclei say: how many were found in how many squares, and how the cells fit them."""

    windows: int
    nuclei: int
    fit: ShiftFit

    def contradicts(self, first: ShiftFit, max_shift_um: float) -> bool:
        """Say whether the nuclei agree clearly with the cells, but at another place than haematoxylin does."""
        apart_um = float(np.hypot(*np.subtract(self.fit.shift_um, first.shift_um)))
        return self.fit.is_clear and apart_um > max_shift_um

    def record(self) -> dict[str, Any]:
        """Give the opinion as it stands in `registration.json`."""
        return {
            "windows": self.windows,
            "nuclei": self.nuclei,
            "shift_um": list(self.fit.shift_um),
            "agreement_best": self.fit.agreement_best,
            "agreement_chance": self.fit.chance,
            "confidence": self.fit.confidence,
            "clear": self.fit.is_clear,
        }


def check_nuclei(he: HeImage, mapping: Alignment, centroids: Micron, segmenter: Segmenter, windows: int, search_um: float) -> NucleiCheck:
    """Find nuclei in the `windows` squares of 256 µm that hold most cells, and fit the cells' centroids, (N, 2) in µm, to them."""
    xy_px = mapping.to_he(centroids)
    corners, side_px = fullest_squares(xy_px, WINDOW_UM / mapping.mpp_he, he.shape, windows)
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


def fullest_squares(xy_px: HePixel, side_px: float, shape: tuple[int, int], count: int) -> tuple[list[tuple[int, int]], int]:
    """Return the corners (x, y) of up to `count` squares of a grid that hold most points, fullest first, and their side, px."""
    side = max(1, round(side_px))
    inside = xy_px[((xy_px >= 0) & (xy_px < shape[::-1])).all(axis=1)]
    squares, counts = np.unique((inside // side).astype(int), axis=0, return_counts=True)
    fullest = squares[np.argsort(-counts, kind="stable")[:count]]
    return [(int(column) * side, int(row) * side) for column, row in fullest], side
