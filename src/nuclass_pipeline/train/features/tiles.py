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
from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader
from nuclass_pipeline.models.encoders import Encoder, TokenEncoder
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

    The centres lie in the core of the tile. Around it there is half a window, so that all windows of a tile lie within it.

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
        # By rows of tiles, because those share chunks of the image.
        tiles, numbers = np.unique(centers[:, ::-1] // core_px, axis=0, return_inverse=True)
        corners = tiles[:, ::-1] * core_px - side_px // 2
        order = np.argsort(numbers, kind="stable")
        self.rows: list[Integers] = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
        self.centers_px: list[NDArray[np.float64]] = [
            (windows.origin_px[rows] + side_px / 2 - corner) * scale for rows, corner in zip(self.rows, corners, strict=True)
        ]
        self._squares = windows.squares(side_px + core_px, corners.astype(np.int32))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Return a whole batch."""
        pixels = resize(np.stack([self._squares.read(index) for index in indices]), self.input_px)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


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
    """Return the side of the cores, px of the image, at which a resized tile has a whole number of patches."""
    core_px = round((config.tile_um or 0) / mpp)
    patch_px = encoder.patch_px if isinstance(encoder, TokenEncoder) else 1
    whole_px = windows.side_px * patch_px
    if core_px and (core_px * config.image_px) % whole_px == 0:
        return core_px
    # The side of a window always fits, because an image of the encoder has a whole number of patches.
    problem = f"{config.tile_um:g} µm are {core_px} px, and no whole number of the encoder's patches at {config.image_px} px per window"
    raise UserError("run file", "tile_um", problem, f"Set it to {_fitting_um(core_px, config.image_px, whole_px, mpp):g}, or remove it.")


def _fitting_um(core_px: int, image_px: int, whole_px: int, mpp: float) -> float:
    """Return the side nearest to `core_px` that fits, µm."""
    step_px = whole_px // np.gcd(whole_px, image_px)
    return float(max(1, round(core_px / step_px)) * step_px * mpp)
