"""Objects that were segmented and are not nuclei: flakes, folds, ink, fragments. Each is named by what gives it away.

The limits were set on 78 crops of real H&E with experts' points, on which F1 rises by 0.01 to 0.03 (docs/performance.md).
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.measure import regionprops_table
from skimage.segmentation import expand_labels

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.image.stain import haematoxylin_od

RING_UM = 2.0
"""Width of the ring around an object with which it is compared."""
GLASS = 200
"""Pixels whose darkest color is above it are glass."""
MIN_AREA_UM2, MIN_WIDTH_UM = 6.0, 2.0
MIN_NUCLEUS_OD = 0.08
MIN_SOLIDITY = 0.7
"""Smallest share of an object in its convex hull."""
# Beyond all nuclei of the crops, the darkest of which has 1.3.
MAX_OD = 2.0
FLAKE_GLASS, FLAKE_OD = 0.5, 0.6
"""Share of glass around an object, and its density, above which it is a flake."""
OUTSIDE_TISSUE = "outside the tissue"
# Far beyond tissues: muscle and fat have 500, lymph nodes 12,000.
NUCLEI_PER_MM2 = (100, 15_000)
"""Densities of nuclei in tissue without a warning."""
# More than in nine of ten crops of real H&E.
MAX_DROPPED = 0.3
"""Share of dropped objects without a warning."""

KINDS_OF_DEBRIS: Mapping[str, Callable[[pd.DataFrame], "pd.Series[bool]"]] = {
    "small": lambda found: (found["area_um2"] < MIN_AREA_UM2) | (found["width_um"] < MIN_WIDTH_UM),
    "faint": lambda found: found["density"] - found["density_around"] < MIN_NUCLEUS_OD,
    "ragged": lambda found: found["solidity"] < MIN_SOLIDITY,
    # Because haematoxylin absorbs green most, in whatever tone it is stained.
    "of another color": lambda found: found["red"] < found["green"],
    "black": lambda found: found["density"] > MAX_OD,
    "a flake on glass": lambda found: (found["glass_around"] > FLAKE_GLASS) & (found["density"] > FLAKE_OD),
}
"""What gives an object away, in the order in which it is counted → its test."""


def find_debris(pixels: RGB, labels: NDArray[np.int32], mpp: float) -> dict[int, str]:
    """Return the objects of a tile that are not nuclei, label → what gives it away.

    Parameters
    ----------
    pixels, labels
        The tile, (height, width, 3), and its objects, (height, width); 0 is background.
    mpp
        Pixel size, µm.
    """
    found = _measure(pixels, labels, mpp)
    reasons: dict[int, str] = {}
    for name, test in reversed(list(KINDS_OF_DEBRIS.items())):
        reasons |= dict.fromkeys(found.index[test(found)].tolist(), name)
    return reasons


def _measure(pixels: RGB, labels: NDArray[np.int32], mpp: float) -> pd.DataFrame:
    shape = pd.DataFrame(regionprops_table(labels, properties=("label", "area", "axis_minor_length", "solidity"))).set_index("label")  # type: ignore[no-untyped-call]
    ring = np.where(labels > 0, 0, expand_labels(labels, RING_UM / mpp))  # type: ignore[no-untyped-call]
    density = haematoxylin_od(pixels)

    def mean(values: NDArray[np.generic], where: NDArray[np.int32]) -> Floats:
        # Empty where a nucleus has no ring, because others surround it; a comparison with it is never true.
        with np.errstate(invalid="ignore"):
            sums = np.bincount(where.ravel(), values.ravel(), labels.max() + 1)
            return np.asarray(sums / np.bincount(where.ravel(), minlength=labels.max() + 1))[shape.index]

    return pd.DataFrame(
        {
            "area_um2": shape["area"] * mpp**2,
            "width_um": shape["axis_minor_length"] * mpp,
            "solidity": shape["solidity"],
            "density": mean(density, labels),
            "density_around": mean(density, ring),
            "glass_around": mean(pixels.min(axis=2) > GLASS, ring),
            "red": mean(pixels[..., 0], labels),
            "green": mean(pixels[..., 1], labels),
        },
        index=shape.index,
    )


def outside_of(tissue: Booleans, xy_px: Floats) -> Booleans:
    """Return which points, (N, 2) in px of a mask of tissue, (height, width), lie outside of it."""
    x, y = np.clip(xy_px.astype(int), 0, np.array(tissue.shape[::-1]) - 1).T
    return np.asarray(~tissue[y, x])


def describe_debris(reasons: "pd.Series[str]", tissue_mm2: float) -> list[str]:
    """Return how many objects were dropped for what, and what looks wrong about the rest, as sentences.

    Parameters
    ----------
    reasons
        What gives each object away; empty for a nucleus.
    tissue_mm2
        Area of the tissue.
    """
    dropped, nuclei = reasons[reasons != ""], int((reasons == "").sum())
    sentences = []
    if len(dropped):
        counts = ", ".join(f"{count:,} {name}" for name, count in dropped.value_counts().items())
        sentences.append(f"{len(dropped):,} of {len(reasons):,} objects were dropped: {counts}")
    if len(dropped) > MAX_DROPPED * len(reasons):
        sentences.append(f"{100 * len(dropped) / len(reasons):.0f} % of the objects are not nuclei, and more may be: look at nuclei.png")
    density = nuclei / tissue_mm2 if tissue_mm2 else 0.0
    if nuclei and not NUCLEI_PER_MM2[0] <= density <= NUCLEI_PER_MM2[1]:
        sentences.append(f"{density:,.0f} nuclei per mm² of tissue are unlikely: check the pixel size, and look at nuclei.png")
    return sentences
