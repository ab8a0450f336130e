"""Windows cut from an image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclass_pipeline.data.image.windows import cut_window


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-90, 190), y=st.floats(-90, 150), side=st.sampled_from([8, 31, 64]))
def test_windows_equal_the_padded_image(x, y, side):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    margin = 200
    padded = np.full((60 + 2 * margin, 100 + 2 * margin, 3), 255, dtype=np.uint8)
    padded[margin:-margin, margin:-margin] = pixels
    top, left = round(y - side / 2) + margin, round(x - side / 2) + margin
    window, outside = cut_window(pixels, x, y, side, 255)
    assert (window == padded[top : top + side, left : left + side]).all()
    assert outside == (top < margin or left < margin or top + side > margin + 60 or left + side > margin + 100)
