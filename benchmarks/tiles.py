"""What an encoder costs per cell when it reads windows, and when it reads tiles that the windows share.

    python benchmarks/tiles.py [--encoder efficientnet-lite0] [--image-px 512] [--tile-um 128] [--density 5000]

A square of tissue with cells at random places is embedded in both ways, in one run. Torch counts the operations of one window and of one
tile, with the cells that a tile has.
"""

import argparse
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import write_patches
from nuclass_pipeline.io import WindowReader
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.models.frozen import build_frozen
from nuclass_pipeline.models.networks.pooling import pool_windows
from nuclass_pipeline.train.features.tiles import TileDataset
from nuclass_pipeline.train.features.windows import embed_windows
from nuclass_pipeline.units import ImagePixel

MPP = 0.25


def main() -> None:
    """Embed the same cells in both ways, and print operations, time and likeness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--image-px", type=int, default=512)
    parser.add_argument("--tile-um", type=float, default=128)
    parser.add_argument("--density", type=float, default=5000, help="cells per mm²")
    parser.add_argument("--side-um", type=float, default=256, help="side of the tissue")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    features = {"pool": "mean"} if "cls" in (BackboneConfig(name=options.encoder).entry.pool or "") else {}
    config = BackboneConfig.model_validate(
        {"name": options.encoder, "image_px": options.image_px, "freeze": True, "tile_um": options.tile_um, "features": features}
    )
    with tempfile.TemporaryDirectory() as scratch:
        patches = write_slide(Path(scratch), options.side_um, options.density)
        windows = WindowReader(patches)
        encoder = build_frozen(config).to(options.device)
        tiles = TileDataset(windows, round(options.tile_um / MPP), config.image_px)
        by_window = count_flops(lambda: encoder(torch.zeros(1, 3, config.image_px, config.image_px, device=options.device)))
        # As many cells as the core of a whole tile has.
        cells = options.density * options.tile_um**2 / 1e6
        by_tile = count_flops(lambda: pool_tile(encoder, config, tiles.input_px, round(cells), options.device)) / cells
        print(f"{options.encoder}, windows of 256 µm at {config.image_px} px, tiles of {tiles.input_px} px, {cells:.0f} cells a tile")
        print(f"GFLOP per cell   window {by_window / 1e9:8.3f}   tile {by_tile / 1e9:8.3f}   ratio {by_window / by_tile:6.1f}")
        found, seconds = {}, {}
        for name, section in (("window", config.model_copy(update={"tile_um": None})), ("tile", config)):
            start = time.perf_counter()
            embed_windows(
                patches=patches,
                config=section,
                compute=Compute(precision="32-true"),
                device=options.device,
                features=Path(scratch) / f"{name}.h5",
            )
            seconds[name] = time.perf_counter() - start
            with h5py.File(Path(scratch) / f"{name}.h5") as file:
                found[name] = file["feature"][...].astype(np.float32)
        rates = {name: windows.cells / value for name, value in seconds.items()}
        print(f"cells/s          window {rates['window']:8.1f}   tile {rates['tile']:8.1f}   ratio {rates['tile'] / rates['window']:6.1f}")
        print(f"{windows.cells} cells, {len(tiles)} tiles; correlation of features, median over cells: {likeness(**found):.3f}")


def write_slide(folder: Path, side_um: float, density: float) -> Path:
    """Write an image of coloured blobs with cells at random places, and its context windows."""
    rng = np.random.default_rng(0)
    side_px, cells = round(side_um / MPP), round(density * side_um**2 / 1e6)
    coarse = torch.from_numpy(rng.uniform(90, 255, (1, 3, side_px // 24, side_px // 24)))
    pixels = torch.nn.functional.interpolate(coarse, size=(side_px, side_px), mode="bicubic").clamp(0, 255)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels[0].permute(1, 2, 0).numpy().astype(np.uint8), chunks=(256, 256, 3), compression="lzf")
    config, xy_px = ImageConfig(), ImagePixel(rng.uniform(0, side_px, (cells, 2)))
    write_patches(folder / "patches.h5", folder / "image.h5", [f"c{i}" for i in range(cells)], xy_px, config.context_px, config)
    return folder / "patches.h5"


def pool_tile(encoder: Encoder, config: BackboneConfig, input_px: int, cells: int, device: str) -> None:
    """Read one tile, and pool the windows of its cells."""
    centers_px = torch.full((cells, 2), input_px / 2, device=device)
    for grid, step_px in encoder.read_layers(torch.zeros(1, 3, input_px, input_px, device=device)):
        pool_windows(grid[0], encoder.pool, centers_px, config.image_px, step_px)


def count_flops(run) -> float:
    """Return the floating-point operations of a call."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def likeness(window: np.ndarray, tile: np.ndarray) -> float:
    """Return the median over cells of the correlation of both vectors, each feature standardised by its windows."""
    mean, std = window.mean(0), window.std(0) + 1e-6
    first, second = (window - mean) / std, (tile - mean) / std
    return float(np.median([np.corrcoef(one, other)[0, 1] for one, other in zip(first, second, strict=True)]))


if __name__ == "__main__":
    main()
