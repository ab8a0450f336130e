"""Features of windows that share one pass of the encoder: it reads tiles, and each window is pooled from the maps of its tile.

Windows of neighbouring cells overlap almost wholly, so an encoder that reads each of them reads every pixel hundreds of times.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.backbones.section import MAX_TILE_UM, BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader, overlap
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.models.networks.pooling import pool_windows
from nuclass_pipeline.runtime import track
from nuclass_pipeline.train.augment import turn_back, turned_views
from nuclass_pipeline.train.cell_task import as_float
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.patch_reader import resize

TILE_BATCH = 2
"""Tiles at once, because the first maps of a tile take hundreds of MB."""


class TileDataset(Dataset[Tensor]):
    """The tiles of a slide that hold the centre of a window, in batches (B, 3, input_px, input_px) uint8.

    The centres lie in the core of the tile. Around it there is half a window, so that all windows of a tile lie within it. Where a slide
    has many images, a tile shows one of them and holds its windows alone; beyond its edges it is filled like a window.

    Parameters
    ----------
    windows
        The windows, cut from an image.
    core_px
        Side of the core, px of the image.
    image_px
        Side to which a window is resized, px; a tile is resized by the same factor.

    Attributes
    ----------
    rows
        For each tile, the rows of its windows.
    centers_px
        For each tile, the centres (n, 2) of these windows as x, y, px of the resized tile.
    input_px
        Side of the resized tile, px.
    """

    def __init__(self, windows: WindowReader, core_px: int, image_px: int) -> None:
        if windows.origin_px is None:
            problem = "its windows are pixels, and tiles are cut from an image"
            raise UserError(windows.path, "origin_px", problem, "Remove tile_um, or use slides with an image.")
        side_px, scale = windows.side_px, image_px / windows.side_px
        self.input_px = round((side_px + core_px) * scale)
        centers = windows.origin_px.astype(np.int64) + side_px // 2
        frames = windows.frames()
        frame = _nearest_frame(centers, frames)
        starts = frames[frame, 1::-1] if len(frames) else np.zeros_like(centers)
        # By rows of tiles, because those share chunks of the image.
        cores = np.column_stack([frame, (centers - starts)[:, ::-1] // core_px])
        tiles, first, numbers = np.unique(cores, axis=0, return_index=True, return_inverse=True)
        corners = tiles[:, :0:-1] * core_px - side_px // 2 + starts[first]
        order = np.argsort(numbers, kind="stable")
        self.rows: list[Integers] = np.split(order, np.cumsum(np.bincount(numbers))[:-1]) if len(order) else []
        self.centers_px: list[NDArray[np.float64]] = [
            (windows.origin_px[rows] + side_px / 2 - corner) * scale for rows, corner in zip(self.rows, corners, strict=True)
        ]
        self._squares = windows.squares(side_px + core_px, corners.astype(np.int32))
        self._frames = frames[tiles[:, 0]] if len(frames) else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Return a whole batch."""
        pixels = resize(np.stack([self._read(index) for index in indices]), self.input_px)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def _read(self, index: int) -> NDArray[np.uint8]:
        tile = self._squares.read(index)
        if self._frames is None:
            return tile
        top, left, height, width = self._frames[index]
        x, y = self._squares.origin_px[index]
        _, shown = overlap(int(x - left), int(y - top), len(tile), int(height), int(width))
        alone = np.full_like(tile, self._squares.fill)
        alone[shown] = tile[shown]
        return alone


def _nearest_frame(centers: Integers, frames: Integers) -> Integers:
    """Return the number (N,) of the image that each centre (N, 2), x and y, lies in; a rounded one may lie 1 px outside."""
    nearest, least = np.zeros(len(centers), np.int64), np.full(len(centers), np.inf)
    # Sorted, because a slide may have thousands of images, and each is then compared with the centres in its rows alone.
    by_row = np.argsort(centers[:, 1])
    tops, heights = frames[:, 0], frames[:, 2]
    starts, ends = np.searchsorted(centers[by_row, 1], (tops - 1, tops + heights + 2))
    for number, (top, left, height, width) in enumerate(frames):
        rows, low = by_row[starts[number] : ends[number]], np.array([left, top])
        outside = np.maximum(low - centers[rows], centers[rows] - low - (width, height)).max(axis=1).clip(min=0)
        closer = outside < least[rows]
        nearest[rows[closer]], least[rows[closer]] = number, outside[closer]
    return nearest


def embed_tiles(
    encoder: Encoder, patches: Path, config: BackboneConfig, mpp: float, workers: int, device: str
) -> Iterator[tuple[Integers, Tensor]]:
    """Yield rows (n,) of a patch file and the features of their windows, (n, dim) or (n, views, dim), tile by tile; each window comes once.

    Parameters
    ----------
    encoder
        Frozen encoder on the device.
    patches
        Patch file, whose windows are cut from an image.
    config
        The encoder's section, with `tile_um`.
    mpp
        Pixel size of the image, µm.
    workers, device
        Loader processes and device.

    Raises
    ------
    UserError
        If the patch file holds pixels, or the tiles do not fit the encoder.
    """
    windows = WindowReader(patches)
    tiles = TileDataset(windows, _core_px(encoder, windows, config, mpp), config.image_px)
    number = 0
    for images in track(make_loader(tiles, TILE_BATCH, workers), len(tiles), "tiles", TILE_BATCH):
        images = as_float(images.to(device))
        # Turned back, because a vector pooled from a turned map is that of the turned window.
        views = [
            [(turn_back(grid, view), step_px) for grid, step_px in encoder.read_layers(turned)]
            for view, turned in enumerate(turned_views(images, config.views))
        ]
        for place in range(len(images)):
            centers_px = torch.from_numpy(tiles.centers_px[number]).to(device, torch.float32)
            found = [_pool(encoder, [(grid[place], step_px) for grid, step_px in layers], centers_px, config.image_px) for layers in views]
            yield tiles.rows[number], found[0] if config.views == 1 else torch.stack(found, dim=1)
            number += 1


def _pool(encoder: Encoder, layers: Sequence[tuple[Tensor, float]], centers_px: Tensor, side_px: int) -> Tensor:
    # In single precision, because weights below a thousandth of others must count.
    with torch.autocast(centers_px.device.type, enabled=False):
        parts = [part for grid, step_px in layers for part in pool_windows(grid.float(), encoder.pool, centers_px, side_px, step_px)]
        return torch.cat([encoder.finish(part) for part in parts], dim=1)


def _core_px(encoder: Encoder, windows: WindowReader, config: BackboneConfig, mpp: float) -> int:
    """Return the side of the cores, px of the image, at which a resized tile has a whole number of cells of each map."""
    core_px, unit_px = round((config.tile_um or 0) / mpp), windows.side_px * encoder.step_px

    def fits(px: int) -> bool:
        return 0 < px <= MAX_TILE_UM / mpp and (windows.side_px + px) * config.image_px % unit_px == 0

    if fits(core_px):
        return core_px
    nearest = next((core_px + sign * step for step in range(unit_px) for sign in (-1, 1) if fits(core_px + sign * step)), None)
    problem = f"a tile of {config.tile_um:g} µm and a window holds no whole number of the encoder's cells of {encoder.step_px} px"
    remedy = f"Set image_px to a multiple of {encoder.step_px}." if nearest is None else f"Set it to {nearest * mpp:g}, or remove it."
    raise UserError("run file", "tile_um", problem, remedy)
