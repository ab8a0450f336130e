"""The pixel size that an H&E file claims: in OME-XML, in the header of an SVS, or as resolution tags."""

import math
from collections.abc import Iterator
from typing import Any

import tifffile

from nuclass_pipeline.data.alignment import MAX_MPP, MIN_MPP
from nuclass_pipeline.io import READ_ERRORS, first_line

OME_UNITS = {"": 1.0, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "Å": 1e-4, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25_400.0}
"""Unit of a length in OME-XML → µm; others, such as `pixel`, are no length."""
TAG_UNITS = {2: 25_400.0, 3: 10_000.0}
"""Value of the tag ResolutionUnit → µm."""
MAX_CLAIM_DIFFERENCE = 0.02
"""Share by which two claims of one file for one side of a pixel may differ."""
# Not 0, because writers round; a nucleus of 8 µm is then 0.08 µm longer, a third of a pixel.
MAX_SQUARE_DIFFERENCE = 0.01
"""Share by which width and height of a pixel may differ and still be taken as equal."""
MAX_ASPECT = 4.0
"""Largest ratio of the sides of a pixel."""

Sides = tuple[float, float]
"""Width and height of a pixel, µm."""


def claimed_sides(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[Sides | None, str]:
    """Return the pixel size that a file claims for one of its images, or None, and what is wrong with the claim, or an empty text."""
    try:
        found = [(sides.get("X", sides.get("Y", 0)), sides.get("Y", sides.get("X", 0))) for sides in _claims(tiff, series) if sides]
    except (SyntaxError, *READ_ERRORS) as error:
        return None, f"its pixel size cannot be read ({first_line(error)})"
    if wrong := [mpp for sides in found for mpp in sides if not math.isfinite(mpp) or mpp <= 0]:
        return None, f"its pixel size is {wrong[0]}, not a positive number"
    for claims in zip(*found, strict=True):
        if max(claims) > (1 + MAX_CLAIM_DIFFERENCE) * min(claims):
            return None, f"its pixel sizes contradict each other: {', '.join(f'{mpp:.4g}' for mpp in dict.fromkeys(claims))} µm"
    if not found:
        return None, ""
    (width, height), ratio = found[0], max(found[0]) / min(found[0])
    if ratio > MAX_ASPECT:
        return None, f"its pixel size is {width:.4g} × {height:.4g} µm, too oblong for a slide"
    return ((width, height) if ratio > 1 + MAX_SQUARE_DIFFERENCE else (width, width)), ""


def _claims(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Iterator[dict[str, float]]:
    """Yield axis → µm, as it is written in each place of the file."""
    yield dict(_ome(tiff, series))
    if tiff.is_svs and "|MPP = " in tiff.pages.first.description:
        yield {"X": float(tiff.pages.first.description.split("|MPP = ")[1].split("|")[0])}
    yield dict(_tags(series))


def _ome(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Iterator[tuple[str, float]]:
    if not tiff.ome_metadata:
        return
    images = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    candidates = [image["Pixels"] for image in (images if isinstance(images, list) else [images])]
    shape = dict(zip(series.axes, series.shape, strict=True))
    # By its size, because a reader may leave out or reorder images; without a match, the first.
    fitting = [pixels for pixels in candidates if (pixels.get("SizeX"), pixels.get("SizeY")) == (shape["X"], shape["Y"])]
    pixels: dict[str, Any] = (fitting or candidates)[0]
    for axis in "XY":
        factor = OME_UNITS.get(str(pixels.get(f"PhysicalSize{axis}Unit", "")).strip())
        if f"PhysicalSize{axis}" in pixels and factor:
            yield axis, float(pixels[f"PhysicalSize{axis}"]) * factor


def _tags(series: tifffile.TiffPageSeries) -> Iterator[tuple[str, float]]:
    tags = series.keyframe.tags
    factor = TAG_UNITS.get(int(tags.valueof("ResolutionUnit", 2)))
    for axis in "XY":
        count, length = tags.valueof(f"{axis}Resolution", (0, 1))
        mpp = factor * length / count if factor and count else 0.0
        # Only if a microscope has it, because most writers put in 72, 96 or 300 dpi for a screen or a printer.
        if MIN_MPP <= mpp <= MAX_MPP:
            yield axis, mpp
