"""H&E files in OME-TIFF, plain TIFF or SVS, read by region and never whole."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, require

RGB = NDArray[np.uint8]
OTHER_COLORS = (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB, tifffile.PHOTOMETRIC.ICCLAB, tifffile.PHOTOMETRIC.ITULAB)
EXPORT_HE = "Export the H&E again, with its pixel size in µm or without one."
READ_AHEAD = 8 * 2**20
"""Bytes of compressed tiles that are read at once; decoded, they take about twenty times the memory."""
# Not the rows of one strip, because some writers make strips of a single row.
BAND_PX = 512
"""Minimum number of rows of a band."""


class HeImage:
    """An open H&E; use as a context manager.

    Attributes
    ----------
    shape
        Height and width at full resolution, px.
    embedded_mpp
        Pixel size that the file claims, µm, or None; often wrong, so it is compared and never used on a Xenium slide.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = require(path)
        try:
            self._tiff = tifffile.TiffFile(self.path)
            self._series = self._tiff.series[0]
            self._levels = [_as_array(zarr.open(level.aszarr(), mode="r")) for level in self._series.levels]
        except READ_ERRORS as error:
            raise UserError(path, "file", f"not a readable TIFF ({error})", "Copy the H&E again, or convert it to OME-TIFF.") from error
        self._check_length()
        self._axes = self._check_axes()
        self.shape = self.size(0)
        self.embedded_mpp = self._embedded_mpp()

    def __enter__(self) -> "HeImage":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._tiff.close()

    def downsample(self, level: int) -> tuple[float, float]:
        """Return how many full-resolution pixels one pixel of `level` covers, down and across."""
        down, across = (_ratio(full, size) for full, size in zip(self.shape, self.size(level), strict=True))
        return down, across

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is no coarser than `downsample`."""
        return max(level for level in range(len(self._levels)) if max(self.downsample(level)) <= max(downsample, 1) * 1.001)

    def read(self, level: int, top: int, left: int, height: int, width: int) -> RGB:
        """Return the region (height, width, 3) of a level from row `top` and column `left`.

        Raises
        ------
        UserError
            If a tile cannot be decoded.
        """
        window = {"Y": slice(top, top + height), "X": slice(left, left + width)}
        index = tuple(window.get(axis, slice(0, 3) if axis in "SC" else 0) for axis in self._axes)
        try:
            region = np.asarray(self._levels[level][index])
        except READ_ERRORS as error:
            raise self._undecodable(top, error) from error
        return np.ascontiguousarray(region if self._axes[-1] in "SC" else np.moveaxis(region, 0, -1), dtype=np.uint8)

    def bands(self, level: int, threads: int = 1, overlap_px: int = 0) -> Iterator[tuple[int, RGB]]:
        """Yield a level from top to bottom in bands of whole tiles, each decoded once.

        Parameters
        ----------
        level
            Level of the pyramid; 0 is the full resolution.
        threads
            Threads that decode.
        overlap_px
            Rows of the bands before that a band begins with, as far as there are so many.

        Yields
        ------
        row, band
            Row that the band begins at, and its pixels (rows, width, 3).

        Raises
        ------
        UserError
            If a tile cannot be decoded.
        """
        height, width = self.size(level)
        page = self._series.levels[level].keyframe
        tile_px = page.tilelength if page.is_tiled else page.rowsperstrip
        rows = -(-BAND_PX // tile_px) * tile_px
        is_interleaved = page.shaped[:2] == (1, 1) and page.shaped[-1] >= 3 and len(self._series.levels[level].pages) == 1
        segments = page.segments(maxworkers=threads, buffersize=READ_AHEAD) if is_interleaved else None
        before = np.empty((0, width, 3), np.uint8)
        for top in range(0, height, rows):
            band = np.empty((len(before) + min(rows, height - top), width, 3), np.uint8)
            target = band[len(before) :]
            band[: len(before)] = before
            if segments is None:
                target[...] = self.read(level, top, 0, len(target), width)
            else:
                self._decode(segments, top, target, tile_px)
            yield top - len(before), band
            before = band[max(0, len(band) - overlap_px) :]

    def _decode(self, segments: Iterator[Any], top: int, target: RGB, tile_px: int) -> None:
        """Fill `target`, which begins at row `top`, with tiles of interleaved colours."""
        # By tifffile, because it decodes in threads, and Zarr in one.
        filled, width = 0, target.shape[1]
        while filled < len(target) * width:
            try:
                tile, (_, _, row, left, _), (_, length, columns, _) = next(segments)
            except READ_ERRORS as error:
                raise self._undecodable(top + filled // (tile_px * width) * tile_px, error) from error
            area = target[row - top : row - top + length, left : left + columns]
            area[...] = self._series.keyframe.nodata if tile is None else tile[0, : area.shape[0], : area.shape[1], :3]
            filled += area.shape[0] * area.shape[1]

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width of a level, px."""
        shape = dict(zip(self._series.axes, self._series.levels[level].shape, strict=True))
        return int(shape["Y"]), int(shape["X"])

    def _undecodable(self, row: int, error: BaseException) -> UserError:
        problem = f"cannot be decoded ({str(error) or type(error).__name__})"
        return UserError(self.path, f"pixels at row {row}", problem, "Copy the H&E again.")

    def _check_length(self) -> None:
        # Before anything is decoded, because some codecs return grey for the missing rest of a tile instead of an error.
        for page in (page for level in self._series.levels for page in level.pages if page is not None):
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
            if end > (size := page.parent.filehandle.size):
                raise UserError(self.path, "file", f"has {size} bytes, and its pixels end at byte {end}", "Copy the H&E again.")

    def _check_axes(self) -> str:
        axes = str(self._series.axes)
        colors = next((axis for axis in ("S", "C") if axis in axes), None)
        shape = dict(zip(axes, self._series.shape, strict=True))
        if not {"Y", "X"} <= set(axes) or colors is None or shape[colors] not in (3, 4):
            problem = f"{axes} with shape {self._series.shape} is not an RGB image"
            raise UserError(self.path, "axes", problem, "Use the H&E image, not one of its channels or a fluorescence image.")
        if self._series.dtype != np.uint8:
            raise UserError(self.path, "pixels", f"are {self._series.dtype}, not uint8", "Convert the H&E to 8 bits per color.")
        if (space := self._series.keyframe.photometric) in OTHER_COLORS:
            raise UserError(self.path, "pixels", f"are {tifffile.PHOTOMETRIC(space).name}, not RGB", "Convert the H&E to RGB.")
        return axes

    def _embedded_mpp(self) -> float | None:
        try:
            mpp = _claimed_mpp(self._tiff)
        except (SyntaxError, *READ_ERRORS) as error:
            problem = f"its pixel size cannot be read ({error})"
            raise UserError(self.path, "ImageDescription", problem, EXPORT_HE) from error
        if mpp is not None and not math.isfinite(mpp):
            raise UserError(self.path, "ImageDescription", f"its pixel size is {mpp}, not a finite number", EXPORT_HE)
        return mpp


def _ratio(full_px: int, level_px: int) -> float:
    # A whole number if the sides allow it, because writers of pyramids halve, and leave out or add an odd row at the end.
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
