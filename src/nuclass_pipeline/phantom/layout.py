"""Geometry of a slide: zones of tumour and of normal tissue, islands of parenchyma, lumens and fibres."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Booleans, Floats, Integers

MARGIN_UM = 60.0
"""Width of the glass around the tissue."""
ZONE_UM = 250.0
"""Typical side of a zone, in which all islands are of one kind."""
# This leaves 78 µm of stroma between islands, because a 56 µm crop in its middle must not reach an island and a 256 µm window must.
ISLAND_SPACING_UM, ISLAND_RADIUS_UM = 170.0, 46.0
"""Distance between neighbouring islands of parenchyma, and their mean radius."""
CLEFT_UM = 2.5
"""Half of the width of the stroma between lobes."""
CLEAR_UM = 20.0
"""How much nearer to islands of one kind than of the other a place must be to count as unambiguous."""
GLASS, STROMA, NEST, NORMAL = range(4)
"""Codes of regions."""


def nearest(points: Floats, queries: Floats, k: int) -> tuple[Floats, Integers]:
    """Return distance and row of the `k` nearest points, or of all if there are fewer: (queries, k), nearest first."""
    distance, index = cKDTree(points).query(queries, k=np.arange(1, min(k, len(points)) + 1))
    return np.asarray(distance), np.asarray(index, dtype=np.int64)


@dataclass(frozen=True)
class Waves:
    """A smooth random scalar field: a sum of plane waves.

    Attributes
    ----------
    vectors
        (n, 2) wave vectors, radians per µm.
    phases
        (n,) phases, radians.
    amplitude_um
        Amplitude of each wave.
    """

    vectors: Floats
    phases: Floats
    amplitude_um: float

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude_um: float, wavelengths_um: tuple[float, float], n: int = 5) -> "Waves":
        """Draw waves of random directions.

        Parameters
        ----------
        rng
            Source of randomness.
        amplitude_um
            Standard deviation of their sum.
        wavelengths_um
            Shortest and longest wavelength.
        n
            Number of waves.
        """
        angle = rng.uniform(0, 2 * np.pi, n)
        number = 2 * np.pi / rng.uniform(*wavelengths_um, n)
        return cls(
            np.stack([np.cos(angle), np.sin(angle)], 1) * number[:, None], rng.uniform(0, 2 * np.pi, n), amplitude_um * np.sqrt(2 / n)
        )

    def __call__(self, xy_um: Floats) -> Floats:
        """Return the value at each point: (N,)."""
        return np.asarray(self.amplitude_um * np.sin(xy_um @ self.vectors.T + self.phases).sum(1))

    def gradient(self, xy_um: Floats) -> Floats:
        """Return the gradient at each point: (N, 2)."""
        return np.asarray(self.amplitude_um * np.cos(xy_um @ self.vectors.T + self.phases) @ self.vectors)


@dataclass(frozen=True)
class Mosaic:
    """A Voronoi partition of the plane with wavy borders.

    Attributes
    ----------
    centers_um
        (tiles, 2) centres.
    warp
        Shifts of x and of y that bend the plane.
    """

    centers_um: Floats
    warp: tuple[Waves, Waves]

    def reach(self, xy_um: Floats) -> tuple[Integers, Floats]:
        """Return the tile of each point and its distance to the tile's centre, µm."""
        distance, index = nearest(self.centers_um, self.warped(xy_um), 1)
        return index[:, 0], distance[:, 0]

    def warped(self, xy_um: Floats) -> Floats:
        """Bend the plane, so that tiles get wavy borders."""
        return xy_um + np.stack([wave(xy_um) for wave in self.warp], 1)

    def locate(self, xy_um: Floats) -> tuple[Integers, Floats]:
        """Return the tile of each point and its distance to the tile's border, µm."""
        xy = self.warped(xy_um)
        # Six centres, because the nearest border is not always that with the second nearest centre.
        distance, index = nearest(self.centers_um, xy, 6)
        gap = np.linalg.norm(self.centers_um[index[:, 1:]] - self.centers_um[index[:, :1]], axis=2)
        inset = (distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2 * gap)
        return index[:, 0], inset.min(1)


@dataclass(frozen=True)
class Discs:
    """Round holes in the tissue.

    Attributes
    ----------
    centers_um
        (N, 2) centres.
    radii_um
        (N,) radii.
    kind
        (N,) arteriole, vessel or lumen.
    """

    centers_um: Floats
    radii_um: Floats
    kind: NDArray[np.str_]


