"""Size and reading speed of virtual patch files against real copies and direct window reads, side by side.

    python benchmarks/patch_files.py [cells]

Prints bytes per cell and, for 300 windows in tile order, the time of each way of reading as a multiple of the direct window read.
"""

import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import write_patches
from nuclass_pipeline.data.image.windows import cut_window
from nuclass_pipeline.units import ImagePixel

SIDE_PX = 6000
WINDOWS = 300
REPEATS = 3


def make_image(path: Path) -> None:
    coarse = np.random.default_rng(0).integers(90, 250, (SIDE_PX // 8, SIDE_PX // 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with h5py.File(path, "w") as file:
        file.create_dataset("level_0", data=pixels, chunks=(256, 256, 3), compression="lzf")
        file.attrs.update(mpp=0.25, fill=255)


def best_of(read) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        read()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    table = Table("window", "virtual, bytes/cell", "copy, bytes/cell", "virtual / direct", "copy / direct", title=f"{cells} cells")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image.h5")
        make_image(image)
        xy_px = np.random.default_rng(1).uniform(0, SIDE_PX, (cells, 2))
        xy_px = ImagePixel(xy_px[np.lexsort((xy_px[:, 0] // 256, xy_px[:, 1] // 256))])
        ids = [f"cell{number:08d}" for number in range(cells)]
        for side in (224, 1024):
            virtual, copy = Path(folder, f"virtual_{side}.h5"), Path(folder, f"copy_{side}.h5")
            write_patches(virtual, image, ids, xy_px, side, ImageConfig())
            write_patches(copy, image, ids[:WINDOWS], ImagePixel(xy_px[:WINDOWS]), side, ImageConfig(materialize=True))
            with h5py.File(image) as source, h5py.File(virtual) as first, h5py.File(copy) as second:
                level = source["level_0"]
                direct = best_of(lambda level=level, side=side: [cut_window(level, *xy, side, 255) for xy in xy_px[:WINDOWS]])
                # Opening a virtual dataset reads all its windows' places, so the handle is kept, as any loader would.
                times = [best_of(lambda images=file["images"]: [images[row] for row in range(WINDOWS)]) for file in (first, second)]
            sizes = virtual.stat().st_size / cells, copy.stat().st_size / WINDOWS
            table.add_row(f"{side}²", f"{sizes[0]:.0f}", f"{sizes[1]:,.0f}", *(f"{t / direct:.2f}" for t in times))
    Console().print(table)


if __name__ == "__main__":
    main()
