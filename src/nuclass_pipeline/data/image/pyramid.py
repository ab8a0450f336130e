"""`image.h5`: the H&E resampled once and stored as a chunked pyramid, band by band of rows.

A band is resampled, compressed chunk by chunk, and halved into the next level at once, so that no pixel is read back.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import imagecodecs
import numba
import numpy as np

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.data.image.resample import resample, resampled_shape
from nuclass_pipeline.data.image.slide import RGB, HeImage
from nuclass_pipeline.data.image.tissue import write_tissue
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.runtime import log_progress, track

logger = logging.getLogger(__name__)

CHUNK_PX = 256
MIN_LEVEL_PX = 512
"""The pyramid ends with the first level that is no larger."""
ROWS_SHARE = 0.8
"""Share of the time that the pyramid takes; the mask of the tissue takes the rest."""
HALVED_ROWS = 32
"""Rows that a thread halves in one call."""
STORED_RAW = 1
"""HDF5's filter mask of a chunk that is stored without compression."""


def build_image(*, he: Path, registration: Path, config: ImageConfig, image: Path, picture: Path | None = None, threads: int = 1) -> None:
    """Resample the H&E to `config.mpp`, and write its pyramid and a mask of its tissue.

    The image keeps the orientation of the H&E: turning it would blur every nucleus, while cells can be turned exactly.

    Parameters
    ----------
    he, registration
        The H&E, and its alignment, which has its pixel size.
    config
        Pixel size of `level_0`, and fill value.
    image
        HDF5 file to write.
    picture
        PNG to write: the outline of the tissue on the slide.
    threads
        Threads that decode, resample and compress; the pixels do not depend on their number.

    Raises
    ------
    UserError
        If the H&E is broken.
    """
    alignment, _ = read_registration(registration)
    scale = alignment.mpp_he / config.mpp
    with HeImage(he, config.fill) as opened, ThreadPoolExecutor(threads) as pool, whole_file(image) as partial_file:
        slide = opened.squared(alignment.aspect)
        height, width = resampled_shape(slide, scale)
        with h5py.File(partial_file, "w", libver="v110") as file:
            finest = create_level(file, 0, height, width, config.mpp, pool)
            for band in track(resample(slide, scale, CHUNK_PX, threads), height, "rows of pixels", CHUNK_PX, (0, ROWS_SHARE)):
                finest.add(band)
            finest.finish()
            file.attrs.update(mpp=config.mpp, fill=config.fill, mpp_he=alignment.mpp_he)
        log_progress(ROWS_SHARE, "finding the tissue")
        # Opened again, because HDF5 reads a chunk that was written past its filter wrongly before.
        with h5py.File(partial_file, "r+", libver="v110") as file:
            for warning in write_tissue(file, slide.notes, picture):
                logger.warning("%s: %s", he, warning)


def create_level(file: h5py.File, number: int, height: int, width: int, mpp: float, pool: ThreadPoolExecutor) -> "Level":
    """Create the dataset of level `number`, (height, width) at `mpp`, µm, and those of all coarser levels, which it fills."""
    chunks = (min(CHUNK_PX, height), min(CHUNK_PX, width), 3)
    dataset = file.create_dataset(f"level_{number}", (height, width, 3), np.uint8, chunks=chunks, compression="lzf")
    dataset.attrs["mpp"] = mpp
    coarser = None
    if max(height, width) > MIN_LEVEL_PX:
        coarser = create_level(file, number + 1, max(1, height // 2), max(1, width // 2), 2 * mpp, pool)
    return Level(dataset, coarser, pool)


class Level:
    """One level of a pyramid, filled from top to bottom.

    Parameters
    ----------
    dataset
        (height, width, 3), chunked, compressed by lzf.
    coarser
        The level that is half as large; None for the last.
    pool
        Threads that compress and halve.
    """

    def __init__(self, dataset: h5py.Dataset, coarser: "Level | None", pool: ThreadPoolExecutor) -> None:
        self._dataset, self._coarser, self._pool = dataset, coarser, pool
        self._held: list[RGB] = []
        self._top = 0

    def add(self, rows: RGB) -> None:
        """Append rows (any, width, 3), and write them once they fill a row of chunks."""
        # No more than fit, because `halve` keeps a row that comes alone, and the last one of an odd height has no place here.
        missing = len(self._dataset) - self._top - sum(map(len, self._held))
        if missing:
            self._held.append(rows[:missing])
        if sum(map(len, self._held)) >= self._dataset.chunks[0]:
            self._write()

    def finish(self) -> None:
        """Write the remaining rows, here and in all coarser levels."""
        if self._held:
            self._write()
        if self._coarser is not None:
            self._coarser.finish()

    def _write(self) -> None:
        rows = np.concatenate(self._held) if len(self._held) > 1 else self._held[0]
        lefts = range(0, rows.shape[1], self._dataset.chunks[1])
        for left, (encoded, mask) in zip(lefts, self._pool.map(partial(self._encode, rows), lefts), strict=True):
            # Past HDF5's own filter, because imagecodecs compresses in threads, at four times the speed (docs/development.md).
            self._dataset.id.write_direct_chunk((self._top, left, 0), encoded, mask)
        self._held, self._top = [], self._top + len(rows)
        if self._coarser is not None:
            self._coarser.add(halve(rows, self._pool))

    def _encode(self, rows: RGB, left: int) -> tuple[bytes, int]:
        """Return the bytes of the chunk from column `left`, and its filter mask."""
        height, width, _ = self._dataset.chunks
        chunk = rows[:, left : left + width]
        missing = [(0, height - chunk.shape[0]), (0, width - chunk.shape[1]), (0, 0)]
        raw = (np.pad(chunk, missing) if any(after for _, after in missing) else chunk).tobytes()
        encoded = bytes(imagecodecs.lzf_encode(raw))
        # Raw if it does not shrink, because HDF5's own filter stores such a chunk so.
        return (encoded, 0) if len(encoded) < len(raw) else (raw, STORED_RAW)


def halve(pixels: RGB, pool: ThreadPoolExecutor) -> RGB:
    """Return the means of blocks of 2 × 2 pixels of an image (height, width, 3), rounded half up.

    An odd last row or column is left out; a single one is kept.
    """
    height, width, _ = pixels.shape
    output = np.empty((max(1, height // 2), max(1, width // 2), 3), np.uint8)
    tops = range(0, len(output), HALVED_ROWS)
    list(pool.map(lambda top: _halve(pixels, top, min(top + HALVED_ROWS, len(output)), output), tops))
    return output


@numba.njit(nogil=True, cache=True)
def _halve(pixels, top, bottom, output):  # type: ignore[no-untyped-def] # pragma: no cover
    height, width, _ = pixels.shape
    sums = np.empty(3 * width, np.uint16)
    for y in range(top, bottom):
        upper, lower = pixels[2 * y].reshape(-1), pixels[min(2 * y + 1, height - 1)].reshape(-1)
        for i in range(3 * width):
            sums[i] = np.uint16(upper[i]) + np.uint16(lower[i])
        row = output[y].reshape(-1)
        beside = 3 if width > 1 else 0
        for x in range(output.shape[1]):
            for c in range(3):
                row[3 * x + c] = (sums[6 * x + c] + sums[6 * x + c + beside] + 2) >> 2