@dataclass(frozen=True)
class Layout:
    """Geometry of one slide, in µm of the Xenium frame.

    Attributes
    ----------
    organ
        `lung` or `pancreas`.
    size_um
        Width and height of the tissue.
    islands
        One tile per island of parenchyma; the island is at its centre, the rest of the tile is stroma.
    tumour
        (islands,) whether the island is a nest of tumour cells.
    lobes
        Tiles whose borders are clefts of stroma.
    outline
        Shifts of the vertical and of the horizontal edges of the tissue.
    stream
        Field that bends the fibres.
    fibre_rad
        Mean direction of the fibres, radians.
    width_wave
        Change of the islands' radius from place to place.
    discs
        Holes, added by `populate`.
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

    def regions(self, xy_um: Floats) -> tuple[Integers, Floats, Booleans]:
        """Return the region of each point.

        Returns
        -------
        region, depth, tumour
            (N,) code of the region; distance into the stroma, µm, negative in an island; whether the nearest island is a nest.
        """
        island, distance = self.islands.reach(xy_um)
        tumour = self.tumour[island]
        depth = distance - ISLAND_RADIUS_UM + self.width_wave(xy_um)
        cleft = self.lobes.locate(xy_um)[1] < CLEFT_UM
        region = np.where((depth > 0) | cleft, STROMA, np.where(tumour, NEST, NORMAL))
        return np.where(self.edge(xy_um) > 0, region, GLASS), depth, tumour

    def clear(self, xy_um: Floats) -> Booleans:
        """Return whether each point is clearly nearer to islands of one kind than to those of the other: (N,)."""
        distance, index = nearest(self.islands.centers_um, self.islands.warped(xy_um), 8)
        kind = self.tumour[index]
        nests = np.where(kind, distance, np.inf).min(1)
        normal = np.where(kind, np.inf, distance).min(1)
        return np.asarray(np.abs(nests - normal) > CLEAR_UM)

    def edge(self, xy_um: Floats) -> Floats:
        """Return the distance of points from the edge of the tissue, µm, positive inside: (N,)."""
        x, y = xy_um.T - MARGIN_UM
        waves = [wave(xy_um) for wave in self.outline]
        return np.asarray(np.minimum(np.minimum(x, self.size_um[0] - x) + waves[0], np.minimum(y, self.size_um[1] - y) + waves[1]))

    def fibres(self, xy_um: Floats) -> tuple[Floats, Floats]:
        """Return coordinates along and across the fibres, µm: (N,) each."""
        cos, sin = np.cos(self.fibre_rad), np.sin(self.fibre_rad)
        return xy_um @ [cos, sin], xy_um @ [-sin, cos] + self.stream(xy_um)

    def direction(self, xy_um: Floats) -> Floats:
        """Return the direction of the fibres at each point, radians: (N,)."""
        across = np.array([-np.sin(self.fibre_rad), np.cos(self.fibre_rad)]) + self.stream.gradient(xy_um)
        return np.arctan2(-across[:, 0], across[:, 1])


def draw_layout(rng: np.random.Generator, organ: str, cells: int, cells_per_mm2: float, aspect: float) -> Layout:
    """Draw the geometry of a slide.

    Parameters
    ----------
    rng
        Source of randomness.
    organ
        `lung` or `pancreas`.
    cells, cells_per_mm2
        Number and density of cells, which set the area.
    aspect
        Width divided by height.
    """
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
    """Place islands on a jittered hexagonal lattice; the zone decides whether they are nests or normal."""
    zones, tumour = _zones(rng, size_um)
    columns, rows = (max(2, round(side / ISLAND_SPACING_UM)) for side in size_um)
    column, row = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    x = (column + 0.5) * size_um[0] / columns
    y = (row + 0.5 + 0.25 * np.where(column % 2, 1, -1)) * size_um[1] / rows
    centers = np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(-0.08, 0.08, (columns * rows, 2)) * ISLAND_SPACING_UM
    return centers + MARGIN_UM, tumour[nearest(zones, centers, 1)[1][:, 0]]


def _zones(rng: np.random.Generator, size_um: tuple[float, float]) -> tuple[Floats, Booleans]:
    """Place zones like bricks, and alternate their kinds in both directions."""
    # Alternating, because the split cuts slides into strips and each strip needs every class.
    columns, rows = (max(2, round(side / ZONE_UM)) if i == 0 else max(1, round(side / ZONE_UM)) for i, side in enumerate(size_um))
    first = int(rng.integers(2))
    centers, tumour = [], []
    for column in range(columns):
        shifted = rows > 1 and column % 2 == 1
        for row in range(rows + shifted):
            centers.append(((column + 0.5) * size_um[0] / columns, (row + (0 if shifted else 0.5)) * size_um[1] / rows))
            tumour.append((row + (column // 2 if rows > 1 else column) + first) % 2 == 0)
    return np.array(centers) + rng.uniform(-0.06, 0.06, (len(centers), 2)) * ZONE_UM, np.array(tumour)
