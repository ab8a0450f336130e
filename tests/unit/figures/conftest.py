"""The style of the figures, as `draw_figure` sets it."""

from collections.abc import Iterator

import pytest
from matplotlib import rc_context

from nuclass_pipeline.figures.style import RC


@pytest.fixture(autouse=True)
def _house_style() -> Iterator[None]:
    with rc_context(RC):
        yield
