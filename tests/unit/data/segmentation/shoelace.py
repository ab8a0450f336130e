"""Areas of outlines."""

import numpy as np


def polygon_area(polygon):
    """Return the area of a closed polygon, (vertices, 2), by the shoelace formula."""
    # From its first vertex, because products of large float32 coordinates would lose digits.
    x, y = (polygon - polygon[0]).astype(np.float64).T
    return abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2
