from pathlib import Path

import numpy as np
import pytest

from nuclass_pipeline.figures import registration
from tests.unit.figures import fakes


def test_every_slide_has_its_verdict_and_shift(tmp_path: Path) -> None:
    figure = registration.draw(registration=fakes.write_registration(tmp_path / "r.parquet", slides=5))
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in shown] == [*fakes.SLIDES, "breast-1", "colon-1"]
    texts = [text.get_text() for text in shown[2].texts]
    assert "shifted" in texts
    assert any(text.splitlines()[1:2] == ["best shift (−7.9, +0.9) µm"] for text in texts)


def test_the_scale_bar_and_the_key_say_what_is_drawn(tmp_path: Path) -> None:
    figure = registration.draw(registration=fakes.write_registration(tmp_path / "r.parquet", slides=2))
    axes = figure.axes[0]
    (bar,) = axes.lines
    # 50 µm of the 280 µm that 220 px show.
    assert np.ptp(bar.get_xdata()) / axes.get_xlim()[1] * 220 == pytest.approx(50 / (280 / 220))
    assert "50 µm" in {text.get_text() for text in axes.texts}
    (key,) = figure.legends
    assert key.get_lines()[0].get_color() == registration.CELL_COLOR
    assert tuple(round(255 * value) for value in registration.CELL_COLOR) == (0, 230, 120)
