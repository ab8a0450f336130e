"""Chromatin of nuclei, drawn once for both haematoxylin and DAPI."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.phantom.classes import LOOKS, Texture
from nuclass_pipeline.phantom.frames import Frame, Image, Patch, inside, patches
from nuclass_pipeline.phantom.shapes import Shapes
from nuclass_pipeline.phantom.tissue import Cells

# Tuned until only the grain, not the mean density, separates the classes that share their surroundings
# (test_only_the_grain_of_the_nucleus_separates_neighbors).
_GRAIN_UM: dict[Texture, float] = {"clumped": 0.58, "vesicular": 0.35, "speckled": 0.38, "nucleolar": 0.3, "pleomorphic": 0.5, "fine": 0.3}
_CONTRAST: dict[Texture, float] = {
    "clumped": 0.46,
    "vesicular": 0.07,
    "speckled": 0.50,
    "nucleolar": 0.05,
    "pleomorphic": 0.22,
    "fine": 0.14,
}
_NUCLEOLI: dict[Texture, tuple[int, int]] = {"nucleolar": (1, 1), "pleomorphic": (1, 3), "vesicular": (0, 0)}


@dataclass(frozen=True)
class Chromatin:
    """Chromatin of one nucleus.

    Attributes
    ----------
    darkness
        Mean optical density.
    nucleoli
        Angle (radians), distance from the centre (fraction of the radius) and size (µm) of each nucleolus.
    origin
        Top left of its window in the square of noise, as fractions of the free space.
    """

    darkness: float
    nucleoli: tuple[tuple[float, float, float], ...]
    origin: tuple[float, float]


def draw_chromatin(rng: np.random.Generator, cells: Cells) -> list[Chromatin]:
    """Draw the chromatin of each cell's nucleus."""
    drawn = []
    for label in cells.label:
        look = LOOKS[label]
        low, high = _NUCLEOLI.get(look.texture, (0, 0))
        central = look.texture == "nucleolar"
        spots = [
            (float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 0.12 if central else 0.55)), float(rng.uniform(0.62, 0.8)))
            for _ in range(int(rng.integers(low, high + 1)))
        ]
        drawn.append(
            Chromatin(float(look.chromatin * np.exp(rng.normal(0, 0.15))), tuple(spots), (float(rng.uniform()), float(rng.uniform())))
        )
    return drawn


def grains(rng: np.random.Generator, mpp: float) -> dict[Texture, Image]:
    """Compute a (512, 512) square of band-limited noise with unit variance for each texture; `mpp` is the pixel size, µm."""
    made: dict[Texture, Image] = {}
    white = rng.standard_normal((512, 512)).astype(np.float32)
    for texture, size_um in _GRAIN_UM.items():
        fine = gaussian_filter(white, size_um / mpp, mode="wrap") - gaussian_filter(white, 2.2 * size_um / mpp, mode="wrap")
        made[texture] = fine / fine.std()
    return made


def paint_nuclei(
    canvas: Image, cover: Image | None, frame: Frame, cells: Cells, shapes: Shapes, chromatin: list[Chromatin], noise: dict[Texture, Image]
) -> None:
    """Draw all nuclei into images, in place.

    Parameters
    ----------
    canvas
        (rows, columns) optical density.
    cover
        (rows, columns) share of each pixel that is nucleus, if it is wanted.
    frame
        Pixel grid of both.
    cells, shapes, chromatin
        The cells, their outlines and their chromatin.
    noise
        Squares of `grains`.
    """
    reach = shapes.nucleus_um.max(1) + 1.0
    for index, patch in enumerate(patches(frame, cells.xy_um, reach)):
        mask = inside(patch, shapes.nucleus_um[index], 0.45)
        texture = LOOKS[cells.label[index]].texture
        density = _density(patch, shapes.nucleus_um[index].mean(), texture, chromatin[index], noise[texture])
        canvas[patch.window] = np.maximum(canvas[patch.window], mask * density)
        if cover is not None:
            cover[patch.window] = np.maximum(cover[patch.window], mask)


def _density(patch: Patch, radius_um: float, texture: Texture, chromatin: Chromatin, noise: Image) -> Image:
    rows, columns = patch.distance_um.shape
    top, left = (int(part * (512 - side)) for part, side in zip(chromatin.origin, (rows, columns), strict=True))
    density = 1 + _CONTRAST[texture] * noise[top : top + rows, left : left + columns]
    if texture in ("vesicular", "pleomorphic", "nucleolar"):
        # Darker towards the edge, because the chromatin of an open nucleus lies along its membrane.
        density *= 0.88 + 0.30 * np.clip(patch.distance_um / radius_um, 0, 1.2) ** 4
    x, y = patch.distance_um * np.cos(patch.angle_rad), patch.distance_um * np.sin(patch.angle_rad)
    for angle, share, size in chromatin.nucleoli:
        spot = (x - share * radius_um * np.cos(angle)) ** 2 + (y - share * radius_um * np.sin(angle)) ** 2
        density += 1.1 * np.exp(-((spot / size**2) ** 1.5))
    return np.asarray(chromatin.darkness * np.clip(density, 0.25, 2.4), dtype=np.float32)
