"""Cells outside the H&E or on glass have a reason, and no other cell has one."""

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from nuclass_pipeline.data.image.no_image import NO_TISSUE, OUTSIDE, find_reasons, is_blank
from nuclass_pipeline.data.image.pyramid import halve
from nuclass_pipeline.units import ImagePixel

HEIGHT, WIDTH, FACTOR = 1000, 1600, 16


@pytest.fixture
def image():
    """An image whose right half is glass, with a mask of 4 µm."""
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        file["level_0"] = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        file["level_0"].attrs["mpp"] = 0.25
        mask = np.zeros((-(-HEIGHT // FACTOR), WIDTH // FACTOR), np.uint8)
        mask[:, : mask.shape[1] // 2] = 1
        file["tissue"] = mask
        file["tissue"].attrs["mpp"] = 4.0
        yield file


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (0, 0, ""),
        (799, 999.5, ""),
        (-0.1, 500, OUTSIDE),
        (500, HEIGHT, OUTSIDE),
        (WIDTH, 500, OUTSIDE),
        (800 + 111, 500, ""),
        (800 + 113, 500, NO_TISSUE),
        (WIDTH - 1, 0, NO_TISSUE),
        (1e9, -1e9, OUTSIDE),
    ],
)
def test_a_cell_has_an_image_if_its_centre_is_inside_and_its_crop_touches_tissue(image, x, y, reason):
    assert find_reasons(image, ImagePixel(np.array([[x, y]], dtype=float)), 0.25, 224).tolist() == [reason]


def test_a_crop_of_glass_that_the_margin_of_the_mask_touches_has_no_image(image):
    image["level_0"][:, 780:] = 255
    xy_px = ImagePixel(np.array([[891.0, 500], [893, 500], [892.6, -5], [100, 500]]))
    assert find_reasons(image, xy_px, 0.25, 224).tolist() == ["", NO_TISSUE, OUTSIDE, ""]


@pytest.mark.parametrize("levels", [1, 5])
@pytest.mark.parametrize("value", [0, 128, 205])
def test_a_hole_of_one_colour_within_the_mask_has_no_image(image, levels, value):
    """The hole covers columns and rows 200 to 600: a crop of 224 px lies in it from 312 to 488."""
    image["level_0"][200:600, 200:600] = value
    with ThreadPoolExecutor(1) as pool:
        pixels = image["level_0"][...]
        for number in range(1, levels):
            pixels = halve(pixels, pool)
            image[f"level_{number}"] = pixels
            image[f"level_{number}"].attrs["mpp"] = 0.25 * 2**number
    xy_px = ImagePixel(np.array([[311.0, 400], [312, 400], [488, 488], [489, 400], [400, 311], [400, 400], [0, 0], [799, 999]]))
    expected = ["", NO_TISSUE, NO_TISSUE, "", "", NO_TISSUE, "", ""]
    assert find_reasons(image, xy_px, 0.25, 224).tolist() == expected
    # A single pixel of another color, which the means of 16² px hide, is enough to have an image.
    image["level_0"][395, 405] = value + 13
    assert find_reasons(image, xy_px, 0.25, 224).tolist() == [""] * 8


def test_counts_equal_those_of_each_crop(image):
    rng = np.random.default_rng(0)
    mask = rng.random(image["tissue"].shape) < 0.002
    image["tissue"][...] = mask
    xy_px = rng.uniform((0, 0), (WIDTH, HEIGHT), (300, 2))
    fine = np.kron(mask, np.ones((FACTOR, FACTOR), bool))[:HEIGHT]
    reasons = find_reasons(image, ImagePixel(xy_px), 0.25, 224)
    assert 20 < (reasons == NO_TISSUE).sum() < 280
    for (x, y), reason in zip(xy_px, reasons, strict=True):
        inner = fine[max(0, int(y) - 111) : int(y) + 111, max(0, int(x) - 111) : int(x) + 111].any()
        outer = fine[max(0, int(y) - 113) : int(y) + 114, max(0, int(x) - 113) : int(x) + 114].any()
        assert outer or reason == NO_TISSUE
        assert not inner or reason == ""


def test_patches_of_one_colour_are_blank():
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal((238, 236, 240), 1, (224, 224, 3)), 0, 255).astype(np.uint8)
    nucleus = glass.copy()
    # Between the pixels that are looked at first.
    nucleus[101:110, 101:110] = (90, 60, 140)
    assert is_blank(glass)
    assert is_blank(np.zeros((224, 224, 3), np.uint8))
    assert not is_blank(nucleus)
