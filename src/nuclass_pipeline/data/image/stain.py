"""Haematoxylin in pixels of an H&E: projected on one stain vector, or unmixed from eosin.

The registration check projects, because it needs no more than the places of the nuclei. The watershed unmixes, because it compares
densities of haematoxylin with a threshold.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

from nuclass_pipeline.data.image.slide import RGB

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
"""Optical density of haematoxylin in red, green and blue (Ruifrok and Johnston 2001)."""
HED_UNIT_OD = 6.0
"""Optical density of scikit-image's unit of a stain, which is that of one part in a million."""


def projected_density(pixels: RGB) -> NDArray[np.float32]:
    """Return the optical density of pixels (height, width, 3), projected on the vector of haematoxylin, (height, width).

    The stains are not unmixed: eosin of density 1 is projected to 0.77, haematoxylin of density 1 to 1.00.
    """
    # One more than the value, because black has no logarithm.
    return np.asarray(-np.log10((pixels.astype(np.float32) + 1) / 256) @ HAEMATOXYLIN.astype(np.float32))


def haematoxylin_od(tile: RGB) -> NDArray[np.float32]:
    """Return the optical density of haematoxylin, (height, width), of pixels (height, width, 3).

    Haematoxylin, eosin and a third stain are unmixed as by Ruifrok and Johnston (2001).
    """
    return np.asarray(rgb2hed(tile)[..., 0] * HED_UNIT_OD, dtype=np.float32)
