"""Alignments that cannot be right, by their numbers alone, and what may have gone wrong with one that places the cells badly."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nuclass_pipeline.data.alignment import MAX_MPP, MIN_MPP, Alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import QC_MPP, correlate_shifts, sharpen
from nuclass_pipeline.data.registration.fit import slide_density
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.units import HePixel, Micron

MIN_INSIDE = 0.5
"""Share of the cells that must lie on the H&E."""
# 10 %, because tissue that was stained, washed and covered again is stretched by a few percent at most.
MAX_STRETCH = 1.1
"""Ratio of the scales of two directions, above which an alignment is refused."""
MORE_INSIDE = 0.25
"""Share of the cells by which a mistake must place more of them on the H&E to be named."""


@dataclass(frozen=True)
class Mistake:
    """A mistake that is made with alignments or cells.

    Attributes
    ----------
    sign
        What it looks like.
    undo
        Alignment and cells → as they should have been.
    """

    sign: str
    undo: Callable[[Alignment, Micron], tuple[Alignment, Micron]]


MISTAKES = (
    Mistake("the matrix looks inverted", lambda mapping, xy: (mapping.inverse, xy)),
    # One sentence for both, because a matrix that maps to µm places cells as one does that is given cells in pixels.
    Mistake("the matrix or the cells mix up µm and pixels", lambda mapping, xy: (mapping, Micron(xy * mapping.xenium_mpp))),
    Mistake("the cells look as if in mm instead of µm", lambda mapping, xy: (mapping, Micron(xy * 1000))),
    Mistake("x and y of the cells look exchanged", lambda mapping, xy: (mapping, Micron(xy[:, ::-1]))),
)


def refuse_impossible(he: HeImage, mapping: Alignment, centroids: Micron, max_shift_um: float, file: Path) -> None:
    """Check that an alignment can be right, whatever the H&E shows.

    Parameters
    ----------
    he, mapping, centroids
        The H&E, its alignment, and the cells, (N, 2) in µm of the Xenium frame.
    max_shift_um
        Largest distance of a keypoint.
    file
        Alignment file, or the H&E where there is none.

    Raises
    ------
    UserError
        If a keypoint lies off the map, directions differ in scale, or no cell lies on the H&E.
    """
    if mapping.worst_um > max_shift_um:
        problem = f"lies off the others: a pair is {mapping.worst_um:.1f} µm off the map, at most {max_shift_um:g} are allowed"
        remedy = "Set this pair again in Xenium Explorer, or remove its line, or raise registration.max_shift_um."
        raise UserError(file, f"keypoints, line {mapping.worst_line}", problem, remedy)
    # Rounded, because 10 % written with few digits is a hair more.
    if round(mapping.stretch, 6) > MAX_STRETCH:
        pixel = "a pixel of the H&E is {:.3f} × {:.3f} µm".format(*mapping.axes_mpp)
        problem = f"the scales of two directions differ by {100 * (mapping.stretch - 1):.0f} %: {pixel}"
        remedy = "Align the H&E again; if its pixels are not square, state both sides in the file (docs/data.md)."
        raise UserError(file, "matrix", problem, remedy)
    if fraction_inside(mapping.to_he(centroids), he.shape) == 0:
        problem = f"places every cell outside the H&E{likely_mistake(he, mapping, centroids)}"
        raise UserError(file, "matrix", problem, "Check that the alignment belongs to this H&E and this bundle.")


def square_pixels(he: HeImage, mapping: Alignment) -> tuple[HeImage, Alignment]:
    """Return the H&E with square pixels, and its alignment with the aspect of a stored pixel.

    The aspect is what the file claims, if that explains the scales of the alignment, else 1.
    """
    # Not by the alignment alone, because tissue that is stretched by a few percent gives two scales too.
    claimed = replace(mapping, aspect=he.embedded_aspect)
    explains = claimed.squared.stretch < mapping.stretch and round(claimed.squared.stretch, 6) <= MAX_STRETCH
    stored = claimed if explains else mapping
    return he.squared(stored.aspect), stored


def fraction_inside(xy_px: HePixel, shape: tuple[int, int]) -> float:
    """Return the share of points, (N, 2), that lie within an image of `shape` (height, width)."""
    return float(((xy_px >= 0) & (xy_px < (shape[1], shape[0]))).all(axis=1).mean())


def likely_mistake(he: HeImage, mapping: Alignment, centroids: Micron, search_um: float | None = None) -> str:
    """Return in words which mistake would explain cells that are placed badly; empty if none does.

    A mistake does if, without it, most cells lie on the H&E where few did. With `search_um`, the largest shift searched, it also does if
    the cells then correlate.
    """
    before = fraction_inside(mapping.to_he(centroids), he.shape)
    for mistake in MISTAKES:
        changed, xy_um = mistake.undo(mapping, centroids)
        if not MIN_MPP <= changed.mpp_he <= MAX_MPP:
            continue
        inside = fraction_inside(changed.to_he(xy_um), he.shape)
        if inside < MIN_INSIDE:
            continue
        if inside > before + MORE_INSIDE or (search_um and _correlates(he, changed, xy_um, search_um)):
            return f"; {mistake.sign}: without that, {100 * inside:.0f} % of the cells lie on it"
    return ""


def _correlates(he: HeImage, mapping: Alignment, centroids: Micron, search_um: float) -> bool:
    return correlate_shifts(sharpen(slide_density(he, mapping)), mapping.to_image(centroids, QC_MPP), search_um).is_clear
