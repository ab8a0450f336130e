"""Images of an H&E alone: TIFF and SVS that are damaged, hostile or of another kind, through the jobs of a slide of kind `image`."""
# ruff: noqa: E501 -- a case is a row of a table.

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wrong_inputs.case import Case, Step, both, cut, fifo, link, nothing, write
from benchmarks.wrong_inputs.cases.registration import _frame

FILE = "he.ome.tif"
OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{body}</OME>'


def _pixels(number: int, sizes: str, extra: str = "") -> str:
    return (
        f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint8" {sizes} SizeZ="1" SizeT="1" {extra}>'
        f'<Channel ID="Channel:{number}:0" SamplesPerPixel="3"/><TiffData IFD="{number}" PlaneCount="1"/></Pixels></Image>'
    )


def chain(mpp: float | None = None, nuclei: bool = True) -> Step:
    """Return the jobs of a slide of kind `image`: its pixel size, its pyramid, its nuclei."""

    def run() -> None:
        from nuclass_pipeline.config.image import ImageConfig, SegmentationConfig
        from nuclass_pipeline.data.image.pyramid import build_image
        from nuclass_pipeline.data.segmentation.stage import measure_image, segment_nuclei
        from nuclass_pipeline.runtime import job

        out = Path("out")
        made = Path("made")
        out.mkdir()
        made.mkdir()
        with job("job.log", 1):
            measure_image(image=Path(FILE), mpp=mpp, registration=made / "registration.json")
            build_image(he=Path(FILE), registration=made / "registration.json", config=ImageConfig(), image=made / "image.h5")
            if nuclei:
                files = {"cells": out / "cells.parquet", "labels": out / "labels.parquet", "nuclei": out / "nuclei.parquet"}
                segment_nuclei(image=made / "image.h5", config=SegmentationConfig(), gpu=False, picture=out / "nuclei.png", **files)

    return run


def source() -> Any:
    """Return the pixels of the right image."""
    import tifffile

    return tifffile.imread(FILE)


def image(change: Callable[[Any], Any] = lambda pixels: pixels, **options: Any) -> Step:
    """Return the step that writes the image anew, by default as an RGB TIFF in tiles of 256 px with a pixel size of 0.2738 µm."""
    settings = {"photometric": "rgb", "tile": (256, 256), "resolution": (1e4 / 0.2738, 1e4 / 0.2738), "resolutionunit": 3, **options}

    def run() -> None:
        import tifffile

        pixels = np.ascontiguousarray(change(source()))
        Path(FILE).unlink()
        tifffile.imwrite(FILE, pixels, **{key: value for key, value in settings.items() if value is not None})

    return run


def tag(code: int, value: Any, page: int = 0) -> Step:
    """Return the step that sets a tag of the plain image."""

    def run() -> None:
        import tifffile

        with tifffile.TiffFile(FILE, mode="r+") as file:
            file.pages[page].tags[code].overwrite(value)  # type: ignore[union-attr]

    return run


def ome(body: str) -> Step:
    """Return the step that writes the image with an OME description."""
    return image(description=OME.format(body=body), metadata=None, resolution=None, resolutionunit=None)


def tiles(shape: tuple[int, int], encoded: Callable[[], bytes], compression: str = "jpeg", tile: int = 256) -> Step:
    """Return the step that writes an image whose tiles are all the same bytes."""

    def run() -> None:
        import tifffile

        Path(FILE).unlink()
        count = -(-shape[0] // tile) * -(-shape[1] // tile)
        content = encoded()
        tifffile.imwrite(
            FILE, (content for _ in range(count)), shape=(*shape, 3), dtype="uint8", photometric="rgb" if compression != "jpeg" else "ycbcr",
            tile=(tile, tile), compression=compression, resolution=(4e4, 4e4), resolutionunit=3, bigtiff=True,
        )  # fmt: skip

    return run


def _jpeg(side: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg_encode(np.full((side, side, 3), 200, np.uint8)))


def _bomb() -> bytes:
    import zlib

    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(3000)) + packer.flush()


def series(*sizes: int) -> Step:
    """Return the step that writes an OME-TIFF whose series are a label, a macro and the slide, in this order of page."""

    def run() -> None:
        import tifffile

        pixels = source()
        Path(FILE).unlink()
        with tifffile.TiffWriter(FILE, ome=True) as file:
            for size in sizes:
                picture = pixels if size == 0 else np.full((size, size, 3), 220, np.uint8)
                file.write(picture, photometric="rgb", metadata={"axes": "YXS", "PhysicalSizeX": 0.2738, "PhysicalSizeY": 0.2738})

    return run


