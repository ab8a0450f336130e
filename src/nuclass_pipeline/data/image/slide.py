"""H&E files in OME-TIFF, plain TIFF, SVS, PNG or JPEG, read by region; only PNG and JPEG are decoded as a whole."""

import logging
import math
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nuclass_pipeline.data.image.reading.glass import EmptyRegion, find_empty, over_white
from nuclass_pipeline.data.image.reading.source import open_slide
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS

logger = logging.getLogger(__name__)

RGB = NDArray[np.uint8]
READ_AHEAD = 8 * 2**20
"""Bytes of compressed tiles that are read at once; decoded, they take about twenty times the memory."""
# Not the rows of one strip, because some writers make strips of a single row.
BAND_PX = 512
"""Minimum number of rows of a band."""
SEARCH_PX = 4096
"""Empty regions are looked for in the coarsest level with a side of at least this."""


class HeImage:
    """An open H&E; use as a context manager.

    What is transparent, black and joined to the border, or otherwise filled in by a writer, is read as glass (`data.image.reading.glass`).

    Parameters
    ----------
    path
        The file.
    white
        Value of that glass.

    Attributes
    ----------
    shape
        Height and width at full resolution, px.
    aspect
        Height of a stored pixel over its width; another than 1 only in a view by `squared`.
    embedded_mpp
        Pixel size that the file claims, µm, or None; often wrong, so it is compared and never used on a Xenium slide.
    embedded_aspect
        Height over width of a pixel that the file claims; 1 without a claim.
    mpp_problem
        Why that claim is not used, or an empty text.
    """

    def __init__(self, path: Path | str, white: int = 255) -> None:
        self.path, self._white = Path(path), white
        self._source = open_slide(path, white)
        self._levels, self._axes = self._source.levels, self._source.axes
        self._empty: tuple[EmptyRegion, ...] | None = None
        self.shape, self.aspect = self.size(0), 1.0
        self.embedded_mpp, self.embedded_aspect, self.mpp_problem = self._source.mpp, self._source.aspect, self._source.mpp_problem
        if self.mpp_problem:
            logger.warning("%s: %s, and is not used", path, self.mpp_problem)

    def __enter__(self) -> "HeImage":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._source.close()

    @property
    def notes(self) -> list[str]:
        """What a reader of the results should know about the file."""
        claim = [f"{self.mpp_problem}, and is not used"] if self.mpp_problem else []
        return [*self._source.notes, *claim, *self._oblong(), *map(str, self._find_empty())]

    def _oblong(self) -> Iterator[str]:
        if self.embedded_aspect != 1 and self._source.sides:
            width, height = self._source.sides
            use = "resampled to square ones" if self.aspect != 1 else "taken as square ones, because the given size or alignment is used"
            yield f"its pixels are {width:.4g} × {height:.4g} µm by the file, and are {use}"

    def squared(self, aspect: float) -> "HeImage":
        """Return the image as if it had square pixels of the same area; `aspect` is the height of a stored pixel over its width."""
        view = copy(self)
        view.aspect = aspect
        height, width = (max(1, round(side * step)) for side, step in zip(self.size(0), view.downsample(0), strict=True))
        view.shape = (height, width)
        return view

    def downsample(self, level: int) -> tuple[float, float]:
        """Return how many full-resolution pixels one stored pixel of `level` covers, down and across."""
        down, across = self._stored_step(level)
        return (down, across) if self.aspect == 1 else (down * math.sqrt(self.aspect), across / math.sqrt(self.aspect))

    def _stored_step(self, level: int) -> tuple[float, float]:
        down, across = (_ratio(full, size) for full, size in zip(self.size(0), self.size(level), strict=True))
        return down, across

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is no coarser than `downsample`, or than the full resolution."""
        most = [max(downsample, step) * 1.001 for step in self.downsample(0)]
        return max(level for level in range(len(self._levels)) if (np.array(self.downsample(level)) <= most).all())

    def read(self, level: int, top: int, left: int, height: int, width: int) -> RGB:
        """Return the region (height, width, 3) of a level from row `top` and column `left`.

        Raises
        ------
        UserError
            If a tile cannot be decoded.
        """
        if self.aspect != 1:
            return self._read_square(level, top, left, height, width)
        return self._as_glass(self._read(level, top, left, height, width), level, top, left)

    def _read_square(self, level: int, top: int, left: int, height: int, width: int) -> RGB:
        """Resample the stored pixels of a region to square ones."""
        stretch = math.sqrt(self.aspect)
        first_row, first_column, last_row, last_column = top / stretch, left * stretch, (top + height) / stretch, (left + width) * stretch
        # More than the region, because the kernel reaches over its edges.
        margin_px = math.ceil(3 * max(stretch, 1 / stretch))
        row, column = max(0, int(first_row) - margin_px), max(0, int(first_column) - margin_px)
        stored = self._read(level, row, column, math.ceil(last_row) + margin_px - row, math.ceil(last_column) + margin_px - column)
        stored = self._as_glass(stored, level, row, column)
        right, bottom = min(last_column - column, stored.shape[1]), min(last_row - row, stored.shape[0])
        box = (first_column - column, first_row - row, right, bottom)
        return np.asarray(Image.fromarray(stored).resize((width, height), Image.Resampling.BICUBIC, box=box))

    def _read(self, level: int, top: int, left: int, height: int, width: int) -> RGB:
        window = {"Y": slice(top, top + height), "X": slice(left, left + width)}
        index = tuple(window.get(axis, slice(None) if axis in "SC" else 0) for axis in self._axes)
        try:
            region = np.asarray(self._levels[level][index])
        except READ_ERRORS as error:
            raise self._undecodable(top, error) from error
        return np.array(self._over_white(region if self._axes[-1] in "SC" else np.moveaxis(region, 0, -1)), order="C")

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
        self._find_empty(threads)
        before = np.empty((0, self.size(level)[1], 3), np.uint8)
        for top, band in self._bands(level, threads):
            band = np.concatenate([before, self._as_glass(band, level, top, 0)]) if len(before) else self._as_glass(band, level, top, 0)
            yield top - len(before), band
            before = band[max(0, len(band) - overlap_px) :]

    def _bands(self, level: int, threads: int) -> Iterator[tuple[int, RGB]]:
        """Yield a level as it is stored, over white glass."""
        height, width = self.size(level)
        page = self._source.pages[level] if self._source.pages else None
        tile_px = BAND_PX if page is None else page.tilelength if page.is_tiled else min(page.rowsperstrip, height)
        rows = -(-BAND_PX // tile_px) * tile_px
        is_interleaved = page is not None and page.shaped[:2] == (1, 1) and page.shaped[-1] >= 3 and "C" not in self._axes
        segments = page.segments(maxworkers=threads, buffersize=READ_AHEAD) if is_interleaved and page is not None else None
        for top in range(0, height, rows):
            band = np.empty((min(rows, height - top), width, 3), np.uint8)
            if segments is None:
                band[...] = self._read(level, top, 0, len(band), width)
            else:
                self._decode(segments, top, band, tile_px)
            yield top, band

    def _decode(self, segments: Iterator[Any], top: int, target: RGB, tile_px: int) -> None:
        """Fill `target`, which begins at row `top`, with tiles of interleaved colours."""
        # By tifffile, because it decodes in threads, and Zarr in one.
        filled, width = 0, target.shape[1]
        while filled < len(target) * width:
            try:
                tile, (_, _, row, left, _), (_, length, columns, _) = next(segments)
            except (StopIteration, *READ_ERRORS) as error:
                raise self._undecodable(top + filled // (tile_px * width) * tile_px, error) from error
            area = target[row - top : row - top + length, left : left + columns]
            # Glass, because scanners leave out the tiles in which they found no tissue.
            area[...] = self._white if tile is None else self._over_white(tile[0, : area.shape[0], : area.shape[1]])
            filled += area.shape[0] * area.shape[1]

    def _over_white(self, pixels: RGB) -> RGB:
        if pixels.shape[-1] == 3:
            return pixels
        extra = self._source.pages[0].extrasamples if self._source.pages else ()
        return over_white(pixels, self._white, premultiplied=tifffile.EXTRASAMPLE.ASSOCALPHA in extra)

    def _as_glass(self, pixels: RGB, level: int, top: int, left: int) -> RGB:
        for region in self._find_empty():
            region.fill(pixels, top, left, self._stored_step(level), self._white)
        return pixels

    def _find_empty(self, threads: int = 1) -> tuple[EmptyRegion, ...]:
        if self._empty is None:
            level = max(level for level in range(len(self._levels)) if level == 0 or max(self.size(level)) >= SEARCH_PX)
            self._empty = find_empty(self._bands(level, threads), self.size(level), max(self._stored_step(level)))
            for region in self._empty:
                logger.warning("%s: %s", self.path, region)
        return self._empty

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width of a level as it is stored, px."""
        shape = dict(zip(self._axes, self._levels[level].shape, strict=True))
        return int(shape["Y"]), int(shape["X"])

    def _undecodable(self, row: int, error: BaseException) -> UserError:
        problem = f"cannot be decoded ({str(error) or type(error).__name__})"
        return UserError(self.path, f"pixels at row {row}", problem, "Copy the H&E again.")


def _ratio(full_px: int, level_px: int) -> float:
    # A whole number if the sides allow it, because writers of pyramids halve, and leave out or add an odd row at the end.
    whole = round(full_px / level_px)
    return whole if abs(full_px - whole * level_px) < whole else full_px / level_px
