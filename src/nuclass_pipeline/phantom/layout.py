"""Where the tissue lies: zones of tumour and normal tissue, their parenchyma, lumens and fibre direction."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Booleans, Floats

MARGIN_UM = 60.0
ZONE_UM = 250.0
ISLAND_SPACING_UM, ISLAND_RADIUS_UM = 170.0, 46.0
CLEFT_UM = 2.5
CLEAR_UM = 20.0
GLASS, STROMA, NEST, NORMAL = range(4)


def nearest(points: Floats, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Give distance and row of the (up to) `k` nearest points, (queries, k), nearest first."""
    distance, index = cKDTree(points).query(queries, k=np.arange(1, min(k, len(points)) + 1))
    return np.asarray(distance), np.asarray(index, dtype=np.int64)


@dataclass(frozen=True)
class Waves:
    """A smooth random scalar field: a sum of plane waves."""

    vectors: Floats
    phases: Floats
    amplitude_um: float

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude_um: float, wavelengths_um: tuple[float, float], n: int = 5) -> "Waves":
        """Draw `n` waves of random direction; `amplitude_um` is the standard deviation of their sum."""
        angle = rng.uniform(0, 2 * np.pi, n)
        number = 2 * np.pi / rng.uniform(*wavelengths_um, n)
        return cls(
            np.stack([np.cos(angle), np.sin(angle)], 1) * number[:, None], rng.uniform(0, 2 * np.pi, n), amplitude_um * np.sqrt(2 / n)
        )

    def __call__(self, xy_um: Floats) -> Floats:
        """Give the value at each point."""
        return np.asarray(self.amplitude_um * np.sin(xy_um @ self.vectors.T + self.phases).sum(1))

    def gradient(self, xy_um: Floats) -> Floats:
        """Give the gradient, 1 per row of `xy_um`."""
        return np.asarray(self.amplitude_um * np.cos(xy_um @ self.vectors.T + self.phases) @ self.vectors)


