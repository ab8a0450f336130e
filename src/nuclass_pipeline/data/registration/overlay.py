"""Pictures of a bundle's cells and nuclei on its H&E."""

from pathlib import Path

import numpy as np

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.pictures import PANEL_PX, densest_square, draw_detail, draw_overview, with_key, write_pair
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.fit import RegistrationFit
from nuclass_pipeline.data.xenium.boundaries import read_outlines
from nuclass_pipeline.units import HePixel, Micron

SHIFT_DETAIL_UM = 125.0
CHECK_DETAIL_UM = 250.0
KEY = "green circles: cells; lines: nuclei"


def nuclei_of_bundle(bundle: Path, mapping: Alignment, corner: Integers, side_px: int) -> list[HePixel]:
    """Return the bundle's outlines of nuclei that reach into a square of the H&E, each (vertices, 2).

    Parameters
    ----------
    bundle
        Folder of the Xenium output; without outlines in it, none are returned.
    mapping
        Alignment of the H&E.
    corner, side_px
        Upper left corner (x, y) and side of the square, px of the H&E.
    """
    # All four corners, because the square may be turned in the Xenium frame, and outlines are read by a window along its axes.
    corners_um = mapping.to_um(HePixel(corner + side_px * np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])))
    low_um, high_um = corners_um.min(axis=0), corners_um.max(axis=0)
    found = read_outlines(bundle, "nucleus", (low_um[0], low_um[1]), (high_um[0], high_um[1])) or []
    return [mapping.to_he(Micron(polygon)) for _, polygon in found]


def write_overlay(he: HeImage, mapping: Alignment, centroids: Micron, bundle: Path, path: Path) -> None:
    """Write the cells, (N, 2) in µm, on the whole H&E, and cells and nuclei on the 250 µm that hold most cells: PNG, 1200 × 636 px."""
    xy_px = mapping.to_he(centroids)
    square = densest_square(xy_px, CHECK_DETAIL_UM, mapping.mpp_he, he.shape)
    detail = draw_detail(he, xy_px, nuclei_of_bundle(bundle, mapping, *square), *square)
    whole_mpp = mapping.mpp_he * max(he.shape) / PANEL_PX
    whole = with_key(draw_overview(he, xy_px, *square), whole_mpp, "green dots: cells; square: panel on the right")
    write_pair(whole, with_key(detail, mapping.mpp_he * square[1] / PANEL_PX, KEY), path)


def write_shift(
    he: HeImage, mapping: Alignment, centroids: Micron, bundle: Path, found: RegistrationFit, max_shift_um: float, path: Path
) -> None:
    """Write cells, (N, 2) in µm, and nuclei of a shifted slide as aligned and after the best shift: PNG, 1200 × 636 px.

    It shows the 125 µm that hold most cells; if regions are shifted, most cells of the largest of them.
    """
    xy_px = mapping.to_he(centroids)
    fit, shown_px = found.whole, xy_px
    if shifted := found.shifted_regions(max_shift_um):
        region = max(shifted, key=lambda region: region.cells)
        fit, shown_px = region.fit, HePixel(xy_px[region.holds(xy_px * mapping.mpp_he)])
    square = densest_square(shown_px, SHIFT_DETAIL_UM, mapping.mpp_he, he.shape)
    outlines, shift_px = nuclei_of_bundle(bundle, mapping, *square), np.array(fit.shift_um) / mapping.mpp_he
    moved_px, moved = HePixel(xy_px + shift_px), [HePixel(outline + shift_px) for outline in outlines]
    as_aligned = draw_detail(he, xy_px, outlines, *square, "cells as aligned")
    after = draw_detail(he, moved_px, moved, *square, f"cells moved by {fit.distance_um:.1f} micrometres")
    mpp = mapping.mpp_he * square[1] / PANEL_PX
    write_pair(with_key(as_aligned, mpp, KEY), with_key(after, mpp, KEY), path)
