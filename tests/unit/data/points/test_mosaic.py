"""Images in a mosaic: an image lies sharp in its context picture, and what is filled is measured."""

import h5py
import numpy as np
import pytest
from PIL import Image

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.points import PointImage
from nuclass_pipeline.data.points.mosaic import create_pyramid, draw, leaves_frame, measure, place_images
from nuclass_pipeline.errors import UserError

CONFIG = ImageConfig(mpp=0.5, local_um=32, context_um=64)


@pytest.fixture
def pair(tmp_path):
    """An image of 40 px at 0.5 µm, which lies 10 px from the left of its context picture of 60 px at 1 µm."""
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(rng.integers(80, 100, (60, 60, 3), np.uint8)).save(tmp_path / "context.png")
    return PointImage("one", "case", tmp_path / "image.png", 0.5, tmp_path / "context.png", 1.0, (10.0, 20.0))


def test_the_image_lies_sharp_in_its_context(pair, tmp_path):
    assert measure(pair, CONFIG) == (120, 120)
    with h5py.File(tmp_path / "mosaic.h5", "w") as file:
        create_pyramid(file, (512, 512), CONFIG)
        draw(file, pair, (256, 256), CONFIG)
        drawn = file["level_0"][256:376, 256:376]
        assert (file["level_0"][:256] == 255).all() and (file["level_0"][376:] == 255).all()
    inside = drawn[40:80, 20:60]
    assert (inside == np.asarray(Image.open(pair.file))).all()
    drawn[40:80, 20:60] = 90
    assert drawn.min() > 60 and drawn.max() < 120


def test_an_image_beside_its_context_is_refused(pair, tmp_path):
    away = PointImage(*[getattr(pair, name) for name in ("name", "case", "file", "mpp", "context_file", "context_mpp")], (55.0, 20.0))
    with h5py.File(tmp_path / "mosaic.h5", "w") as file:
        create_pyramid(file, (512, 512), CONFIG)
        with pytest.raises(UserError, match="one reaches 15 µm over its context picture"):
            draw(file, away, (0, 0), CONFIG)


def test_the_share_outside_is_that_of_the_area():
    frames = np.array([[100, 200, 50, 80]] * 3)
    xy_px = np.array([[240.0, 125.0], [200.0, 125.0], [200.0, 100.0]])
    np.testing.assert_allclose(leaves_frame(xy_px, frames, 20), [0, 0.5, 0.75])


def test_what_is_never_drawn_takes_no_space(tmp_path):
    with h5py.File(tmp_path / "mosaic.h5", "w") as file:
        create_pyramid(file, (200_000, 200_000), CONFIG)
        assert (file["level_0"][199_000:199_010, :10] == 255).all()
    assert (tmp_path / "mosaic.h5").stat().st_size < 1e5


def test_the_layout_is_nearly_a_square():
    _, (height, width) = place_images([(491, 491)] * 90, 1024)
    assert 0.8 < height / width < 1.25
