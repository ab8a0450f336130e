"""The mask of tissue: where it is on drawn and real slides, what looks wrong, and its picture."""

import json

import h5py
import numpy as np
import pytest
from PIL import Image

from nuclass_pipeline.data.image.pictures import KEY_PX
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.tissue import OUTLINE, find_tissue, image_warnings, read_tissue, write_tissue
from nuclass_pipeline.errors import UserError

EOSIN, NUCLEUS = (225, 160, 195), (110, 80, 150)


def slide(height=300, width=400, glass=244):
    """Return pixels at 4 µm/px: tissue from row 80 to 220 and column 100 to 300, a lumen, and a speck of dust."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), glass, np.float64)
    tissue = np.zeros((height, width), bool)
    tissue[80:220, 100:300] = True
    pixels[tissue] = EOSIN
    pixels[tissue & (rng.random((height, width)) < 0.3)] = NUCLEUS
    pixels[120:126, 150:156] = glass
    pixels[20:24, 20:24] = 60
    return np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8), tissue


@pytest.mark.parametrize("glass", [244, 255, 215])
def test_the_mask_is_the_tissue_and_12_um_around_it(glass):
    pixels, tissue = slide(glass=glass)
    mask = find_tissue(pixels, 4.0)
    assert mask[tissue].all()
    assert not mask[20:24, 20:24].any()
    assert tissue.mean() < mask.mean() < 1.15 * tissue.mean()


@pytest.mark.parametrize(("value", "share"), [(255, 0), (240, 0), (0, 1)])
def test_an_image_of_one_value_is_all_glass_or_none(value, share):
    assert find_tissue(np.full((60, 80, 3), value, np.uint8), 4.0).mean() == share


def test_an_image_that_is_all_tissue_has_no_glass():
    pixels, _ = slide()
    assert find_tissue(pixels[90:210, 160:290], 4.0).all()


def test_a_real_slide(real_data):
    with HeImage(real_data / "he_openslide_cmu1/CMU-1-Small-Region.svs") as he:
        pixels = he.read(0, 0, 0, *he.shape)[::8, ::8]
    mask = find_tissue(pixels, 4.0)
    assert 0.35 < mask.mean() < 0.5
    # Glass at the left and right, the gland in the midst, a crumb of debris at the right.
    assert not mask[300:, :50].any()
    assert not mask[50:100, 230:].any()
    assert mask[280, 110]
    assert image_warnings(pixels, mask) == []
    assert "BGR" in image_warnings(pixels[..., ::-1], mask)[0]


def test_what_looks_wrong_is_a_sentence():
    pixels, tissue = slide()
    assert image_warnings(pixels, tissue) == []
    assert image_warnings(pixels, np.zeros_like(tissue)) == ["tissue covers 0.00 % of the slide: look at tissue.png"]
    assert image_warnings(pixels, np.ones_like(tissue))[0] == "tissue covers 100.00 % of the slide: look at tissue.png"
    negative = image_warnings(255 - pixels, tissue)
    assert negative == ["the tissue absorbs green less than red or blue: it is not stained as an H&E is"]


@pytest.mark.parametrize("noise", [0, 3])
def test_a_grey_h_and_e_has_no_color(noise):
    pixels, tissue = slide()
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) + np.random.default_rng(1).integers(-noise, noise + 1, pixels.shape)
    no_color = ["the tissue has no color: the H&E looks converted to grey"]
    assert image_warnings(grey.clip(0, 255).astype(np.uint8), tissue) == no_color
    assert image_warnings((255 - grey).clip(0, 255).astype(np.uint8), tissue) == no_color
    faded = 255 - (255 - pixels) * 0.6
    assert image_warnings(faded.astype(np.uint8), tissue) == []


@pytest.fixture
def image(tmp_path):
    pixels, tissue = slide()
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file.create_dataset("level_0", data=np.repeat(np.repeat(pixels, 4, 0), 4, 1)).attrs["mpp"] = 1.0
        yield file, tissue


def test_mask_share_and_warnings_are_stored_and_drawn(image, tmp_path):
    file, tissue = image
    assert write_tissue(file, ["a note"], tmp_path / "tissue.png") == ["a note"]
    assert (file["tissue"].dtype, file["tissue"].shape, file["tissue"].attrs["mpp"]) == (np.uint8, (300, 400), 4.0)
    mask, mpp = read_tissue(file)
    assert mpp == 4.0
    assert mask[tissue].all()
    assert file.attrs["tissue_share"] == pytest.approx(mask.mean())
    assert json.loads(file.attrs["warnings"]) == ["a note"]
    with Image.open(tmp_path / "tissue.png") as picture:
        assert picture.size == (1200, 900 + KEY_PX)
        rows, columns = np.nonzero((np.asarray(picture) == OUTLINE).all(axis=2))
    assert (rows.min(), columns.min()) == pytest.approx((3 * 76, 3 * 96), abs=6)
    assert (rows.max(), columns.max()) == pytest.approx((3 * 224, 3 * 304), abs=6)


def test_an_image_without_mask_is_one_line(image):
    with pytest.raises(UserError, match=r"image\.h5: tissue: the dataset is missing"):
        read_tissue(image[0])
