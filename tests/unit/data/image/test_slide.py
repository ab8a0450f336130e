"""H&E files of every layout, read by region."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.errors import UserError


def smooth_noise(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("axes", ["YXS", "CYX", "1YXS"])
def test_regions_are_the_same_whatever_the_layout(tmp_path, axes):
    pixels = smooth_noise(300, 520)
    data = {"YXS": pixels, "CYX": np.moveaxis(pixels, -1, 0), "1YXS": pixels[None]}[axes]
    tifffile.imwrite(
        tmp_path / "he.ome.tif", data, photometric="rgb", planarconfig="separate" if axes == "CYX" else None, tile=(128, 128), ome=True
    )
    with HeImage(tmp_path / "he.ome.tif") as he:
        assert he.shape == (300, 520)
        assert (he.read(0, 37, 101, 64, 200) == pixels[37:101, 101:301]).all()


def test_svs_reads_by_region(real_data):
    with HeImage(real_data / "he_openslide_cmu1/CMU-1-Small-Region.svs") as he:
        assert he.shape == (2967, 2220)
        assert he.embedded_mpp == pytest.approx(0.499)
        assert he.read(0, 1000, 1000, 50, 60).shape == (50, 60, 3)


@pytest.mark.parametrize("content", [b"", b"II*\0garbage", b"no tiff at all"])
def test_a_broken_image_is_one_line(tmp_path, content):
    (tmp_path / "he.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"he\.tif: file: not a readable TIFF"):
        HeImage(tmp_path / "he.tif")


def test_grey_and_16_bit_images_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "grey.tif", np.zeros((64, 64), np.uint8))
    with pytest.raises(UserError, match="not an RGB image"):
        HeImage(tmp_path / "grey.tif")
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((64, 64, 3), np.uint16), photometric="rgb")
    with pytest.raises(UserError, match="are uint16, not uint8"):
        HeImage(tmp_path / "deep.tif")


@pytest.mark.parametrize("aspect", [2.0, 0.5, 1.3])
def test_a_view_with_square_pixels_is_the_bicubic_of_the_stored_ones(tmp_path, aspect):
    pixels = smooth_noise(300, 520)
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb", tile=(128, 128))
    with HeImage(tmp_path / "he.tif") as he:
        view = he.squared(aspect)
        assert view.shape == (round(300 * aspect**0.5), round(520 / aspect**0.5))
        box = (0, 0, view.shape[1] * aspect**0.5, view.shape[0] / aspect**0.5)
        padded = Image.fromarray(np.pad(pixels, ((0, 2), (0, 2), (0, 0)), "edge"))
        whole = np.asarray(padded.resize(view.shape[::-1], Image.Resampling.BICUBIC, box=box)).astype(int)
        for top, left, height, width in ((0, 0, 90, 60), (37, 101, 64, 200), (100, 50, 1, 1)):
            found = view.read(0, top, left, height, width)
            assert np.abs(found - whole[top : top + height, left : left + width]).max() <= 1
        assert view.read(0, 0, 0, *view.shape).shape == (*view.shape, 3)
        assert (he.shape, he.squared(1.0).shape) == ((300, 520), (300, 520))
