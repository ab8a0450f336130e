"""Opening of an H&E: the image in the file that is the slide, and what it must be before a pixel is decoded."""

import logging
import math
import shlex
import stat
import struct
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from PIL import Image, ImageOps

from nuclass_pipeline.data.image.reading.pixel_size import Sides, claimed_sides
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, first_line, require

logger = logging.getLogger(__name__)
# Silent, because an error says in one line what is wrong with the file.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# Below the size at which Pillow warns, because decoded it takes three to four bytes a pixel, and twice that while it is converted.
MAX_PHOTO_PX = 80_000_000
"""Largest PNG or JPEG, px²."""
# A third more than the largest slides, 50 × 25 mm at 0.25 µm/px.
MAX_SLIDE_PX = 30_000_000_000
"""Largest slide, px²."""
MAX_SEGMENT_BYTES = 300_000_000
"""Largest tile or strip, decoded."""
MAX_PAGES = 10_000
"""Most images in a TIFF."""
SLACK_BYTES = 65_536
"""How many bytes an encoded tile may be larger than its pixels."""
EXTRAS = ("label", "macro", "thumbnail", "overview", "barcode")
"""Names of images in a file that are not the slide."""
# Far below the share of a slide that is tissue, outside of which scanners may leave out tiles.
MIN_PRESENT = 0.01
"""Lowest share of tiles that are there."""
UPRIGHT = 1
"""Value of the tag Orientation."""
NO_COMPRESSION = 1
PICTURE_CODECS = (6, 7, 33003, 33005, 33007, 34712, 34892)
"""Compressions whose data have a size of their own: JPEG and JPEG 2000."""
CODECS = (NO_COMPRESSION, 5, 8, 32773, 32946, 50000, *PICTURE_CODECS)
"""Compressions that are read: also LZW, Deflate, PackBits and Zstandard."""
SPACES = ("RGB", "MINISBLACK", "YCBCR")
COPY_IMAGE = "Copy the H&E again, or convert it to OME-TIFF."
# By Pillow, because it turns what is stored turned, and converts every number of bits and every color space to RGB.
TO_RGB_TIFF = (
    'python -c "import sys, numpy, tifffile; from PIL import Image; Image.MAX_IMAGE_PIXELS = None; '
    "tifffile.imwrite(sys.argv[2], numpy.asarray(Image.open(sys.argv[1]).convert('RGB')), "
    "photometric='rgb', tile=(256, 256), compression='zlib')\""
)
"""Command that writes an image as a tiled RGB TIFF; its arguments are the two paths."""


@dataclass(frozen=True)
class Source:
    """The slide in an opened file.

    Attributes
    ----------
    axes
        Letter of each axis of a level, such as `YXS`.
    levels
        Arrays of the pyramid, full resolution first.
    pages
        The TIFF page of each level; empty for a PNG or JPEG.
    sides
        Width and height of a pixel that the file claims, µm, or None.
    mpp_problem
        What is wrong with that claim, or an empty text.
    notes
        What a reader of the results should know about the file.
    close
        Function that closes the file.
    """

    axes: str
    levels: Sequence[Any]
    pages: Sequence[tifffile.TiffPage]
    sides: Sides | None
    mpp_problem: str
    notes: tuple[str, ...]
    close: Callable[[], None]

    @property
    def aspect(self) -> float:
        """Height of a pixel over its width, as claimed; 1 without a claim."""
        return self.sides[1] / self.sides[0] if self.sides else 1.0

    @property
    def mpp(self) -> float | None:
        """Pixel size that the file claims, µm: the root of the area of a pixel."""
        # Not the root where they are equal, because its last digit may differ.
        return self.sides and (self.sides[0] if self.aspect == 1 else math.sqrt(prod(self.sides)))


def open_slide(path: Path | str, white: int) -> Source:
    """Open an OME-TIFF, TIFF, SVS, PNG or JPEG; tiles that the file leaves out have the value `white`.

    Raises
    ------
    UserError
        If the file is missing, or no image that can be processed.
    """
    path = require(path)
    # Before it is opened, because opening a FIFO waits until something is written into it.
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "FIFO" if stat.S_ISFIFO(mode) else "device"
        raise UserError(path, "file", f"is a {kind}, not a readable image", "Name the H&E itself.")
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise UserError(path, "file", f"not a readable file ({first_line(error)})", "Check its permissions.") from error
    return _open_photo(path) if start.startswith((b"\x89PNG", b"\xff\xd8\xff")) else _open_tiff(path, white)


