"""Broken alignments and broken H&E: neither is registered, and no registration or image is left."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.config.image import ImageConfig, RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.data.registration.stage import register_image
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, write_table
from nuclass_pipeline.schemas import CELLS
from tests.unit.data.xenium.test_mutations import PLACES, assert_refused, cut

SIDE_UM, MPP, XENIUM_MPP = 400, 0.5, 0.2125
SCALE = MPP / XENIUM_MPP
SOUND = np.array([[0, -SCALE, SCALE * SIDE_UM / MPP], [SCALE, 0, 0], [0, 0, 1]])
"""Matrix of an H&E that is turned by 90° against the cells."""


def lines(matrix):
    return "\n".join(",".join(map(repr, map(float, row))) for row in matrix)


def paint(xy_um):
    side = round(SIDE_UM / MPP)
    dots, *_ = np.histogram2d(xy_um[:, 1], xy_um[:, 0], bins=side, range=((0, SIDE_UM), (0, SIDE_UM)))
    density = gaussian_filter(dots, 2.5 / MPP)
    pixels = 245 * 10 ** (-(density / density.max())[..., None] * np.array([0.65, 0.70, 0.29]))
    return np.rot90(pixels).astype(np.uint8).copy()


XY = np.random.default_rng(0).uniform(20, SIDE_UM - 20, (600, 2)) * (1, 0.9)
PIXELS = paint(XY)


@pytest.fixture
def slide(tmp_path):
    """A sound slide: arguments of the stage, which writes into its own folder."""
    (tmp_path / "alignment.csv").write_text(lines(SOUND))
    (tmp_path / "experiment.xenium").write_text(json.dumps({"pixel_size": XENIUM_MPP}))
    tifffile.imwrite(tmp_path / "he.tif", PIXELS, photometric="rgb", tile=(256, 256))
    frame = pd.DataFrame({"cell_id": [f"c{i}" for i in range(len(XY))], "x_um": XY[:, 0], "y_um": XY[:, 1]})
    frame = frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, transcripts=1, nucleus_transcripts=1.0, controls=0)
    write_table(frame, tmp_path / "cells.parquet", CELLS)
    names = {"manifest": "experiment.xenium", "cells": "cells.parquet", "image": "he.tif", "alignment": "alignment.csv"}
    return {name: tmp_path / file for name, file in names.items()} | {
        "config": RegistrationConfig(),
        "segmentation": SegmentationConfig(),
        "registration": tmp_path / "out/registration.json",
        "slide": "s",
    }


def assert_slide_refused(slide, name, field, problem):
    assert_refused(lambda: register_image(**slide), slide[name], field, problem, slide["registration"].parent)


def test_the_slide_is_sound(slide):
    register_image(**slide)
    assert read_json(slide["registration"])["verdict"] == "good"


def with_value(row, column, value):
    matrix = [list(map(str, numbers)) for numbers in SOUND]
    matrix[row][column] = value
    return "\n".join(map(",".join, matrix))


def moved(x_px, y_px):
    return lines(np.array([[1, 0, x_px], [0, 1, y_px], [0, 0, 1]]) @ SOUND)


def keypoints(moving, header="fixedX,fixedY,alignmentX,alignmentY", fixed=None):
    points = np.array(moving, dtype=float)
    fixed = points @ SOUND[:2, :2].T + SOUND[:2, 2] if fixed is None else np.array(fixed, dtype=float)
    return "\n".join([header, lines(np.column_stack([fixed, points]))])


CORNERS = [(0, 0), (700, 0), (0, 700), (700, 700)]
ON_A_LINE = {
    "through the corner": [(0, 0), (100, 100), (700, 700)],
    "along x": [(10, 200), (300, 200), (700, 200), (750, 200)],
    "along y": [(10, 20), (10, 300), (10, 700)],
    "aslant": [(10, 20), (110, 220), (210, 420)],
    "all but": [(10, 200), (300, 200.1), (700, 200)],
    "at two places": [(10, 20), (10, 20), (500, 70)],
}
VALUES = {"": "could not convert", "x": "could not convert", "nan": "not finite", "inf": "not finite", "-1e300": "huge"}
ALIGNMENTS = {
    "empty": ("", "matrix", "0 rows"),
    "blank lines": ("\n\n\n", "matrix", "0 rows"),
    "two rows": (lines(SOUND[:2]), "matrix", "2 rows"),
    "four rows": (lines([*SOUND, SOUND[2]]), "matrix", "4 rows"),
    "one row": (lines(SOUND.reshape(1, 9)), "line 1", "has 9 values, not 3"),
    "two columns": (lines(SOUND[:, :2]), "line 1", "has 2 values, not 3"),
    "four columns": (lines(np.column_stack([SOUND, SOUND[:, 2]])), "line 1", "has 4 values, not 3"),
    "a short row": (lines(SOUND[:1]) + "\n1,2\n0,0,1", "line 2", "has 2 values, not 3"),
    "a comma behind": (lines(SOUND).replace("\n", ",\n"), "line 1", "has 4 values, not 3"),
    "decimal commas": (lines(SOUND).replace(".", ","), "line 1", "has 6 values, not 3"),
    "a header": ("a,b,c\n" + lines(SOUND), "line 1", "could not convert"),
    "a page of a web server": ("<html>\n<body>404</body></html>", "line 1", "has 1 values, not 3"),
    "JSON": (json.dumps(SOUND.tolist()), "line 1", "has 9 values, not 3"),
    **{
        f"{value!r} at {row}, {column}": (with_value(row, column, value), f"line {row + 1}", problem)
        for row, column in ((0, 0), (0, 2), (1, 1), (2, 2))
        for value, problem in VALUES.items()
    },
    "zero": (lines(SOUND * 0), "matrix", "3 rows, last"),
    "zero but the last": ("0,0,5\n0,0,5\n0,0,1", "matrix", "singular"),
    "one line": ("1,2,0\n2,4,0\n0,0,1", "matrix", "singular"),
    "one point": ("1e-320,0,0\n0,1e-320,0\n0,0,1", "matrix", "singular"),
    "transposed": (lines(SOUND.T), "matrix", "3 rows, last"),
    "perspective": (lines([*SOUND[:2], (1e-3, 0, 1)]), "matrix", "3 rows, last"),
    "last row is two": (lines([*SOUND[:2], (0, 0, 2)]), "matrix", "3 rows, last"),
    "scaled a thousand times": (lines(np.diag([1e3, 1e3, 1]) @ SOUND), "matrix", "makes a pixel of the H&E 500 µm wide"),
    "scaled to a thousandth": (lines(np.diag([1e-3, 1e-3, 1]) @ SOUND), "matrix", "makes a pixel of the H&E 0.0005 µm wide"),
    "of another slide": (moved(5e4, 0), "matrix", "places every cell outside the H&E"),
    "no keypoint": (keypoints(np.empty((0, 2))), "keypoints", "0 pairs"),
    "one keypoint": (keypoints(CORNERS[:1]), "keypoints", "1 pairs"),
    "two keypoints": (keypoints(CORNERS[:2]), "keypoints", "2 pairs"),
    **{f"keypoints {name}": (keypoints(points), "keypoints", "lie on one line") for name, points in ON_A_LINE.items()},
    "fixed keypoints on a line": (keypoints(CORNERS, fixed=[(i, 2 * i) for i in range(4)]), "matrix", "singular"),
    "keypoints without header": (keypoints(CORNERS, ""), "line 2", "has 4 values, not 3"),
    "keypoints with a column less": (keypoints(CORNERS, "fixedX,fixedY,alignmentX"), "alignmentY", "the column is missing"),
    "keypoints with a huge value": (keypoints(CORNERS) + "\n1,2,1e300,4", "line 6", "huge"),
    "keypoints of another slide": (keypoints(CORNERS, fixed=np.array(CORNERS) * SCALE + 9e4), "matrix", "places every cell outside"),
}


@pytest.mark.parametrize("case", ALIGNMENTS)
def test_a_broken_alignment(slide, case):
    text, field, problem = ALIGNMENTS[case]
    slide["alignment"].write_text(text)
    assert_slide_refused(slide, "alignment", field, problem)


UNREADABLE = {
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "UTF-16": lambda path: path.write_bytes(lines(SOUND).encode("utf-16")),
    "compressed": lambda path: path.write_bytes(gzip.compress(lines(SOUND).encode())),
    "an endless field": lambda path: path.write_text('"' + "1" * 200_000),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: path.unlink() or path.mkdir(),
}


NOT_TEXT = {
    "binary": ("line 3", "not text in UTF-8, UTF-16 or Windows-1252"),
    "compressed": ("file", "it is compressed by gzip, not text"),
    "an endless field": ("line 1", "cannot be read"),
    "missing": ("file", "does not exist"),
    "a folder": ("file", "it is a folder, not a file"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_file(slide, case):
    UNREADABLE[case](slide["image"])
    assert_slide_refused(slide, "image", "file", "does not exist" if case == "missing" else "not a readable")


@pytest.mark.parametrize("case", NOT_TEXT)
def test_an_unreadable_alignment(slide, case):
    UNREADABLE[case](slide["alignment"])
    assert_slide_refused(slide, "alignment", *NOT_TEXT[case])


X_MIDDLE, Y_MIDDLE = ((XY.min(axis=0) + XY.max(axis=0)) / XENIUM_MPP).tolist()
MISPLACED = {
    "mirrored": np.array([[-1, 0, X_MIDDLE], [0, 1, 0], [0, 0, 1]]),
    "upside down": np.array([[1, 0, 0], [0, -1, Y_MIDDLE], [0, 0, 1]]),
    "turned": np.array([[-1, 0, X_MIDDLE], [0, -1, Y_MIDDLE], [0, 0, 1]]),
    "smaller by a fifth": np.diag([0.8, 0.8, 1]),
    "inverted": np.linalg.inv(SOUND @ SOUND),
}


OTHER_PIXELS = {
    "of another slide": paint(np.random.default_rng(9).uniform(20, SIDE_UM - 20, (600, 2))),
    "white": np.full_like(PIXELS, 255),
    "black": np.zeros_like(PIXELS),
    "a negative": 255 - PIXELS,
}


@pytest.mark.parametrize("case", MISPLACED | OTHER_PIXELS)
def test_tissue_that_lies_on_other_tissue_stops(slide, case):
    """All files can be read, but the verdict shows it."""
    slide["alignment"].write_text(lines(MISPLACED.get(case, np.eye(3)) @ SOUND))
    tifffile.imwrite(slide["image"], OTHER_PIXELS.get(case, PIXELS), photometric="rgb", tile=(256, 256))
    with pytest.raises(UserError):
        register_image(**slide)
    assert [path.name for path in slide["registration"].parent.iterdir()] == ["registration_failed.png"]


FRAMED = np.pad(PIXELS[60:-60, 60:-60], ((60, 60), (60, 60), (0, 0)))
CORNERED = PIXELS.copy()
CORNERED[np.add.outer(np.arange(800), np.arange(800)) < 350] = 0
CLEAR = np.dstack([CORNERED, np.where(CORNERED.any(axis=2), 255, 0).astype(np.uint8)])


@pytest.mark.parametrize("pixels", [FRAMED, CORNERED, CLEAR], ids=["a black frame", "a black corner", "a transparent corner"])
def test_what_a_writer_filled_in_does_not_blind_the_registration(slide, pixels):
    tifffile.imwrite(slide["image"], pixels, photometric="rgb", tile=(256, 256))
    register_image(**slide)
    record = read_json(slide["registration"])
    assert record["verdict"] == "good"
    assert record["correlation"] > 0.4


GREY = PIXELS[..., 0].copy()
KINDS = {
    "grey": (GREY, {}, "axes", "YX with shape (800, 800) is not an RGB image"),
    "grey in an OME-TIFF": (GREY, {"ome": True}, "axes", "is not an RGB image"),
    "a stack": (np.stack([GREY] * 3), {"metadata": {"axes": "ZYX"}, "ome": True}, "axes", "is not an RGB image"),
    "black and white": (GREY > 99, {}, "axes", "is not an RGB image"),
    "palette": (GREY, {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "axes", "is not an RGB image"),
    "two channels": (PIXELS[..., :2].copy(), {"planarconfig": "contig", "photometric": "minisblack"}, "axes", "is not an RGB image"),
    "five channels": (np.stack([GREY] * 5), {"metadata": {"axes": "CYX"}, "ome": True}, "axes", "is not an RGB image"),
    "floats": (PIXELS.astype(np.float32), {"photometric": "rgb"}, "pixels", "are float32"),
    "16 bits": (PIXELS.astype(np.uint16) * 257, {"photometric": "rgb"}, "pixels", "are uint16"),
    "inks": (np.dstack([PIXELS, GREY]), {"photometric": "separated", "planarconfig": "contig"}, "pixels", "are SEPARATED"),
    "Lab": (PIXELS, {"photometric": "cielab"}, "pixels", "are CIELAB"),
}


@pytest.mark.parametrize("case", KINDS)
def test_an_image_that_is_not_rgb(slide, case):
    pixels, options, field, problem = KINDS[case]
    tifffile.imwrite(slide["image"], pixels, **options)
    assert_slide_refused(slide, "image", field, problem)


CODECS = (None, "zlib", "lzw", "zstd", "packbits", "jpeg", "jpeg2000")


@pytest.mark.parametrize("share", (*PLACES, 1))
@pytest.mark.parametrize("codec", CODECS)
def test_an_image_that_is_cut(slide, codec, share):
    tifffile.imwrite(slide["image"], PIXELS, photometric="rgb", tile=(256, 256), compression=codec)
    cut(slide["image"], share)
    assert_slide_refused(slide, "image", "file", "and its pixels end at byte")


def test_tiles_without_width(slide):
    with tifffile.TiffFile(slide["image"], mode="r+") as tiff:
        tiff.pages[0].tags["TileWidth"].overwrite(0)
    assert_slide_refused(slide, "image", "file", "not a readable TIFF")


SPOILT = {
    **{(codec, "start"): (0, 0.1, b"\0") for codec in CODECS[1:]},
    **{(codec, "middle"): (0.4, 0.6, b"\0") for codec in CODECS[1:] if codec not in ("jpeg", "jpeg2000")},
    **{(codec, "middle is 255"): (0.4, 0.6, b"\xff") for codec in CODECS[1:]},
}
"""Spans of a tile and the byte written there; JPEG has no checksum, so zeros in its middle still decode to a picture."""


def spoil_tile(path, first, last, byte):
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
    content = bytearray(path.read_bytes())
    start, length = page.dataoffsets[5], page.databytecounts[5]
    span = slice(start + int(first * length), start + int(last * length))
    content[span] = byte * (span.stop - span.start)
    path.write_bytes(content)


@pytest.mark.parametrize(("codec", "part"), SPOILT)
def test_a_tile_in_the_middle_is_spoilt(slide, codec, part):
    tifffile.imwrite(slide["image"], PIXELS, photometric="rgb", tile=(256, 256), compression=codec, ome=True)
    spoil_tile(slide["image"], *SPOILT[codec, part])
    assert_slide_refused(slide, "image", "pixels at row 256", "cannot be decoded")


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_tile_of_the_finest_level_is_spoilt(slide, codec):
    """The registration was made before; the image is refused."""
    with tifffile.TiffWriter(slide["image"]) as writer:
        options = {"photometric": "rgb", "tile": (256, 256), "compression": codec}
        writer.write(PIXELS, subifds=1, **options)
        writer.write(PIXELS[::2, ::2].copy(), subfiletype=1, **options)
    register_image(**(slide | {"config": RegistrationConfig(windows=0)}))
    spoil_tile(slide["image"], 0, 0.1, b"\0")
    pyramid = slide["registration"].parent / "image/image.h5"
    arguments = {"he": slide["image"], "registration": slide["registration"], "config": ImageConfig(), "image": pyramid}
    assert_refused(lambda: build_image(**arguments), slide["image"], "pixels at row 256", "cannot be decoded", pyramid.parent)


CLAIM = 'PhysicalSizeX="0.5"'
CLAIMS = {
    "text": (CLAIM, 'PhysicalSizeX="abc"', "could not convert"),
    "NaN": (CLAIM, 'PhysicalSizeX="NaN"', "is nan"),
    "negative": (CLAIM, 'PhysicalSizeX="-.5"', "is -0.5"),
    "no image": ("<Image ", "<Imagx ", "mismatched tag"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_pixel_size_that_nobody_needs_is_a_warning(slide, case, caplog):
    old, new, problem = CLAIMS[case]
    tifffile.imwrite(slide["image"], PIXELS, photometric="rgb", ome=True, metadata={"axes": "YXS", "PhysicalSizeX": 0.5})
    content = slide["image"].read_bytes()
    assert old.encode() in content
    slide["image"].write_bytes(content.replace(old.encode(), new.encode()))
    register_image(**slide)
    assert read_json(slide["registration"])["embedded_mpp"] is None
    assert problem in caplog.text


METADATA = {
    "width is text": ('SizeX="800"', 'SizeX="abc"', "file", "not a readable TIFF"),
    "order misspelt": ("DimensionOrder=", "DimensionOrdex=", "file", "DimensionOrder"),
    "order unknown": ('DimensionOrder="XYC', 'DimensionOrder="QQQ', "file", "SizeQ"),
}


@pytest.mark.parametrize("case", METADATA)
def test_broken_metadata(slide, case):
    old, new, field, problem = METADATA[case]
    tifffile.imwrite(slide["image"], PIXELS, photometric="rgb", ome=True, metadata={"axes": "YXS", "PhysicalSizeX": 0.5})
    content = slide["image"].read_bytes()
    assert old.encode() in content
    slide["image"].write_bytes(content.replace(old.encode(), new.encode()))
    assert_slide_refused(slide, "image", field, problem)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_color_is_missing(slide, share):
    planes = np.moveaxis(PIXELS, -1, 0).copy()
    options = {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}, "tile": (256, 256), "compression": "zlib"}
    tifffile.imwrite(slide["image"], planes, **options)
    cut(slide["image"], share)
    assert_slide_refused(slide, "image", "file", "and its pixels end at byte")


def test_a_pixel_size_that_is_not_a_number_in_an_svs(slide, caplog):
    text = "Aperio Image Library v1\n800x800 |AppMag = 20|MPP = about 0.5"
    tifffile.imwrite(slide["image"], PIXELS, photometric="rgb", tile=(256, 256), description=text, metadata=None)
    register_image(**slide)
    assert "its pixel size cannot be read (could not convert" in caplog.text
