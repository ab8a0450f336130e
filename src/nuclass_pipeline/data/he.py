"""H&E images as they come: OME-TIFF, plain TIFF or SVS, read by region and never whole."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require

RGB = NDArray[np.uint8]
OTHER_COLOURS = (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB, tifffile.PHOTOMETRIC.ICCLAB, tifffile.PHOTOMETRIC.ITULAB)
READ_AHEAD = 8 * 2**20
"""Bytes of compressed tiles that are read at once; decoded they are some twenty times as many."""
BROKEN = (OSError, LookupError, ArithmeticError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError, struct.error)
"""What readers of TIFF raise where a file is broken."""


class HeImage:
    """An open H&E; use as a context manager.

    Attributes
    ----------
    shape
        Height and width at full resolution, px.
    embedded_mpp
        Pixel size the file claims, µm, or None; often wrong, so only ever compared.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = require(path)
        try:
            self._tiff = tifffile.TiffFile(self.path)
            self._series = self._tiff.series[0]
            self._levels = [_as_array(zarr.open(level.aszarr(), mode="r")) for level in self._series.levels]
        except BROKEN as error:
            raise UserError(path, "file", f"not a readable TIFF ({error})", "Copy the H&E again.") from error
        self._check_length()
        self._axes = self._check_axes()
        self.shape = self.size(0)
        self.embedded_mpp = self._embedded_mpp()

    def __enter__(self) -> "HeImage":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._tiff.close()

    def downsample(self, level: int) -> tuple[float, float]:
        """Return how many full-resolution pixels one pixel of `level` covers, down and across.

        Writers of pyramids halve, and leave out or add what is odd at the end: that must not stretch the level.
        """
        down, across = (_ratio(full, size) for full, size in zip(self.shape, self.size(level), strict=True))
        return down, across

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is no coarser than `downsample`."""
        return max(level for level in range(len(self._levels)) if max(self.downsample(level)) <= max(downsample, 1) * 1.001)

    def read(self, level: int, top: int, left: int, height: int, width: int) -> RGB:
        """Return an (height, width, 3) region of a level; parts outside the image are not allowed."""
        window = {"Y": slice(top, top + height), "X": slice(left, left + width)}
        index = tuple(window.get(axis, slice(0, 3) if axis in "SC" else 0) for axis in self._axes)
        try:
            region = np.asarray(self._levels[level][index])
        except BROKEN as error:
            raise self._undecodable(top, error) from error
        return np.ascontiguousarray(region if self._axes[-1] in "SC" else np.moveaxis(region, 0, -1), dtype=np.uint8)

    def bands(self, level: int, threads: int = 1) -> Iterator[RGB]:
        """Give a level from top to bottom in bands of whole tiles, (rows, width, 3); every tile is decoded once."""
        height, width = self.size(level)
        page = self._series.levels[level].keyframe
        rows = page.tilelength if page.is_tiled else page.rowsperstrip
        if page.shaped[:2] == (1, 1) and page.shaped[-1] >= 3 and len(self._series.levels[level].pages) == 1:
            yield from self._decoded(page, min(rows, height), threads)
        else:
            yield from (self.read(level, top, 0, min(rows, height - top), width) for top in range(0, height, rows))

    def _decoded(self, page: tifffile.TiffPage, rows: int, threads: int) -> Iterator[RGB]:
        """Give a page of interleaved colours; tifffile decodes its tiles in `threads` threads, which Zarr does in one."""
        height, width = page.imagelength, page.imagewidth
        across = -(-width // page.tilewidth) if page.is_tiled else 1
        segments = page.segments(maxworkers=threads, buffersize=READ_AHEAD)
        for top in range(0, height, rows):
            band = np.empty((min(rows, height - top), width, 3), np.uint8)
            for _ in range(across):
                try:
                    tile, (_, _, _, left, _), (_, length, columns, _) = next(segments)
                except BROKEN as error:
                    raise self._undecodable(top, error) from error
                place = band[:length, left : left + columns]
                place[...] = page.nodata if tile is None else tile[0, : place.shape[0], : place.shape[1], :3]
            yield band

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width of a level, px."""
        shape = dict(zip(self._series.axes, self._series.levels[level].shape, strict=True))
        return int(shape["Y"]), int(shape["X"])

    def _undecodable(self, row: int, error: BaseException) -> UserError:
        problem = f"cannot be decoded ({str(error) or type(error).__name__})"
        return UserError(self.path, f"pixels at row {row}", problem, "Copy the H&E again.")

    def _check_length(self) -> None:
        # Some codecs give grey for what is missing of a tile.
        for page in (page for level in self._series.levels for page in level.pages if page is not None):
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
            if end > (size := page.parent.filehandle.size):
                raise UserError(self.path, "file", f"has {size} bytes, and its pixels end at byte {end}", "Copy the H&E again.")

    def _check_axes(self) -> str:
        axes = str(self._series.axes)
        colours = next((axis for axis in ("S", "C") if axis in axes), None)
        shape = dict(zip(axes, self._series.shape, strict=True))
        if not {"Y", "X"} <= set(axes) or colours is None or shape[colours] not in (3, 4):
            raise UserError(self.path, "axes", f"{axes} with shape {self._series.shape} is no RGB image", "Give the H&E image.")
        if self._series.dtype != np.uint8:
            raise UserError(self.path, "pixels", f"are {self._series.dtype}", "The H&E must have 8 bits per colour.")
        if (space := self._series.keyframe.photometric) in OTHER_COLOURS:
            raise UserError(self.path, "pixels", f"are {tifffile.PHOTOMETRIC(space).name}", "The H&E must be RGB.")
        return axes

    def _embedded_mpp(self) -> float | None:
        try:
            mpp = _claimed_mpp(self._tiff)
        except (SyntaxError, *BROKEN) as error:
            problem = f"the pixel size in it cannot be read ({error})"
            raise UserError(self.path, "ImageDescription", problem, "Write the H&E again.") from error
        if mpp is not None and not math.isfinite(mpp):
            raise UserError(self.path, "ImageDescription", f"the pixel size in it is {mpp}", "Write the H&E again.")
        return mpp


def _ratio(full_px: int, level_px: int) -> float:
    whole = round(full_px / level_px)
    return whole if abs(full_px - whole * level_px) < whole else full_px / level_px


def _as_array(store: Any) -> Any:
    return store["0"] if isinstance(store, zarr.Group) else store


def _claimed_mpp(tiff: tifffile.TiffFile) -> float | None:
    if tiff.ome_metadata:
        image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        return float(pixels["PhysicalSizeX"]) if "PhysicalSizeX" in pixels else None
    if tiff.is_svs and "|MPP = " in tiff.pages.first.description:
        return float(tiff.pages.first.description.split("|MPP = ")[1].split("|")[0])
    return None
