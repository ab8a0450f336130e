"""Pyramidal OME-TIFF images, coded as in Xenium bundles."""

import uuid
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile
from numpy.typing import NDArray

from nuclass_pipeline.io import whole_file
from nuclass_pipeline.phantom.frames import XENIUM_MPP

_LEVELS = 4
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.openmicroscopy.org/Schemas/OME/2016-06 http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd"'
)


def write_dapi(image: NDArray[np.uint16], path: Path, identity: uuid.UUID) -> None:
    """Write the DAPI image: BigTIFF, JPEG 2000, tiles of 1024, pixel size 0.2125 µm."""
    pixels = _pixels(image, "uint16", "XYZCT", 1)
    ome = (
        f'{_HEAD} UUID="urn:uuid:{identity}">'
        '<Instrument ID="Instrument:0"><Microscope Manufacturer="10x Genomics" Model="Xenium"/></Instrument>'
        f'<Image ID="Image:0"><InstrumentRef ID="Instrument:0"/>{pixels}'
        '<Channel ID="Channel:0" Name="DAPI" SamplesPerPixel="1"/>'
        f'<TiffData FirstZ="0" FirstT="0" FirstC="0" PlaneCount="1">'
        f"<UUID FileName={quoteattr(path.name)}>urn:uuid:{identity}</UUID></TiffData>"
        "</Pixels></Image></OME>"
    )
    options = {"tile": (1024, 1024), "compression": "jpeg2000", "photometric": "minisblack"}
    _write(image, path, ome, options)


def write_he(image: NDArray[np.uint8], path: Path) -> None:
    """Write the H&E: JPEG of quality 90, tiles of 512; the pixel size in its header is wrong."""
    # Wrong on purpose, because many published slides have the morphology image's pixel size here. The alignment gives the true one.
    pixels = _pixels(image, "uint8", "XYCZT", 3)
    ome = (
        f'{_HEAD}><Image ID="Image:0" Name="H&amp;E">{pixels}<Channel ID="Channel:0" SamplesPerPixel="3"/>'
        '<TiffData PlaneCount="1"/></Pixels></Image></OME>'
    )
    options = {"tile": (512, 512), "compression": "jpeg", "compressionargs": {"level": 90}, "photometric": "rgb"}
    _write(image, path, ome, options)


def _pixels(image: NDArray[Any], kind: str, order: str, channels: int) -> str:
    return (
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="{kind}" SizeX="{image.shape[1]}" SizeY="{image.shape[0]}" '
        f'SizeZ="1" SizeC="{channels}" SizeT="1" '
        f'PhysicalSizeX="{XENIUM_MPP}" PhysicalSizeXUnit="µm" PhysicalSizeY="{XENIUM_MPP}" PhysicalSizeYUnit="µm">'
    )


def _write(image: NDArray[Any], path: Path, ome: str, options: dict[str, Any]) -> None:
    with whole_file(path) as partial, tifffile.TiffWriter(partial, bigtiff=True, ome=False) as writer:
        writer.write(image, subifds=_LEVELS, description=ome.encode(), metadata=None, **options)
        for _ in range(_LEVELS):
            image = _halve(image)
            writer.write(image, subfiletype=1, metadata=None, **options)


def _halve(image: NDArray[Any]) -> NDArray[Any]:
    rows, columns = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    # In 32 bits, because the sum of four pixels overflows uint16.
    wide = image[:rows, :columns].astype(np.uint32)
    return np.asarray((wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) // 4, dtype=image.dtype)
