"""Coordinate frames, so that the type checker keeps them apart, and lengths of scale bars.

All coordinates are continuous: pixel `i` covers the interval from `i` to `i + 1`, x runs right, y runs down.
"""

from typing import NewType

import numpy as np
from numpy.typing import NDArray

Micron = NewType("Micron", NDArray[np.float64])
"""(N, 2) x, y in µm from the corner of the Xenium morphology image."""

HePixel = NewType("HePixel", NDArray[np.float64])
"""(N, 2) x, y in pixels of the H&E image at full resolution."""

ImagePixel = NewType("ImagePixel", NDArray[np.float64])
"""(N, 2) x, y in pixels of `image.h5`, the H&E at the target pixel size."""


def round_length(longest_um: float) -> float:
    """Return the length of a scale bar: the largest number not above `longest_um` that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(longest_um))
    return float(power * max(step for step in (1, 2, 5) if step * power <= longest_um))
