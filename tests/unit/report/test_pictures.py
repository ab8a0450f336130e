import base64
import io

import numpy as np
import pytest
from PIL import Image

from nuclass_pipeline.report.pictures import MAX_PNG_BYTES, MAX_WEBP_PX, PREVIEW_PX, embed_picture, embed_preview
from tests.unit.report.study import write_picture


def decode(uri):
    head, _, data = uri.partition(",")
    return head, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_small_picture_is_as_it_was(tmp_path):
    path = write_picture(tmp_path / "a.png")
    head, _ = decode(embed_picture(path))
    assert head == "data:image/png;base64"
    assert base64.b64decode(embed_picture(path).partition(",")[2]) == path.read_bytes()


def test_a_large_picture_keeps_its_pixels_and_is_stored_smaller(tmp_path):
    path = write_picture(tmp_path / "a.png", (700, 300))
    assert path.stat().st_size > MAX_PNG_BYTES
    head, picture = decode(embed_picture(path))
    assert head == "data:image/webp;base64"
    assert picture.size == (700, 300)
    assert len(embed_picture(path)) < path.stat().st_size
    difference = np.asarray(picture.convert("L"), float) - np.asarray(Image.open(path).convert("L"), float)
    assert np.abs(difference).mean() < 8


def test_a_picture_too_long_for_the_format_stays_png(tmp_path):
    path = write_picture(tmp_path / "a.png", (4, MAX_WEBP_PX + 1))
    path.write_bytes(path.read_bytes() + bytes(MAX_PNG_BYTES))
    assert embed_picture(path).startswith("data:image/png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_preview_is_small(tmp_path, mode):
    Image.new(mode, (2 * PREVIEW_PX, PREVIEW_PX)).save(tmp_path / "a.png")
    assert decode(embed_preview(tmp_path / "a.png"))[1].size == (PREVIEW_PX, PREVIEW_PX // 2)
