"""Features of windows that are pooled from tiles."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import write_patches
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader
from nuclass_pipeline.models.encoders import MapEncoder, _stride
from nuclass_pipeline.models.frozen import FrozenFeatures
from nuclass_pipeline.train.features import windows as stage
from nuclass_pipeline.train.features.tiles import TileDataset, _core_px, _nearest_frame
from nuclass_pipeline.train.features.windows import embed_windows
from nuclass_pipeline.units import ImagePixel
from tests.unit.train.toys import write_slide as write_pixels

COMPUTE = Compute(precision="32-true")
SIDE, MPP, STEP = 64, 0.25, 4
HEIGHT, WIDTH, CELLS = 500, 620, 120


class PatchEmbedding(nn.Module):
    """A linear map of squares of `STEP` px, which moves with the image by whole squares."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, 6, STEP, STEP)
        self.stages: list[nn.Module] = [self.projection]

    def forward_features(self, images: Tensor) -> Tensor:
        return torch.tanh(self.projection(images))


def equivariant(_config: BackboneConfig) -> MapEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = PatchEmbedding()
    spec = {"library": "own", "architecture": "squares", "arguments": {}, "mean": [0.5] * 3, "std": [0.5] * 3}
    return MapEncoder(net, spec, [6]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells in an image, at its edges and outside; windows begin at multiples of `STEP` px."""
    folder = tmp_path_factory.mktemp("slide")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8), chunks=(256, 256, 3))
    xy_px = rng.integers(-10, (WIDTH // STEP + 10, HEIGHT // STEP + 10), (CELLS, 2)).astype(float) * STEP
    config = ImageConfig(local_um=SIDE * MPP, fill=200)
    write_patches(folder / "patches.h5", folder / "image.h5", [f"c{i}" for i in range(CELLS)], ImagePixel(xy_px), SIDE, config)
    return folder


def frozen(**changes: object) -> BackboneConfig:
    return BackboneConfig.model_validate({"name": "tiny-resnet", "image_px": SIDE, "freeze": True, **changes})


def embed(slide: Path, out: Path, config: BackboneConfig, workers: int = 0) -> np.ndarray:
    compute = COMPUTE.model_copy(update={"workers": workers})
    embed_windows(patches=slide / "patches.h5", config=config, compute=compute, device="cpu", features=out)
    with h5py.File(out) as file:
        assert list(file["cell_id"].asstr()[:2]) == ["c0", "c1"]
        return np.asarray(file["feature"][...], np.float32)


@pytest.mark.parametrize(("tile_um", "workers"), [(8, 0), (32, 0), (33, 2), (200, 0)])
def test_tiles_give_the_features_of_windows_where_the_encoder_moves_with_the_image(slide, tmp_path, monkeypatch, tile_um, workers):
    monkeypatch.setattr(stage, "build_frozen", equivariant)
    windows = embed(slide, tmp_path / "windows.h5", frozen())
    pooled = embed(slide, tmp_path / "tiles.h5", frozen(tile_um=tile_um), workers)
    assert np.std(windows, axis=0).min() > 1e-3
    np.testing.assert_allclose(pooled, windows, atol=1e-3)
    np.testing.assert_array_equal(pooled, embed(slide, tmp_path / "again.h5", frozen(tile_um=tile_um)))


@pytest.mark.parametrize("core_px", [4, 52, 256, 4000])
def test_every_window_lies_once_in_the_tile_that_holds_its_centre(slide, core_px):
    windows = WindowReader(slide / "patches.h5")
    found = TileDataset(windows, core_px, SIDE)
    assert sorted(np.concatenate(found.rows).tolist()) == list(range(CELLS))
    assert found.input_px == SIDE + core_px
    for number, (rows, centers) in enumerate(zip(found.rows, found.centers_px, strict=True)):
        assert ((centers >= SIDE / 2) & (centers < SIDE / 2 + core_px)).all()
        tile = found.__getitems__([number])[0].permute(1, 2, 0).numpy()
        for row, (x, y) in zip(rows, (centers - SIDE / 2).astype(int), strict=True):
            np.testing.assert_array_equal(tile[y : y + SIDE, x : x + SIDE], windows.read([row])[0])


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells in four images of one `image.h5`, a window apart, so that a tile reaches over several; some lie at the edge of theirs."""
    folder = tmp_path_factory.mktemp("mosaic")
    rng = np.random.default_rng(1)
    frames = np.array([[0, 0, 150, 190], [0, 256, 180, 120], [256, 0, 96, 188], [256, 256, 170, 200]])
    pixels = np.full((512, 512, 3), 200, np.uint8)
    xy_px = []
    for number, (top, left, height, width) in enumerate(frames):
        # Other colours in each image, so that a feature shows in which image its window lies.
        pixels[top : top + height, left : left + width] = rng.integers(50 * number, 50 * number + 90, (height, width, 3))
        inside = rng.integers(0, (width // STEP, height // STEP), (20, 2)) * STEP
        corners = np.array([[0, 0], [width - 1, height - 1], [width - 0.4, 0.4]])
        xy_px += [*(np.concatenate([inside, corners // STEP * STEP]) + np.array([left, top]))]
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels, chunks=(256, 256, 3))
        file["frames"] = frames
    config = ImageConfig(local_um=SIDE * MPP, fill=200)
    ids = [f"c{i}" for i in range(len(xy_px))]
    padded = write_patches(folder / "patches.h5", folder / "image.h5", ids, ImagePixel(np.array(xy_px, float)), SIDE, config)
    assert padded.sum() > 20
    return folder


def test_each_centre_belongs_to_the_image_that_it_is_nearest_to() -> None:
    rng = np.random.default_rng(2)
    top, left = (axis.ravel() * 256 for axis in np.mgrid[:9, :7])
    frames = np.column_stack([top, left, rng.integers(60, 256, (63, 2))])
    number = rng.integers(63, size=500)
    # Up to 1 px outside, because centres are rounded.
    centers = frames[number, 1::-1] + rng.integers(-1, frames[number, :1:-1] + 2)
    low, high = frames[:, 1::-1], frames[:, 1::-1] + frames[:, :1:-1]
    outside = np.maximum(np.maximum(low - centers[:, None], centers[:, None] - high), 0).max(axis=2)
    np.testing.assert_array_equal(_nearest_frame(centers, frames), outside.argmin(axis=1))
    assert _nearest_frame(centers, np.empty((0, 4), np.int64)).tolist() == [0] * 500


@pytest.mark.parametrize("tile_um", [8, 32, 48, 200])
def test_tiles_of_a_slide_of_many_images_give_the_features_of_windows(mosaic, tmp_path, monkeypatch, tile_um):
    monkeypatch.setattr(stage, "build_frozen", equivariant)
    windows = embed(mosaic, tmp_path / "windows.h5", frozen())
    pooled = embed(mosaic, tmp_path / "tiles.h5", frozen(tile_um=tile_um))
    np.testing.assert_allclose(pooled, windows, atol=1e-3)


@pytest.mark.parametrize("core_px", [4, 52, 192, 4000])
def test_a_tile_shows_one_image_and_holds_its_windows_alone(mosaic, core_px):
    windows = WindowReader(mosaic / "patches.h5")
    found = TileDataset(windows, core_px, SIDE)
    assert sorted(np.concatenate(found.rows).tolist()) == list(range(92))
    with h5py.File(mosaic / "image.h5") as file:
        level, frames = file["level_0"][...], file["frames"][...]
    for number, (rows, centers) in enumerate(zip(found.rows, found.centers_px, strict=True)):
        (image,) = {row // 23 for row in rows}
        alone, (top, left, height, width) = np.full((1024 + 2 * 4000, 1024 + 2 * 4000, 3), 200, np.uint8), frames[image]
        shown = np.s_[4000 + top : 4000 + top + height, 4000 + left : 4000 + left + width]
        alone[shown] = level[top : top + height, left : left + width]
        tile = found.__getitems__([number])[0].permute(1, 2, 0).numpy()
        x, y = (windows.origin_px[rows[0]] - (centers[0] - SIDE / 2)).astype(int) + 4000
        np.testing.assert_array_equal(tile, alone[y : y + SIDE + core_px, x : x + SIDE + core_px])
        for row, (x, y) in zip(rows, (centers - SIDE / 2).astype(int), strict=True):
            np.testing.assert_array_equal(tile[y : y + SIDE, x : x + SIDE], windows.read([row])[0])


def test_views_of_tiles_are_those_of_windows(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "build_frozen", equivariant)
    windows, pooled = (embed(slide, tmp_path / f"{tile}.h5", frozen(views=8, tile_um=tile)) for tile in (None, 32))
    assert windows.shape == (CELLS, 8, 12)
    assert np.abs(windows[:, 1:] - windows[:, :1]).max(axis=(0, 2)).min() > 1e-2
    np.testing.assert_allclose(pooled, windows, atol=1e-3)


def test_a_tile_must_hold_whole_patches(slide, tmp_path):
    config = frozen(name="tiny-vit", features={"pool": "mean"}, tile_um=10)
    with pytest.raises(UserError, match=r"tile_um: a tile of 10 µm and a window holds no whole number .* of 16 px. Set it to 8, or"):
        embed(slide, tmp_path / "f.h5", config)
    assert not (tmp_path / "f.h5").exists()
    assert np.isfinite(embed(slide, tmp_path / "f.h5", config.model_copy(update={"tile_um": 8}))).all()


def test_a_tile_must_hold_whole_cells_of_every_map(slide, tmp_path):
    """Because a network rounds up at the right, and a turned tile has its right elsewhere."""
    config = frozen(tile_um=10)
    with pytest.raises(UserError, match=r"tile_um: a tile of 10 µm and a window holds no whole number .* of 16 px. Set it to 8, or"):
        embed(slide, tmp_path / "f.h5", config)
    with pytest.raises(UserError, match=r"of 32 px. Set image_px to a multiple of 32."):
        _core_px(SimpleNamespace(step_px=32), SimpleNamespace(side_px=1024), frozen(image_px=511, tile_um=128), MPP)


@pytest.mark.parametrize(("side_px", "cells", "step_px"), [(768, 24, 32), (775, 25, 32), (420, 14, 32), (112, 7, 16), (64, 16, 4)])
def test_the_cells_of_a_map_have_the_stride_of_the_network(side_px, cells, step_px):
    assert _stride(side_px, cells) == step_px


def test_a_slide_without_windows_has_no_tiles(slide):
    windows = WindowReader(slide / "patches.h5")
    windows.origin_px = windows.origin_px[:0]
    assert len(TileDataset(windows, 64, SIDE)) == 0


def test_windows_that_are_pixels_have_no_tiles(tmp_path):
    pixels = write_pixels(tmp_path, 4, 0)["contexts"]
    with pytest.raises(UserError, match=r"origin_px: its windows are pixels, and tiles are cut from an image. Remove tile_um"):
        embed_windows(patches=pixels, config=frozen(tile_um=16), compute=COMPUTE, device="cpu", features=tmp_path / "f.h5")


def test_features_of_tiles_are_no_features_of_windows(slide, tmp_path):
    embed(slide, tmp_path / "f.h5", frozen(tile_um=16))
    found = FrozenFeatures.read(tmp_path / "f.h5")
    assert found.tile_um == 16
    with pytest.raises(UserError, match=r"f.h5: tile_um: is 16.0 in the file, and none in the run file"):
        found.model_copy(update={"tile_um": None}).check(tmp_path / "f.h5", "local_um", "the run file")
