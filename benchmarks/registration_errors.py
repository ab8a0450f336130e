"""How often is a wrong H&E called good, and a right one not: `python benchmarks/registration_errors.py [folder of public H&E]`.

Phantoms of two organs, of several sizes, densities and seeds are right as they are, and wrong in every way below.
A folder with BRCA-M2C's `images` and `labels` adds real nuclei: right on their own image, wrong on another,
or with red and blue exchanged.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from nuclass_pipeline.config.image import RegistrationConfig
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.stain import projected_density
from nuclass_pipeline.data.registration.colors import NuclearContrast, weigh_nuclei
from nuclass_pipeline.data.registration.correlation import QC_MPP, sharpen
from nuclass_pipeline.data.registration.fit import fit_texture, slide_density
from nuclass_pipeline.data.registration.geometry import MIN_INSIDE
from nuclass_pipeline.data.registration.verdict import FEW_CELLS
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.units import Micron

Values = NDArray[Any]
SIZES = ((2500, 5000), (400, 5000), (1200, 1500))
"""Cells of a phantom, and their density, 1/mm²."""
SEEDS = (1, 2, 3, 4)
XENIUM_MPP = 0.2125
M2C_MPP = 0.5


def turn(degrees: float) -> Values:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def shear(degrees: float) -> Values:
    return np.array([[1, np.tan(np.radians(degrees))], [0, 1]])


# About the middle of the cells, because most errors keep the tissue on the tissue.
MOVED = {
    **{f"turned by {degrees}°": turn(degrees) for degrees in (3, -3, 10, 90, 180)},
    "sheared along x by 2°": shear(2),
    "sheared along y by 2°": shear(2).T,
    "mirrored": np.diag([-1.0, 1.0]),
    "upside down": np.diag([1.0, -1.0]),
    "larger by 3 %": np.eye(2) * 1.03,
}


def verdict(density: Values, mapping: Alignment, xy_um: Values) -> str:
    xy_px = mapping.to_image(Micron(xy_um), QC_MPP)
    if ((xy_px >= 0) & (xy_px < density.shape[::-1])).all(axis=1).mean() < MIN_INSIDE:
        return "unclear"
    config = RegistrationConfig()
    found = fit_texture(sharpen(density.astype(np.float32)), xy_px, config)
    name = found.verdict(config.max_shift_um)
    return "good with a warning" if name == "good" and (found.warn() or found.matched < FEW_CELLS) else name


def phantom(organ: str, seed: int, cells: int, density: float) -> tuple[Values, Alignment, Values]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.ome.tif", "alignment": folder / "alignment.csv"}
        config = SyntheticConfig(cells=cells, cells_per_mm2=density, transcripts_per_cell=5)
        make_slide(organ=organ, seed=seed, config=config, truth=folder / "truth.parquet", **files)
        mapping = read_alignment(files["alignment"], XENIUM_MPP)
        xy_um = pd.read_parquet(folder / "outs/cells.parquet")[["x_centroid", "y_centroid"]].to_numpy()
        with HeImage(files["image"]) as he:
            return slide_density(he, mapping), mapping, xy_um


def try_phantom(own: tuple[Values, Alignment, Values], other: Values) -> Iterator[tuple[str, str]]:
    density, mapping, xy_um = own
    yield "right", verdict(density, mapping, xy_um)
    middle = xy_um.mean(axis=0) / XENIUM_MPP
    for name, linear in MOVED.items():
        change = np.eye(3)
        change[:2, :2], change[:2, 2] = linear, middle - linear @ middle
        yield name, verdict(density, Alignment(change @ mapping.matrix, XENIUM_MPP), xy_um)
    yield "H&E of another slide", verdict(other, mapping, xy_um)
    yield "x and y exchanged", verdict(density, mapping, xy_um[:, ::-1])
    yield "cells in pixels", verdict(density, mapping, xy_um / XENIUM_MPP)
    yield "cells in mm", verdict(density, mapping, xy_um / 1000)
    yield "coarser level", verdict(density[::2, ::2], mapping, xy_um)
    yield "finer level", verdict(np.kron(density, np.ones((2, 2))), mapping, xy_um)
    for name, half in (("left", np.s_[:, : density.shape[1] // 2]), ("lower", np.s_[density.shape[0] // 2 :])):
        blank = density.copy()
        blank[half] = 0
        yield f"{name} half blank", verdict(blank, mapping, xy_um)


def try_real(folder: Path) -> Iterator[tuple[str, str]]:
    fields = []
    for path in sorted((folder / "images").glob("*.png")):
        row, column = np.loadtxt(folder / "labels" / f"{path.stem}.txt", ndmin=2)[:, :2].T
        image = Image.open(path).convert("RGB")
        fields.append((image, np.column_stack([column, row]) * M2C_MPP))
    for number, (image, xy_um) in enumerate(fields):
        pixels = np.asarray(image.resize([round(side * M2C_MPP / QC_MPP) for side in image.size], Image.Resampling.BICUBIC))
        density, mapping = projected_density(pixels), Alignment(np.eye(3), QC_MPP)
        yield "real, right", verdict(density, mapping, xy_um)
        yield "real, cells of another field", verdict(density, mapping, fields[number - 7][1])
        for name, order in (("real, colors as they are", 1), ("real, red and blue exchanged", -1)):
            yield name, "unclear" if contrast(np.asarray(image)[..., ::order], xy_um / M2C_MPP).looks_exchanged else "good"


def contrast(pixels: Values, xy_px: Values) -> NuclearContrast:
    density = -np.log10((pixels.astype(np.float64) + 1) / 256)
    red, green, blue = np.tensordot(weigh_nuclei(xy_px, density.shape[:2], M2C_MPP), density) / len(xy_px)
    return NuclearContrast(red, green, blue)


def main() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for organ in ("lung", "pancreas"):
        for cells, density in SIZES:
            slides = [phantom(organ, seed, cells, density) for seed in SEEDS]
            for number, own in enumerate(slides):
                counts.update(try_phantom(own, slides[number - 1][0]))
    if sys.argv[1:]:
        counts.update(try_real(Path(sys.argv[1])))
    verdicts = ("good", "good with a warning", "shifted", "unclear")
    table = Table("H&E or cells", *verdicts)
    for name in dict.fromkeys(name for name, _ in counts):
        table.add_row(name, *(str(counts[name, found]) for found in verdicts))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