def ifd_loop() -> None:
    """Let the directory of the plain image follow itself."""
    content = bytearray(Path(FILE).read_bytes())
    first = struct.unpack("<I", content[4:8])[0]
    entries = struct.unpack("<H", content[first : first + 2])[0]
    content[first + 2 + 12 * entries : first + 6 + 12 * entries] = struct.pack("<I", first)
    Path(FILE).write_bytes(content)


def _size(width: int) -> Callable[[], None]:
    def check() -> None:
        import json

        found = json.loads(Path("made/registration.json").read_text())
        assert found["width_px"] == width, f"width {found['width_px']}, not {width}"

    return check


def _mpp(expected: float) -> Callable[[], None]:
    def check() -> None:
        import json

        found = json.loads(Path("made/registration.json").read_text())["mpp_he"]
        assert abs(found - expected) < 0.002, f"mpp {found}, not {expected}"

    return check


def few_nuclei() -> None:
    """Check that a slide of 300 nuclei has about as many."""
    import pandas as pd

    found = len(pd.read_parquet("out/cells.parquet"))
    assert 150 < found < 500, f"{found} nuclei, of about 300"


def _case(name: str, wrong: str, make: Step, says: str = FILE, door: Step | None = None, **named: Any) -> Case:
    return Case("images", name, wrong, make, door or chain(0.2738), says=says, **named)


def _hostile(name: str, wrong: str, make: Step, says: str = FILE, **named: Any) -> Case:
    return _case(name, wrong, make, says, chain(0.2738, nuclei=False), cpu_s=10, **named)


