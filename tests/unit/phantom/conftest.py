"""Slides of the phantom, made once."""

from pathlib import Path

import pytest

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.phantom.layout import Layout
from nuclass_pipeline.phantom.tissue import Cells
from tests.unit.phantom.slides import CLASSES, DEMO, Slide, lay, make


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Slide]:
    return {organ: make(tmp_path_factory.mktemp(organ), organ, 5) for organ in CLASSES}


@pytest.fixture(params=sorted(CLASSES))
def slide(request: pytest.FixtureRequest, slides: dict[str, Slide]) -> Slide:
    return slides[request.param]


@pytest.fixture
def real_bundle(real_data: Path) -> Path:
    return real_data / "xoa3.0_mouse_ileum_tiny"


@pytest.fixture(scope="session")
def demo() -> dict[tuple[str, int], tuple[Layout, Cells]]:
    """Return the slides of the demo at full size."""
    return {(organ, seed): lay(organ, seed, SyntheticConfig().cells) for organ, seed in DEMO}


@pytest.fixture(params=DEMO, ids=str)
def key(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param


@pytest.fixture
def tissue(demo, key) -> tuple[Layout, Cells]:
    return demo[key]
