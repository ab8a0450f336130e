"""Black, plain and transparent parts of an H&E are read as glass; all other pixels stay as they are."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.config.image import ImageConfig, SegmentationConfig
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.data.image.reading.glass import over_white
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.windows import open_image
from nuclass_pipeline.data.segmentation.stage import measure_image, segment_nuclei
from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.schemas import CELLS

SIDE = 800
MARGIN = 60


def paint(side=SIDE, seed=0):
    """Draw blurred nuclei on eosin, without any glass."""
    rng = np.random.default_rng(seed)
    dots = np.zeros((side, side))
    dots[tuple(rng.integers(0, side, (2, side**2 // 4000)))] = 1
    nuclei = gaussian_filter(dots, 10)
    od = 0.6 * (nuclei / nuclei.max())[..., None] * (0.65, 0.70, 0.29) + 0.15 * np.array((0.07, 0.99, 0.11))
    return np.clip(245 * 10**-od + rng.normal(0, 1.5, (side, side, 3)), 0, 255).astype(np.uint8)


TISSUE = paint()


def corners():
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, 0), (300, 0), (0, 200)], fill=255)
    draw.polygon([(SIDE, SIDE), (SIDE - 250, SIDE), (SIDE, SIDE - 320)], fill=255)
    return np.asarray(image) > 0


def frame(width):
    mask = np.ones((SIDE, SIDE), bool)
    mask[width:-width, width:-width] = False
    return mask


def disk(y, x, radius):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


SHAPES = {"frame": frame(40), "narrow frame": frame(5), "corners": corners(), "hole": disk(400, 400, 90), "notch": disk(0, 400, 120)}
COLORS = {"black": (0, 0, 0), "nearly black": (9, 6, 12), "grey": (128, 128, 128), "blue": (0, 0, 255)}


def write(path, mask, color, **options):
    pixels = TISSUE.copy()
    pixels[mask] = color
    tifffile.imwrite(path, pixels, photometric="rgb", **{"tile": (256, 256), **options})
    return pixels


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_writer_filled_in_is_glass(tmp_path, shape, color):
    """A hole only if it is black, because tissue may have any other color; a narrow frame has no corner that shows its color alone."""
    mask = SHAPES[shape]
    pixels = write(tmp_path / "he.tif", mask, COLORS[color])
    with HeImage(tmp_path / "he.tif") as he:
        found = he.read(0, 0, 0, SIDE, SIDE)
        bands = np.concatenate([band for _, band in he.bands(0)])
    assert (found == bands).all()
    assert (found[~mask] == pixels[~mask]).all(axis=1).mean() > 0.999
    expected = 255 if shape != "hole" or "black" in color else COLORS[color]
    assert (found[mask] == expected).all()


@pytest.mark.parametrize("mask", [frame(60), corners()], ids=["frame", "corners"])
def test_noise_of_jpeg_and_a_pyramid_change_nothing(tmp_path, mask):
    pixels = TISSUE.copy()
    pixels[mask] = 0
    with tifffile.TiffWriter(tmp_path / "he.tif") as writer:
        options = {"photometric": "rgb", "tile": (256, 256), "compression": "jpeg"}
        writer.write(pixels, subifds=1, **options)
        writer.write(pixels[::2, ::2].copy(), subfiletype=1, **options)
    with HeImage(tmp_path / "he.tif") as he:
        for level, inside in ((0, mask), (1, mask[::2, ::2])):
            found = he.read(level, 0, 0, *inside.shape)
            assert (found[inside] == 255).mean() > 0.99
            assert (found[~inside] != 255).mean() > 0.99


def test_an_image_without_filled_parts_stays_as_it_is(tmp_path):
    dark = TISSUE.copy()
    # Black pigment in the midst, and a black nucleus that the border cuts.
    dark[disk(400, 400, 40)] = (3, 2, 5)
    dark[:20, 300:320] = (10, 5, 20)
    tifffile.imwrite(tmp_path / "he.tif", dark, photometric="rgb")
    with HeImage(tmp_path / "he.tif") as he:
        assert (he.read(0, 0, 0, SIDE, SIDE) == dark).all()
        assert he.notes == []


@pytest.mark.parametrize("kind", ["negative", "fluorescence"])
def test_a_dark_background_is_not_a_frame(tmp_path, kind):
    pixels = 255 - np.where(TISSUE.mean(axis=2, keepdims=True) > 215, 252, TISSUE).astype(np.uint8)
    if kind == "fluorescence":
        glow = gaussian_filter((TISSUE[..., 0] < 150).astype(float), 12)
        pixels = (glow / glow.max())[..., None] * (40, 60, 255)
    pixels = gaussian_filter(pixels, (4, 4, 0)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb")
    with HeImage(tmp_path / "he.tif") as he:
        assert (he.read(0, 0, 0, SIDE, SIDE) == pixels).all()


@pytest.mark.parametrize("kind", ["straight", "premultiplied"])
def test_alpha_is_over_white(tmp_path, kind):
    alpha = np.where(corners(), 0, 255).astype(np.uint8)
    alpha[300:400, 300:400] = 128
    pixels = TISSUE if kind == "straight" else (TISSUE * (alpha[..., None] / 255)).astype(np.uint8)
    extra = "unassalpha" if kind == "straight" else "assocalpha"
    for tile in ((256, 256), None):
        tifffile.imwrite(tmp_path / "he.tif", np.dstack([pixels, alpha]), photometric="rgb", tile=tile, extrasamples=[extra])
        with HeImage(tmp_path / "he.tif") as he:
            found = np.concatenate([band for _, band in he.bands(0)])
            assert (found == he.read(0, 0, 0, SIDE, SIDE)).all()
        assert (found[corners()] == 255).all()
        assert (found[alpha == 255] == TISSUE[alpha == 255]).all()
        half = found[300:400, 300:400].astype(float) - (TISSUE[300:400, 300:400] * 128.0 + 127 * 255) / 255
        assert np.abs(half).max() <= 1


def test_full_alpha_copies_nothing():
    pixels = np.dstack([TISSUE, np.full((SIDE, SIDE), 255, np.uint8)])
    assert np.shares_memory(over_white(pixels, 255), pixels)


def test_a_frame_has_the_fill_value_in_the_image_and_no_nuclei(tmp_path):
    """Before, it was black there, and its edge was cut into nuclei."""
    write(tmp_path / "he.tif", frame(40), 0)
    measure_image(image=tmp_path / "he.tif", mpp=0.25, registration=tmp_path / "registration.json")
    build_image(
        he=tmp_path / "he.tif", registration=tmp_path / "registration.json", config=ImageConfig(fill=243), image=tmp_path / "image.h5"
    )
    with open_image(tmp_path / "image.h5") as file:
        assert (file["level_0"][...][frame(40)] == 243).all()
    assert read_warnings(tmp_path / "image.h5")[0] == "19.0 % of the image is filled with the color (0, 0, 0) and read as glass"
    names = {"cells": "cells.parquet", "labels": "labels.parquet", "nuclei": "nuclei.parquet", "picture": "nuclei.png"}
    segment_nuclei(
        image=tmp_path / "image.h5", config=SegmentationConfig(), gpu=False, **{name: tmp_path / file for name, file in names.items()}
    )
    xy_px = read_table(tmp_path / "cells.parquet", CELLS)[["x_um", "y_um"]].to_numpy() / 0.25
    assert len(xy_px) > 50
    assert (np.minimum(xy_px, SIDE - xy_px) > 40).all()
