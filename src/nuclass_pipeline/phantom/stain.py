"""Images of the tissue: H&E by the Beer–Lambert law, and DAPI."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from nuclass_pipeline.phantom.classes import LOOKS
from nuclass_pipeline.phantom.frames import Frame, Image, inside, patches
from nuclass_pipeline.phantom.layout import GLASS, STROMA, Discs, Layout
from nuclass_pipeline.phantom.nuclei import Chromatin, grains, paint_nuclei
from nuclass_pipeline.phantom.shapes import ANGLES, Shapes
from nuclass_pipeline.phantom.tissue import Cells

WHITE = 245.0
"""Grey value of glass."""
BLUR_UM = 0.3
"""Standard deviation of the optical blur."""
# Regions and fibres are computed on every fourth pixel, because they are smooth and a pixel costs two tree queries.
_STEP_PX = 4
_HAEMATOXYLIN, _EOSIN = (0.60, 0.70, 0.38), (0.20, 0.83, 0.52)


@dataclass(frozen=True)
class Stain:
    """Stain of a slide.

    Attributes
    ----------
    strength
        Factors on the amounts of haematoxylin and eosin.
    vectors
        (2, 3) optical density of each dye in red, green and blue, unit length.
    """

    strength: tuple[float, float]
    vectors: NDArray[np.float32]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Stain":
        """Draw strengths within 15 %, and hues that differ by about 1 %."""
        # Not more, because at 3 % the global path took the hue of a slide for its organ (docs/development.md).
        vectors = np.array([_HAEMATOXYLIN, _EOSIN]) + rng.normal(0, 0.01, (2, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        strength = rng.uniform(0.85, 1.15, 2)
        return cls((float(strength[0]), float(strength[1])), vectors.astype(np.float32))


@dataclass
class _Field:
    """Contents of every pixel.

    Attributes
    ----------
    haematoxylin, eosin
        (rows, columns) amounts of the dyes.
    tissue, nucleus
        (rows, columns) share of the pixel that is tissue, and nucleus.
    """

    haematoxylin: Image
    eosin: Image
    tissue: Image
    nucleus: Image


def render_he(
    rng: np.random.Generator, layout: Layout, cells: Cells, shapes: Shapes, chromatin: list[Chromatin], frame: Frame
) -> NDArray[np.uint8]:
    """Render the H&E of a slide on its own grid.

    Parameters
    ----------
    rng
        Source of randomness of the stain, the fibres and the camera.
    layout, cells, shapes, chromatin
        The tissue.
    frame
        Pixel grid of the H&E.

    Returns
    -------
    NDArray
        (rows, columns, 3) RGB.
    """
    stain = Stain.draw(rng)
    field = _ground(rng, layout, frame)
    for discs in layout.discs:
        _paint_discs(rng, field, frame, discs)
    _paint_cytoplasm(field, frame, cells, shapes)
    paint_nuclei(field.haematoxylin, field.nucleus, frame, cells, shapes, chromatin, grains(rng, frame.mpp))
    field.eosin *= 1 - 0.55 * field.nucleus
    field.haematoxylin *= np.maximum(field.tissue, field.nucleus)
    return _develop(rng, field, stain, BLUR_UM / frame.mpp)


def render_dapi(
    rng: np.random.Generator, layout: Layout, cells: Cells, shapes: Shapes, chromatin: list[Chromatin], frame: Frame
) -> NDArray[np.uint16]:
    """Render the DAPI image: (rows, columns) counts; parameters as in `render_he`."""
    canvas = np.zeros(frame.shape, dtype=np.float32)
    paint_nuclei(canvas, None, frame, cells, shapes, chromatin, grains(rng, frame.mpp))
    canvas = gaussian_filter(canvas, BLUR_UM / frame.mpp)
    shape, xy = frame.coarse(16)
    haze = _enlarge((layout.edge(xy) > 0).reshape(shape).astype(np.float32), 16, frame.shape)
    canvas *= 2600
    canvas += 60 + 170 * haze
    # Rounded to multiples of 4, because the file is lossless and would be larger otherwise.
    return np.asarray(np.round(canvas / 4) * 4, dtype=np.uint16)


def _enlarge(values: Image, step: int, shape: tuple[int, int]) -> Image:
    rows, columns = values.shape
    full = zoom(values, ((rows - 1) * step + 1, (columns - 1) * step + 1) / np.array(values.shape), order=1, grid_mode=False)
    return np.asarray(full[: shape[0], : shape[1]], dtype=np.float32)


def _ground(rng: np.random.Generator, layout: Layout, frame: Frame) -> _Field:
    """Draw the tissue between the cells: fibres of the stroma, and the ground substance of the parenchyma."""
    shape, xy = frame.coarse(_STEP_PX)
    region, _, _ = layout.regions(xy)
    # The same values for both organs, because the ground must not give away the organ.
    eosin = np.choose(region, [0.0, 0.0, 0.24, 0.24])
    blue = np.choose(region, [0.0, 0.02, 0.06, 0.07])
    along, across = layout.fibres(xy)
    # Blurred, because the coarse grid would show as steps along every border.
    soft = [gaussian_filter(part.reshape(shape).astype(np.float32), 0.8) for part in (eosin, blue, region == STROMA, region != GLASS)]
    fibre_maps = [part.reshape(shape).astype(np.float32) for part in (along, across)]
    maps = [_enlarge(part, _STEP_PX, frame.shape) for part in (*soft, *fibre_maps)]
    cloud = _enlarge(rng.standard_normal(shape).astype(np.float32), _STEP_PX, frame.shape)
    fibre = _fibres(rng, maps[4], maps[5])
    cloud = gaussian_filter(cloud, 6.0)
    cloud /= cloud.std()
    stroma = 0.30 * np.clip(0.98 + 0.45 * fibre + 0.12 * cloud, 0.15, 2.2)
    return _Field(
        maps[1], (maps[0] * (1 + 0.12 * cloud) + maps[2] * stroma).astype(np.float32), maps[3], np.zeros(frame.shape, dtype=np.float32)
    )


def _fibres(rng: np.random.Generator, along_um: Image, across_um: Image) -> Image:
    """Draw bundles of fibres, about 2.5 µm thick and 30 µm long, along the stream."""
    white = rng.standard_normal((1024, 256)).astype(np.float32)
    noise = gaussian_filter(white, (1.6, 1.6), mode="wrap") + 0.7 * gaussian_filter(white[::-1], (4, 3), mode="wrap") * 3
    noise /= noise.std()
    return np.asarray(map_coordinates(noise, [across_um / 0.8, along_um / 9.0], order=1, mode="grid-wrap"), dtype=np.float32)


def _paint_discs(rng: np.random.Generator, field: _Field, frame: Frame, discs: Discs) -> None:
    """Cut the holes out of the tissue, draw their rims, and add red blood cells to vessels."""
    theta = 2 * np.pi * np.arange(ANGLES) / ANGLES
    red: list[tuple[float, float]] = []
    for center, radius, kind, patch in zip(
        discs.centers_um, discs.radii_um, discs.kind, patches(frame, discs.centers_um, discs.radii_um * 1.3 + 2), strict=True
    ):
        outline = np.full(ANGLES, float(radius))
        for order in (2, 3, 4):
            outline *= 1 + rng.normal(0, 0.09 / order) * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
        hole = inside(patch, outline, 0.6)
        rim = inside(patch, outline + 1.1, 0.6) - hole
        field.eosin[patch.window] = field.eosin[patch.window] * (1 - hole) + 0.18 * rim
        field.haematoxylin[patch.window] *= 1 - hole
        field.tissue[patch.window] *= 1 - hole
        if kind in ("vessel", "arteriole"):
            for _ in range(int(radius**2 / 7)):
                turn, share = rng.uniform(0, 2 * np.pi), radius * 0.75 * np.sqrt(rng.uniform())
                red.append((center[0] + share * np.cos(turn), center[1] + share * np.sin(turn)))
    if red:
        points, size = np.array(red), np.full(ANGLES, 2.4)
        for patch in patches(frame, points, np.full(len(points), 3.4)):
            disc = inside(patch, size, 0.5) * (0.75 + 0.25 * np.clip(patch.distance_um / 2.0, 0, 1))
            field.eosin[patch.window] = np.maximum(field.eosin[patch.window], 0.85 * disc)


def _paint_cytoplasm(field: _Field, frame: Frame, cells: Cells, shapes: Shapes) -> None:
    """Add the cytoplasm of each cell, a little short of the cell's border, so that borders are paler."""
    rows = np.flatnonzero([LOOKS[label].eosin > 0 for label in cells.label])
    reach = np.array([[LOOKS[label].cytoplasm_um] for label in cells.label])
    radii = np.minimum(shapes.cell_um, shapes.nucleus_um + reach)[rows]
    for row, outline, patch in zip(rows, radii, patches(frame, cells.xy_um[rows], radii.max(1) + 1), strict=True):
        look = LOOKS[cells.label[row]]
        body = inside(patch, outline - 0.35, 0.9) * field.tissue[patch.window]
        field.eosin[patch.window] += look.eosin * body
        field.haematoxylin[patch.window] += look.basophilia * body


def _develop(rng: np.random.Generator, field: _Field, stain: Stain, blur_px: float) -> NDArray[np.uint8]:
    """Compute the camera image from the amounts of dye: blur, Beer–Lambert law, noise."""
    amounts = [
        gaussian_filter(part, blur_px) * strength for part, strength in zip((field.haematoxylin, field.eosin), stain.strength, strict=True)
    ]
    picture = np.empty((*field.eosin.shape, 3), dtype=np.uint8)
    for channel in range(3):
        density = amounts[0] * stain.vectors[0, channel]
        density += amounts[1] * stain.vectors[1, channel]
        np.exp(-density, out=density)
        density *= WHITE
        density += rng.standard_normal(density.shape, dtype=np.float32) * np.float32(1.3)
        picture[..., channel] = np.clip(density, 0, 255)
    return picture