@dataclass(frozen=True)
class Mosaic:
    """A wavy Voronoi partition of the plane."""

    centers_um: Floats
    warp: tuple[Waves, Waves]

    def reach(self, xy_um: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Give the tile of each point and its distance to the tile's centre, µm."""
        distance, index = nearest(self.centers_um, self.warped(xy_um), 1)
        return index[:, 0], distance[:, 0]

    def warped(self, xy_um: Floats) -> Floats:
        """Bend the plane, so that tiles get wavy borders."""
        return xy_um + np.stack([wave(xy_um) for wave in self.warp], 1)

    def locate(self, xy_um: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Give the tile of each point and its distance to the tile's border, µm."""
        xy = self.warped(xy_um)
        distance, index = nearest(self.centers_um, xy, 6)
        gap = np.linalg.norm(self.centers_um[index[:, 1:]] - self.centers_um[index[:, :1]], axis=2)
        inset = (distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2 * gap)
        return index[:, 0], inset.min(1)


@dataclass(frozen=True)
class Discs:
    """Round holes in the tissue: air spaces, ducts' and vessels' lumens."""

    centers_um: Floats
    radii_um: Floats
    kind: NDArray[np.str_]


@dataclass(frozen=True)
class Layout:
    """Geometry of one slide in µm of the Xenium frame.

    Each tile of `islands` has an island of parenchyma at its centre, in stroma; `tumour` says of each whether it is a nest.
    `stream` bends the fibres, whose mean direction is `fibre_rad`.
    """

    organ: str
    size_um: tuple[float, float]
    islands: Mosaic
    tumour: Booleans
    lobes: Mosaic
    outline: tuple[Waves, Waves]
    stream: Waves
    fibre_rad: float
    width_wave: Waves
    discs: list[Discs] = field(default_factory=list)

    @property
    def frame_um(self) -> tuple[float, float]:
        """Width and height of the image: the tissue with its glass margin, µm."""
        return self.size_um[0] + 2 * MARGIN_UM, self.size_um[1] + 2 * MARGIN_UM

    def regions(self, xy_um: Floats) -> tuple[NDArray[np.int64], Floats, Booleans]:
        """Give of each point the region code, the distance into the stroma (negative in parenchyma, µm), and whether it lies by a nest."""
        island, distance = self.islands.reach(xy_um)
        tumour = self.tumour[island]
        depth = distance - ISLAND_RADIUS_UM + self.width_wave(xy_um)
        cleft = self.lobes.locate(xy_um)[1] < CLEFT_UM
        region = np.where((depth > 0) | cleft, STROMA, np.where(tumour, NEST, NORMAL))
        return np.where(self.edge(xy_um) > 0, region, GLASS), depth, tumour

    def clear(self, xy_um: Floats) -> Booleans:
        """Say of each point whether it lies so much nearer to islands of one kind that its surroundings leave no doubt."""
        distance, index = nearest(self.islands.centers_um, self.islands.warped(xy_um), 8)
        kind = self.tumour[index]
        nests = np.where(kind, distance, np.inf).min(1)
        normal = np.where(kind, np.inf, distance).min(1)
        return np.asarray(np.abs(nests - normal) > CLEAR_UM)

    def edge(self, xy_um: Floats) -> Floats:
        """Give the distance of points from the tissue's wavy edge, µm, positive inside."""
        x, y = xy_um.T - MARGIN_UM
        waves = [wave(xy_um) for wave in self.outline]
        return np.asarray(np.minimum(np.minimum(x, self.size_um[0] - x) + waves[0], np.minimum(y, self.size_um[1] - y) + waves[1]))

    def fibres(self, xy_um: Floats) -> tuple[Floats, Floats]:
        """Give coordinates along and across the fibres, µm."""
        cos, sin = np.cos(self.fibre_rad), np.sin(self.fibre_rad)
        return xy_um @ [cos, sin], xy_um @ [-sin, cos] + self.stream(xy_um)

    def direction(self, xy_um: Floats) -> Floats:
        """Give the direction of the fibres, radians."""
        across = np.array([-np.sin(self.fibre_rad), np.cos(self.fibre_rad)]) + self.stream.gradient(xy_um)
        return np.arctan2(-across[:, 0], across[:, 1])


def draw_layout(rng: np.random.Generator, organ: str, cells: int, cells_per_mm2: float, aspect: float) -> Layout:
    """Draw the geometry of a slide of `cells` / `cells_per_mm2` mm², `aspect` times as wide as high."""
    height = 1e3 * np.sqrt(cells / cells_per_mm2 / aspect)
    size = (float(height * aspect), float(height))
    centers, tumour = _islands(rng, size)
    lobe_count = max(8, int(size[0] * size[1] / 52**2))
    lobe_centers = rng.uniform(0, 1, (lobe_count, 2)) * size + MARGIN_UM
    return Layout(
        organ,
        size,
        Mosaic(centers, _pair(rng, 9, (110, 220))),
        tumour,
        Mosaic(lobe_centers, _pair(rng, 2.5, (25, 50))),
        _pair(rng, 4, (60, 150)),
        Waves.draw(rng, 14, (90, 260), 7),
        rng.uniform(0, np.pi),
        Waves.draw(rng, 3.5, (45, 110)),
    )


def _pair(rng: np.random.Generator, amplitude_um: float, wavelengths_um: tuple[float, float]) -> tuple[Waves, Waves]:
    return Waves.draw(rng, amplitude_um, wavelengths_um), Waves.draw(rng, amplitude_um, wavelengths_um)


def _islands(rng: np.random.Generator, size_um: tuple[float, float]) -> tuple[Floats, Booleans]:
    """Lay islands on a jittered hexagonal lattice, nests together in one zone and normal ones in the next."""
    zones, tumour = _zones(rng, size_um)
    columns, rows = (max(2, round(side / ISLAND_SPACING_UM)) for side in size_um)
    column, row = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    x = (column + 0.5) * size_um[0] / columns
    y = (row + 0.5 + 0.25 * np.where(column % 2, 1, -1)) * size_um[1] / rows
    centers = np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(-0.08, 0.08, (columns * rows, 2)) * ISLAND_SPACING_UM
    return centers + MARGIN_UM, tumour[nearest(zones, centers, 1)[1][:, 0]]


def _zones(rng: np.random.Generator, size_um: tuple[float, float]) -> tuple[Floats, Booleans]:
    """Lay zones like bricks, kinds alternating both ways, so that every strip of the slide crosses both kinds."""
    columns, rows = (max(2, round(side / ZONE_UM)) if i == 0 else max(1, round(side / ZONE_UM)) for i, side in enumerate(size_um))
    first = int(rng.integers(2))
    centers, tumour = [], []
    for column in range(columns):
        shifted = rows > 1 and column % 2 == 1
        for row in range(rows + shifted):
            centers.append(((column + 0.5) * size_um[0] / columns, (row + (0 if shifted else 0.5)) * size_um[1] / rows))
            tumour.append((row + (column // 2 if rows > 1 else column) + first) % 2 == 0)
    return np.array(centers) + rng.uniform(-0.06, 0.06, (len(centers), 2)) * ZONE_UM, np.array(tumour)
