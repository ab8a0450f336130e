"""Coordinate frames, so that the type checker keeps them apart.

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
