"""Windows of cells, read from where their pixels lie.

A patch file holds its windows in one of three ways: as pixels in `images`, as corners in the `image.h5` beside it (`origin_px`), or as
rows or names in the patch file of another data set (the attribute `source`). Corners take 8 bytes per cell. Virtual windows, which other
programs read, take 25 kB each in every process that opens them, so they are not opened here.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.hdf5.blocks import CACHED_PX, BlockCache, WindowPixels
from nuclass_pipeline.io.hdf5.named import NamedPatches
from nuclass_pipeline.io.hdf5.patch_files import (
    FINEST,
    FORMAT_REMEDY,
    MAKE_PATCHES_AGAIN,
    ORIGIN,
    SOURCE,
    check_patch,
    open_source,
    open_window_file,
    read_corners,
    read_keys,
)
from nuclass_pipeline.io.hdf5.reading import IMAGE, damaged_h5, open_h5
from nuclass_pipeline.io.paths import READ_ERRORS

if TYPE_CHECKING:
    import h5py

Rows = NDArray[np.int64]

SOURCE_ROW = "source_row"
MAX_OPEN_IMAGES = 64
"""Images that a process keeps open, each without memory for decoded pixels."""


class _Pixels(Protocol):
    """Where the pixels of the windows of one file lie.

    Attributes
    ----------
    holder
        The file that holds them.
    """

    holder: Path

    def order(self, rows: Rows) -> Rows:
        """Return the order (B,) in which rows (B,) are read fastest."""
        ...

    def read(self, row: int) -> WindowPixels:
        """Return one window (S, S, 3)."""
        ...


class _Stored:
    """Windows of the file itself."""

    def __init__(self, path: Path) -> None:
        self.images = open_h5(path)["images"]
        # Kept open, because HDF5 then cuts virtual windows from decoded chunks.
        self.image = open_source(self.images, path)
        self.holder = path if self.image is None else Path(self.image.file.filename)

    def order(self, rows: Rows) -> Rows:
        return np.argsort(rows, kind="stable")

    def read(self, row: int) -> WindowPixels:
        return _central(self.images[row], self.images.shape[1])


class _Rows:
    """Rows of the patch file of another data set."""

    def __init__(self, source: "WindowReader", side_px: int, rows: Rows) -> None:
        self.source, self.side_px, self.rows = source, side_px, rows
        self.holder = source.pixels.holder

    def order(self, rows: Rows) -> Rows:
        return self.source.pixels.order(self.rows[rows])

    def read(self, row: int) -> WindowPixels:
        return _central(self.source.pixels.read(int(self.rows[row])), self.side_px)


class _Named:
    """Datasets of another file, one per window."""

    def __init__(self, path: Path, side_px: int, names: NDArray[np.bytes_]) -> None:
        self.patches, self.names, self.side_px, self.holder = NamedPatches(path), names, side_px, path

    def order(self, rows: Rows) -> Rows:
        return np.arange(len(rows))

    def read(self, row: int) -> WindowPixels:
        return _central(self.patches.read(self.names[row].decode()), self.side_px)


class Squares:
    """Squares of an `image.h5`, read by their rows, in any process.

    Parameters
    ----------
    image
        The image.
    side_px
        Side of the squares, px.
    origin_px
        (N, 2) left and top of each.
    fill
        Value outside the image.
    """

    def __init__(self, image: Path, side_px: int, origin_px: NDArray[np.int32], fill: int, blocks: BlockCache) -> None:
        self.holder, self.side_px, self.origin_px, self.fill, self.blocks = image, side_px, origin_px, fill, blocks
        state = image.stat()
        self._state = (image, state.st_ino, state.st_mtime_ns)

    def order(self, rows: Rows) -> Rows:
        """Return the order (B,) in which rows (B,) are read fastest."""
        # By block, because neighbouring windows share decoded blocks.
        left, top = (self.origin_px[rows] // CACHED_PX).T
        return np.lexsort((left, top))

    def read(self, row: int) -> WindowPixels:
        """Return one square (S, S, 3)."""
        window = np.empty((self.side_px, self.side_px, 3), np.uint8)
        self.read_into(window, row)
        return window

    def read_into(self, window: WindowPixels, row: int) -> None:
        """Write one square into a window (S, S, 3)."""
        left, top = self.origin_px[row]
        # By process, because a handle inherited by a loader process shares its file position with the parent's.
        self.blocks.cut(self._state, _open_level(os.getpid(), *self._state), int(left), int(top), window, self.fill)


@lru_cache(maxsize=MAX_OPEN_IMAGES)
def _open_level(process: int, image: Path, inode: int, changed: int) -> "h5py.Dataset":
    """Return the finest level of an image, open in this process; the least used of `MAX_OPEN_IMAGES` images is closed for another."""
    # Without a cache of HDF5, because `BlockCache` keeps what is decoded.
    return open_h5(image, rdcc_nbytes=0)[FINEST]


class WindowReader:
    """The windows of one patch file. It can be pickled and used in several processes; each opens the files itself.

    Parameters
    ----------
    path
        Patch file.
    blocks
        Decoded blocks of images, if they are shared with other readers of the process.

    Attributes
    ----------
    path
        Patch file.
    cells
        Number of windows.
    side_px
        Side of a window, px.
    origin_px
        (N, 2) left and top of each window in `image.h5`; None if its pixels lie elsewhere.

    Raises
    ------
    UserError
        If the file is missing, broken or holds no windows, or its image or source is missing; also where it is read later.
    """

    def __init__(self, path: Path, blocks: BlockCache | None = None) -> None:
        self.path, self.blocks = path, blocks or BlockCache()
        self._pixels: _Pixels | None = None
        self._owner = -1
        with open_window_file(path) as file:
            try:
                self.cells, self.side_px = int(file["keys"].shape[0]), side_of(path, file)
                self._source = path.resolve().parent / str(file.attrs[SOURCE]) if SOURCE in file.attrs else None
                self._fill = int(file.attrs.get("fill", 255))
                self.origin_px = read_corners(path, file[ORIGIN]) if ORIGIN in file else None
                self._rows = np.asarray(file[SOURCE_ROW][...] if SOURCE_ROW in file else (), np.int64)
                named = self._source is not None and SOURCE_ROW not in file
                self._names = np.char.encode(read_keys(path, file["keys"]).astype(str), "utf-8") if named else None
            except READ_ERRORS as error:
                raise damaged_h5(path, error) from error
        for places in (self.origin_px, self._rows if len(self._rows) else None):
            if places is not None and len(places) != self.cells:
                raise UserError(path, "keys", f"names {self.cells} cells, and {len(places)} have a place", FORMAT_REMEDY)
        # Opened at once, because what is missing is said before any work.
        _ = self.pixels
        self.close()

    @property
    def ids(self) -> NDArray[np.object_]:
        """Cell ids (N,), in the order of the rows."""
        with open_window_file(self.path) as file:
            return read_keys(self.path, file["keys"])

    def read(self, rows: Rows | Sequence[int]) -> WindowPixels:
        """Return the windows (B, S, S, 3) of rows (B,), in their order."""
        rows = np.asarray(rows, np.int64)
        windows = np.empty((len(rows), self.side_px, self.side_px, 3), np.uint8)
        if len(rows):
            pixels = self.pixels
            try:
                for place in pixels.order(rows):
                    if isinstance(pixels, Squares):
                        pixels.read_into(windows[place], int(rows[place]))
                    else:
                        windows[place] = pixels.read(int(rows[place]))
            except READ_ERRORS as error:
                raise damaged_h5(pixels.holder, error) from error
        return windows

    def order(self, rows: Rows) -> Rows:
        """Return the order (B,) in which rows (B,) are read fastest, because windows beside each other share decoded blocks."""
        return self.pixels.order(rows)

    def squares(self, side_px: int, origin_px: NDArray[np.int32]) -> Squares:
        """Return other squares of the image that the windows are cut from, of which the file must have `origin_px`."""
        return Squares(self.path.resolve().parent / IMAGE, side_px, origin_px, self._fill, self.blocks)

    def frames(self) -> Rows:
        """Return top, left, height and width (F, 4) of each image in the image that the windows are cut from; none if it is one image."""
        with open_h5(self.path.resolve().parent / IMAGE) as file:
            return np.asarray(file["frames"][...] if "frames" in file else np.empty((0, 4)), np.int64)

    @property
    def from_image(self) -> bool:
        """Whether the windows are squares of an image, so that neighbours share its pixels."""
        return isinstance(self.pixels, Squares)

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        self._pixels = None

    def __getstate__(self) -> dict[str, Any]:
        # Without the handles, because h5py cannot pickle them.
        return {**self.__dict__, "_pixels": None}

    @property
    def pixels(self) -> "_Pixels":
        """The opened files."""
        # Once per process, because a handle inherited by a loader process shares its file position with the parent's.
        if self._pixels is None or self._owner != os.getpid():
            self._pixels, self._owner = self._find(), os.getpid()
        return self._pixels

    def _find(self) -> "_Pixels":
        # Checked again, because the image may have gone since the last time.
        open_window_file(self.path).close()
        if self.origin_px is not None:
            return self.squares(self.side_px, self.origin_px)
        if self._source is None:
            return _Stored(self.path)
        if self._names is not None:
            return _Named(self._source, self.side_px, self._names)
        return _Rows(WindowReader(self._source, self.blocks), self.side_px, self._rows)


def side_of(path: Path, file: "h5py.File") -> int:
    """Return the side of the windows of an open patch file, px.

    Raises
    ------
    UserError
        If it holds no windows of uint8.
    """
    if "side_px" in file.attrs:
        return int(file.attrs["side_px"])
    # Before `images` is opened, because it may lead to a file that nobody checked.
    if ORIGIN in file or SOURCE in file.attrs:
        raise UserError(path, "side_px", "the attribute is missing", MAKE_PATCHES_AGAIN)
    images = file.get("images")
    shape = getattr(images, "shape", None)
    if not shape:
        raise UserError(path, "images", "the dataset is missing", FORMAT_REMEDY)
    return check_patch(path, "images", images.dtype, shape[1:])


def _central(window: WindowPixels, side_px: int) -> WindowPixels:
    """Return the central square (side, side, 3) of a window (S, S), (S, S, 1), (S, S, 3) or (S, S, 4)."""
    margin = (window.shape[0] - side_px) // 2
    # Without a fourth channel, because some public files hold alpha.
    square = np.atleast_3d(window)[margin : margin + side_px, margin : margin + side_px, :3]
    return np.broadcast_to(square, (side_px, side_px, 3))