def _convert(path: Path) -> str:
    """Return the remedy for an image that must be converted."""
    return f"Convert it: {TO_RGB_TIFF} {shlex.quote(str(path))} he.tif"


def _open_photo(path: Path) -> Source:
    """Read a PNG or JPEG as a whole."""
    to_rgb = _convert(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                if prod(image.size) > MAX_PHOTO_PX:
                    raise UserError(path, "size", f"is {image.width} × {image.height} px, and at most 80 million are read at once", to_rgb)
                if image.mode not in ("RGB", "RGBA", "P"):
                    is_grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;")
                    raise UserError(path, "pixels", f"are {image.mode}, not RGB", "Use the H&E in color." if is_grey else to_rgb)
                turned = image.getexif().get(tifffile.TIFF.TAGS["Orientation"], UPRIGHT) != UPRIGHT
                upright = ImageOps.exif_transpose(image)
                pixels = np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UserError(path, "size", first_line(error), to_rgb) from error
        except (SyntaxError, *READ_ERRORS) as error:
            raise UserError(path, "pixels", f"cannot be decoded ({first_line(error)})", "Copy the H&E again.") from error
    notes = ("it was turned upright, as its EXIF orientation says",) if turned else ()
    return Source("YXS", [pixels], (), None, "", notes, lambda: None)


def _open_tiff(path: Path, white: int) -> Source:
    with ExitStack() as cleanup:
        try:
            tiff = cleanup.enter_context(tifffile.TiffFile(path))
            _check_directories(path, tiff)
            _check_length(path, tiff.series)
            series, note = _slide_of(path, tiff.series)
            for level in series.levels:
                _check_level(path, level)
            arrays = [_as_array(zarr.open(level.aszarr(fillvalue=white), mode="r")) for level in series.levels]
        except READ_ERRORS as error:
            raise UserError(path, "file", f"not a readable TIFF ({first_line(error)})", COPY_IMAGE) from error
        sides, problem = claimed_sides(tiff, series)
        cleanup.pop_all()
    pages = [level.keyframe for level in series.levels]
    return Source(series.axes, arrays, pages, sides, problem, (note,) if note else (), tiff.close)


def _check_directories(path: Path, tiff: tifffile.TiffFile) -> None:
    """Raise if the directories of a file are too many or a loop, which tifffile would read four million times."""
    stream, layout = tiff.filehandle, tiff.tiff
    stream.seek(layout.offsetsize if layout.is_bigtiff else 4)
    seen: set[int] = set()
    while len(field := stream.read(layout.offsetsize)) == layout.offsetsize:
        (place,) = struct.unpack(layout.offsetformat, field)
        if not 0 < place < stream.size:
            return
        if place in seen or len(seen) == MAX_PAGES:
            problem = "its directories are a loop" if place in seen else f"holds more than {MAX_PAGES:,} images"
            raise UserError(path, "file", problem, COPY_IMAGE)
        seen.add(place)
        stream.seek(place)
        (tags,) = struct.unpack(layout.tagnoformat, stream.read(layout.tagnosize))
        stream.seek(place + layout.tagnosize + tags * layout.tagsize)


def _check_length(path: Path, found: Sequence[tifffile.TiffPageSeries]) -> None:
    # Before anything is decoded, because some codecs return grey for the missing rest of a tile instead of an error.
    size = path.stat().st_size
    for page in (page for series in found for level in series.levels for page in level.pages if page is not None):
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
        if end > size:
            raise UserError(path, "file", f"has {size} bytes, and its pixels end at byte {end}", "Copy the H&E again.")


def _as_array(store: Any) -> Any:
    return store["0"] if isinstance(store, zarr.Group) else store


def _slide_of(path: Path, found: Sequence[tifffile.TiffPageSeries]) -> tuple[tifffile.TiffPageSeries, str]:
    """Return the largest RGB image of a file that is not by its name a label or a thumbnail, and a note if it is not the first."""
    if not found:
        raise UserError(path, "file", "not a readable TIFF (it holds no image)", COPY_IMAGE)
    color = [series for series in found if not _not_rgb(series)] or list(found)
    slides = [series for series in color if not any(name in series.name.lower() for name in EXTRAS)] or color
    chosen = max(slides, key=lambda series: prod(_sides(series)))
    if problem := _not_rgb(chosen):
        raise UserError(path, "axes", problem, "Use the H&E image, not one of its channels or a fluorescence image.")
    height, width = _sides(chosen)
    text = f"image {found.index(chosen) + 1} of {len(found)}, {chosen.name!r}, {width} × {height} px, is used as the slide"
    if len(found) > 1:
        logger.info("%s: %s", path, text)
    return chosen, text if found.index(chosen) else ""


def _sides(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape.get("Y", 0)), int(shape.get("X", 0))


def _not_rgb(series: tifffile.TiffPageSeries) -> str:
    """Return why an image is not RGB, or an empty text."""
    shape = dict(zip(series.axes, series.shape, strict=True))
    samples, channels = shape.pop("S", 1), shape.pop("C", 1)
    kept = {axis: size for axis, size in shape.items() if axis not in "YX" and size > 1}
    # Four samples are RGB and alpha; four channels are those of a fluorescence image.
    if "Y" not in shape or "X" not in shape or (samples, channels) not in ((3, 1), (4, 1), (1, 3)):
        return f"{series.axes} with shape {series.shape} is not an RGB image"
    return f"{series.axes} with shape {series.shape} is a stack of {prod(kept.values())} images, not one RGB image" if kept else ""


def _check_level(path: Path, level: tifffile.TiffPageSeries) -> None:
    """Raise the first reason why a level of a pyramid cannot be read; then let no tile decode to another size than its own."""
    page, (height, width) = level.keyframe, _sides(level)
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    size = rows * columns * (page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.CONTIG else 1)
    pages = [one for one in level.pages if one is not None]
    counts = [count for one in pages for count in one.databytecounts]
    present = sum(count > 0 for count in counts)
    space, turned = _name(tifffile.PHOTOMETRIC, page.photometric), page.tags.valueof("Orientation", UPRIGHT)
    is_coded = space == "YCBCR" and page.compression not in PICTURE_CODECS
    to_rgb = _convert(path)
    tile = f"of {columns} × {rows} px"
    checks = (
        (level.dtype != np.uint8, "pixels", f"are {level.dtype}, not uint8", to_rgb),
        (space not in SPACES or is_coded, "pixels", f"are {space}, not RGB", to_rgb),
        (height * width == 0, "size", f"is {width} × {height} px", COPY_IMAGE),
        (height * width > MAX_SLIDE_PX, "size", f"is {width} × {height} px, more than any slide has", COPY_IMAGE),
        (not 0 < size <= MAX_SEGMENT_BYTES, "tiles", f"{tile} are not those of a slide", to_rgb),
        (page.compression not in CODECS, "pixels", f"are compressed by {_name(tifffile.COMPRESSION, page.compression)}", to_rgb),
        (turned != UPRIGHT, "Orientation", f"is {turned}: the pixels are stored turned", to_rgb),
        (present < MIN_PRESENT * len(counts), "pixels", f"are missing: {present} of {len(counts)} tiles are there", COPY_IMAGE),
        (
            any(len(one.dataoffsets) < prod(page.chunked) for one in pages),
            "tiles",
            f"are {len(counts)}, fewer than its size needs",
            COPY_IMAGE,
        ),
        (max(counts, default=0) > 2 * size + SLACK_BYTES, "tiles", f"{tile} have up to {max(counts, default=0)} bytes", COPY_IMAGE),
    )
    for wrong, field, problem, remedy in checks:
        if wrong:
            raise UserError(path, field, problem, remedy)
    if page.compression in PICTURE_CODECS:
        page.decode = _checked(page.decode, (columns, width % columns), (rows, height % rows))


def _name(kind: type[IntEnum], value: int) -> str:
    return kind(value).name if value in list(kind) else str(value)


def _checked(decode: Callable[..., Any], widths: tuple[int, int], heights: tuple[int, int]) -> Callable[..., Any]:
    """Return a decoder of tiles that first reads the size in a tile's own header."""

    def decode_checked(data: bytes | None, index: int, **options: Any) -> Any:
        # Not for a header that lies elsewhere (NDPI), because the data alone are then no picture.
        if data is not None and options.get("jpegheader") is None:
            with Image.open(BytesIO(data)) as header:
                found = header.size
            if found[0] not in widths or found[1] not in heights:
                raise ValueError(f"a tile of {widths[0]} × {heights[0]} px holds {found[0]} × {found[1]} px")
        return decode(data, index, **options)

    return decode_checked
