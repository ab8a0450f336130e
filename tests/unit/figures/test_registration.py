from pathlib import Path

from nuclass_pipeline.figures import registration
from tests.unit.figures import fakes


def test_every_slide_has_its_verdict_and_shift(tmp_path: Path) -> None:
    figure = registration.draw(registration=fakes.write_registration(tmp_path / "r.parquet", slides=5))
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in shown] == [*fakes.SLIDES, "breast-1", "colon-1"]
    assert shown[2].get_title(loc="right") == "shifted"
    assert shown[2].texts[0].get_text().splitlines()[1] == "best shift (−7.9, +0.9) µm"