LAUGHS = "<!DOCTYPE l [" + '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]>"
XXE = '<!DOCTYPE l [<!ENTITY x SYSTEM "../outside/secret.txt">]>'
PLAIN_OME = _pixels(0, 'SizeX="1156" SizeY="1771" SizeC="3"', "{}")
CASES = [
    _case("right", "nothing", nothing, "", expects="accepted", check=few_nuclei),
    _case("plain tiff, cm", "pixel size by the resolution tags", image(), "", chain(), expects="accepted or warned", check=_mpp(0.2738)),
    _case("resolution in inch", "dots per inch", image(resolution=(25400 / 0.2738,) * 2, resolutionunit=2), "", chain(nuclei=False), expects="accepted", check=_mpp(0.2738)),
    _case("72 dpi", "the default of Photoshop", image(resolution=(72, 72), resolutionunit=2), FILE + ".*mpp|mpp", chain()),
    _case("no pixel size", "none claimed, none given", image(resolution=None, resolutionunit=None), "mpp", chain()),
    _case("pixel size in nm", "OME unit nm", ome(PLAIN_OME.format('PhysicalSizeX="273.8" PhysicalSizeXUnit="nm" PhysicalSizeY="273.8" PhysicalSizeYUnit="nm"')),
          "", chain(nuclei=False), expects="accepted", check=_mpp(0.2738)),
    _case("pixel size in mm", "OME unit mm", ome(PLAIN_OME.format('PhysicalSizeX="2.738e-4" PhysicalSizeXUnit="mm" PhysicalSizeY="2.738e-4" PhysicalSizeYUnit="mm"')),
          "", chain(nuclei=False), expects="accepted", check=_mpp(0.2738)),
    _case("pixel size in pixel", "OME unit pixel", ome(PLAIN_OME.format('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel"')),
          "mpp", chain(nuclei=False), expects="refused or warned"),
    _case("pixel size text", "OME size 'abc', mpp given", ome(PLAIN_OME.format('PhysicalSizeX="abc" PhysicalSizeY="0.27"')), "", expects="accepted or warned or refused"),
    _case("pixels not square", "twice as high as wide by the tags",
          image(lambda p: p[:-1].reshape(-1, 2, *p.shape[1:]).mean(1).astype(np.uint8), resolution=(10_000 / 0.2738, 5_000 / 0.2738), resolutionunit=3),
          "", chain(), expects="accepted or warned", check=few_nuclei),
    _case("size beyond tissue", "mpp 40", nothing, "mpp", chain(40.0), expects="refused"),
    _case("first series is the label", "label, macro, slide", series(200, 400, 0), "", expects="accepted or warned", check=_size(1156)),
    _case("black frame", "a frame joined to the border", image(_frame(0, 60)), "", expects="accepted or warned", check=few_nuclei),
    _case("grey 16 bit", "fluorescence", image(lambda p: p[..., 0].astype(np.uint16) * 257, photometric="minisblack")),
    _case("one channel", "8 bit grey", image(lambda p: p[..., 0], photometric="minisblack")),
    _case("rgb 16 bit", "16 bit per channel", image(lambda p: p.astype(np.uint16) * 257), "", expects="accepted or refused"),
    _case("float", "0 to 1", image(lambda p: (p / 255).astype(np.float32)), FILE, expects="refused or accepted"),
    _case("stack", "ten channels", image(lambda p: np.repeat(p[None, ..., 0], 10, 0), photometric="minisblack", tile=None)),
    _case("planar rgb", "three planes", image(lambda p: np.moveaxis(p, 2, 0), planarconfig="separate"), "", expects="accepted", check=few_nuclei),
    _case("strips", "no tiles", image(tile=None), "", expects="accepted", check=few_nuclei),
    _case("png", "a PNG", lambda: __import__("PIL.Image").Image.fromarray(source()[:600, :600]).save(FILE, "PNG"), "", expects="refused or accepted"),
    _case("jpeg", "a JPEG", lambda: __import__("PIL.Image").Image.fromarray(source()[:600, :600]).save(FILE, "JPEG"), "", expects="refused or accepted"),
    _case("png as rgba icon", "a transparent screenshot", lambda: __import__("PIL.Image").Image.fromarray(np.zeros((300, 300, 4), np.uint8)).save(FILE, "PNG"), "image.h5|he.ome.tif"),
    _case("1 × 1", "one pixel", image(lambda p: p[:1, :1], tile=None), "image.h5|he.ome.tif"),
    _case("20 × 20", "a thumbnail", image(lambda p: p[:20, :20], tile=None), "image.h5|he.ome.tif"),
    _case("a line", "1 × 5000", image(lambda p: np.tile(p[:1], (1, 5, 1)), tile=None), "image.h5|he.ome.tif"),
    _case("white", "no tissue", image(lambda p: np.full_like(p, 244)), "", expects="refused or warned"),
    _case("debris", "specks of dust on glass", image(lambda p: np.where(np.random.default_rng(1).random((*p.shape[:2], 1)) > 0.998, 60, 245).astype(np.uint8) + np.zeros_like(p)),
          "", expects="refused or warned"),
    _case("mpp 4 times too small", "0.068 for 0.2738", nothing, "", chain(0.0685), expects="refused or warned or accepted"),
    _hostile("cut", "first half", cut(FILE, 0.5)),
    _hostile("cut at the header", "100 bytes", both(image(), cut(FILE, 0.0003))),
    _hostile("empty", "0 bytes", write(FILE, b"")),
    _hostile("html", "a login page", write(FILE, "<html>sign in</html>")),
    _hostile("fifo", "a FIFO", fifo(FILE)),
    _hostile("folder", "a folder", both(lambda: Path(FILE).unlink(), lambda: Path(FILE).mkdir())),
    _hostile("link", "a link to /dev/zero", link(FILE, "/dev/zero")),
    _hostile("million px sides", "tags say 1,000,000²", both(image(), tag(256, 10**6), tag(257, 10**6))),
    _hostile("sparse 200,000²", "empty tiles", both(image(tile=(1024, 1024)), tag(256, 200_000), tag(257, 200_000), tag(324, [0] * 38416), tag(325, [0] * 38416))),
    _hostile("zero width", "ImageWidth 0", both(image(), tag(256, 0))),
    _hostile("tiles of another size", "JPEG tiles of 2048 px in tiles of 256 px", tiles((2000, 2000), lambda: _jpeg(2048))),
    _hostile("tiles too small", "JPEG tiles of 64 px in tiles of 256 px", tiles((1200, 1200), lambda: _jpeg(64))),
    _hostile("deflate bomb", "3 GB in each tile", tiles((512, 512), _bomb, "zlib")),
    _hostile("broken tiles", "random bytes as JPEG", tiles((1200, 1200), lambda: np.random.default_rng(0).bytes(900))),
    _hostile("tile offsets outside", "offset beyond the file", both(image(), tag(324, [2**31] * 35))),
    _hostile("directory loop", "a directory that follows itself", both(image(), ifd_loop), expects="refused or accepted or warned"),
    _hostile("ome entities", "entities that grow", ome(LAUGHS), expects="refused or accepted or warned"),
    _hostile("ome file entity", "an entity that reads a file", ome(XXE + "&x;"), expects="refused or accepted or warned"),
    _hostile("ome names another file", "UUID FileName ../outside/secret.txt", ome(
          PLAIN_OME.format("").replace('PlaneCount="1"/>', 'PlaneCount="1"><UUID FileName="../outside/secret.txt">urn:uuid:1</UUID></TiffData>')),
          expects="refused or accepted or warned"),
    _hostile("ome size", "OME says 1,000,000 px", ome(_pixels(0, 'SizeX="1000000" SizeY="1000000" SizeC="3"')), expects="refused or accepted or warned"),
    _hostile("ome million images", "60,000 Image elements", ome("".join(f'<Image ID="Image:{n}"/>' for n in range(60_000))), expects="refused or accepted or warned"),
    _hostile("zip", "a zip named .ome.tif", write(FILE, b"PK\x03\x04" + bytes(1000))),
    _hostile("czi", "a Zeiss file", write(FILE, b"ZISRAWFILE" + bytes(1000))),
]  # fmt: skip
