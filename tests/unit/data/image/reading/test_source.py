"""Files that are no H&E end in one line; those that are one are read, whatever their format."""

import os
import resource
import shlex
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.data.image.reading.source import TO_RGB_TIFF
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.windows import open_image
from nuclass_pipeline.data.segmentation.stage import measure_image
from nuclass_pipeline.errors import UserError
from tests.unit.data.image.reading.hostile import HOSTILE

PIXELS = np.random.default_rng(0).integers(60, 250, (90, 130, 3), dtype=np.uint8)
"""No H&E, but a picture of its size that no reader takes for glass."""


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tiff_is_one_line_at_once(tmp_path, case):
    path = tmp_path / "he.tif"
    HOSTILE[case](path)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(UserError) as refusal, HeImage(path) as he:
        he.read(0, 0, 0, *he.shape)
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert str(refusal.value).count("\n") == 0
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["folder", "FIFO", "device"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "he.tif"
    {"folder": path.mkdir, "FIFO": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    with pytest.raises(UserError, match=rf"he\.tif: file: is a {kind}, not a readable image"):
        HeImage(path)


def test_a_loop_of_symlinks_is_one_line(tmp_path):
    (tmp_path / "he.tif").symlink_to(tmp_path / "he.tif")
    with pytest.raises(UserError, match=r"he\.tif: file: "):
        HeImage(tmp_path / "he.tif")


def write_series(path, series, **options):
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, pixels, metadata in series:
            space = "rgb" if pixels.shape[-1] in (3, 4) else "minisblack"
            writer.write(pixels, photometric=space, metadata={"Name": name, "axes": "YXS"[: pixels.ndim], **metadata}, **options)


def test_the_largest_rgb_image_is_the_slide(tmp_path, caplog):
    caplog.set_level("INFO")
    label, grey = np.full((60, 80, 3), 9, np.uint8), np.zeros((400, 500), np.uint8)
    sizes = ({"PhysicalSizeX": 9.0, "PhysicalSizeY": 9.0}, {}, {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
    write_series(tmp_path / "he.ome.tif", zip(("label", "dapi", "slide"), (label, grey, PIXELS), sizes, strict=True))
    with HeImage(tmp_path / "he.ome.tif") as he:
        assert he.shape == (90, 130)
        assert (he.read(0, 0, 0, 90, 130) == PIXELS).all()
        assert he.embedded_mpp == 0.5
        assert he.notes == ["image 3 of 3, 'slide', 130 × 90 px, is used as the slide"]
    assert "'slide', 130 × 90 px, is used" in caplog.text


def test_a_macro_that_is_larger_is_not_the_slide(tmp_path):
    write_series(tmp_path / "he.ome.tif", [("Macro image", np.zeros((300, 400, 3), np.uint8), {}), ("", PIXELS, {})])
    with HeImage(tmp_path / "he.ome.tif") as he:
        assert he.shape == (90, 130)


STACKS = {
    "Z": ((4, 90, 130, 3), "ZYXS", "a stack of 4 images"),
    "time": ((3, 90, 130, 3), "TYXS", "a stack of 3 images"),
    "four channels": ((4, 90, 130), "CYX", "is not an RGB image"),
    "ten channels": ((10, 90, 130), "CYX", "is not an RGB image"),
    "channels of a stack": ((3, 3, 90, 130), "ZCYX", "a stack of 3 images"),
}


@pytest.mark.parametrize("case", STACKS)
def test_a_stack_is_one_line(tmp_path, case):
    shape, axes, problem = STACKS[case]
    space = "rgb" if axes.endswith("S") else "minisblack"
    tifffile.imwrite(tmp_path / "he.ome.tif", np.zeros(shape, np.uint8), photometric=space, metadata={"axes": axes})
    with pytest.raises(UserError, match=problem):
        HeImage(tmp_path / "he.ome.tif")


def test_pages_of_a_plain_tiff_are_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "he.tif", np.stack([PIXELS] * 5), photometric="rgb")
    with pytest.raises(UserError, match="stack of 5 images"):
        HeImage(tmp_path / "he.tif")


def photo(mode):
    image = Image.fromarray(PIXELS)
    return image.convert("RGB").quantize(200) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("name", ["he.png", "he.jpg", "he.tif"])
def test_a_png_or_jpeg_is_an_image_by_its_content(tmp_path, name):
    """Whatever it is called; it needs the pixel size of the slide sheet."""
    Image.fromarray(PIXELS).save(tmp_path / name, "PNG" if name == "he.tif" else None, quality=95)
    with pytest.raises(UserError, match="states no pixel size"):
        measure_image(image=tmp_path / name, registration=tmp_path / "registration.json")
    measure_image(image=tmp_path / name, mpp=0.5, registration=tmp_path / "registration.json")
    build_image(he=tmp_path / name, registration=tmp_path / "registration.json", config=ImageConfig(mpp=0.5), image=tmp_path / "image.h5")
    with open_image(tmp_path / "image.h5") as file:
        assert np.abs(file["level_0"][...].astype(int) - PIXELS).mean() < (40 if name == "he.jpg" else 1e-9)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "CMYK"])
def test_a_photo_that_is_not_rgb_is_one_line(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    photo("L" if mode == "I;16" else mode).convert(mode).save(tmp_path / f"he.{suffix}")
    with pytest.raises(UserError, match=rf"he\.{suffix}: pixels: are {mode}, not RGB"):
        HeImage(tmp_path / f"he.{suffix}")


def test_a_palette_and_alpha_are_over_white(tmp_path):
    photo("P").save(tmp_path / "p.png")
    alpha = np.full((90, 130, 1), 255, np.uint8)
    alpha[:40, :50] = 0
    Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / "a.png")
    with HeImage(tmp_path / "p.png") as he:
        assert (he.read(0, 0, 0, 90, 130) == np.asarray(photo("P").convert("RGB"))).all()
    with HeImage(tmp_path / "a.png") as he:
        found = he.read(0, 0, 0, 90, 130)
    assert (found[:40, :50] == 255).all()
    assert (found[40:] == PIXELS[40:]).all()


def test_a_turned_photo_is_turned_upright_and_noted(tmp_path):
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "he.png", exif=exif)
    with HeImage(tmp_path / "he.png") as he:
        assert he.shape == (130, 90)
        assert (he.read(0, 0, 0, 130, 90) == np.rot90(PIXELS, -1)).all()
        assert "EXIF orientation" in he.notes[0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_photo_that_is_cut_is_one_line(tmp_path, suffix, share):
    path = tmp_path / f"he.{suffix}"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"pixels: cannot be decoded"):
        HeImage(path)


def png_of(width, height):
    """Return a PNG whose header claims a size; its pixels are missing."""
    header = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + (13).to_bytes(4)
        + header
        + zlib.crc32(header).to_bytes(4)
        + bytes(4)
        + b"IDAT"
        + zlib.crc32(b"IDAT").to_bytes(4)
    )


@pytest.mark.parametrize("side", [9_300, 12_000, 60_000])
def test_a_photo_that_is_too_large_is_one_line(tmp_path, side):
    (tmp_path / "he.png").write_bytes(png_of(side, side))
    with pytest.raises(UserError, match=r"he\.png: size: .*Convert it: python -c"):
        HeImage(tmp_path / "he.png")


NOT_RGB = {
    "CMYK": lambda path: tifffile.imwrite(path, np.dstack([255 - PIXELS, PIXELS[..., 0] * 0]), photometric="separated"),
    "16 bits": lambda path: tifffile.imwrite(path, PIXELS.astype(np.uint16) * 257, photometric="rgb"),
    "turned": lambda path: tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
}


@pytest.mark.parametrize("case", NOT_RGB)
def test_the_remedy_converts_the_image(tmp_path, case):
    """The command in the message is run as it is, for a path with a blank in it."""
    path = tmp_path / "an H&E.tif"
    NOT_RGB[case](path)
    with pytest.raises(UserError) as refusal:
        HeImage(path)
    command = refusal.value.remedy.removeprefix("Convert it: ")
    assert command == f"{TO_RGB_TIFF} {shlex.quote(str(path))} he.tif"
    python = command.replace("python", sys.executable, 1)
    subprocess.run(python, shell=True, check=True, cwd=tmp_path)
    with HeImage(tmp_path / "he.tif") as he:
        found = he.read(0, 0, 0, *he.shape)
    expected = np.rot90(PIXELS, -1) if case == "turned" else PIXELS
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (10, 10), (200, 3)])
def test_a_tiny_image_is_processed(tmp_path, shape):
    pixels = np.random.default_rng(0).integers((180, 90, 160), (220, 130, 200), (*shape, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb")
    measure_image(image=tmp_path / "he.tif", mpp=0.25, registration=tmp_path / "registration.json")
    build_image(he=tmp_path / "he.tif", registration=tmp_path / "registration.json", config=ImageConfig(), image=tmp_path / "image.h5")
    with open_image(tmp_path / "image.h5") as file:
        assert (file["level_0"][...] == pixels).all()
        assert file["tissue"][...].min() == 1


def test_tiles_that_a_scanner_left_out_are_glass(tmp_path):
    tile = np.tile(PIXELS, (3, 2, 1))[:256, :256]
    tiles = iter([tile, None, None, None])
    tifffile.imwrite(
        tmp_path / "he.tif", tiles, shape=(512, 512, 3), dtype=np.uint8, photometric="rgb", tile=(256, 256), compression="zlib"
    )
    with HeImage(tmp_path / "he.tif") as he:
        for pixels in (he.read(0, 0, 0, 512, 512), np.concatenate([band for _, band in he.bands(0)])):
            assert (pixels[:256, :256] == tile).all()
            assert (pixels[256:] == 255).all()
