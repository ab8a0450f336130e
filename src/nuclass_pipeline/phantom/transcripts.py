"""Where the transcripts lie, how well they were read, and which cell they were given to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.phantom.layout import nearest
from nuclass_pipeline.phantom.programs import expected_counts
from nuclass_pipeline.phantom.shapes import Shapes, radius_at
from nuclass_pipeline.phantom.tissue import Cells

if TYPE_CHECKING:
    from nuclass_pipeline.config.synthetic import SyntheticConfig

GOOD_QV = 20.0
# Only RNA that leaks during permeabilisation travels; the rest stays where it was.
_LEAKING = 0.36
_LOST = 0.05
_CONTROL_RATE = 0.002
_AMBIENT_RATE = 0.02
_GRID = 64.0


@dataclass(frozen=True)
class Transcripts:
    """One row per transcript: feature, place (µm), quality, cell (-1 is none), distance to the nearest nucleus (µm)."""

    feature: Integers
    xyz_um: NDArray[np.float32]
    qv: NDArray[np.float32]
    cell: Integers
    in_nucleus: NDArray[np.bool_]
    nucleus_distance_um: NDArray[np.float32]
    origin: Integers

    def take(self, rows: Integers) -> "Transcripts":
        """Give the transcripts `rows` points at."""
        return Transcripts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Those that enter the matrix: assigned, and read with qv ≥ 20."""
        return (self.cell >= 0) & (self.qv >= GOOD_QV)


def draw_transcripts(
    rng: np.random.Generator,
    cells: Cells,
    shapes: Shapes,
    genes: list[str],
    controls: int,
    frame_um: tuple[float, float],
    config: "SyntheticConfig",
    nucleated: NDArray[np.bool_],
) -> Transcripts:
    """Draw all transcripts of a slide; features are the genes, then `controls` control features.

    Cells without a detected nucleus have no nuclear transcripts.
    """
    total = config.transcripts_per_cell / (1 - _LOST)
    rates = expected_counts(rng, cells.label, genes, total / (1 - config.low_quality_fraction))
    counts = rng.poisson(rates)
    origin, feature = (part.astype(np.int64) for part in np.nonzero(counts))
    repeats = counts[origin, feature]
    origin, feature = np.repeat(origin, repeats), np.repeat(feature, repeats)
    xy = _places(rng, cells, shapes, origin, config.diffusion_um)
    noise = rng.multinomial(len(feature), [_AMBIENT_RATE, _CONTROL_RATE, 1 - _AMBIENT_RATE - _CONTROL_RATE])[:2]
    extra = np.concatenate([rng.integers(0, len(genes), noise[0]), rng.integers(len(genes), len(genes) + controls, noise[1])])
    xy = np.concatenate([xy, rng.uniform(0, 1, (len(extra), 2)) * frame_um])
    feature, origin = np.concatenate([feature, extra]), np.concatenate([origin, np.full(len(extra), -1)])
    xyz = _snap(np.column_stack([xy, rng.normal(17.0, 3.0, len(xy)).clip(8, 30)]))
    low = rng.uniform(size=len(xy)) < config.low_quality_fraction
    qv = np.where(low, rng.uniform(0, GOOD_QV, len(xy)), np.where(rng.uniform(size=len(xy)) < 0.7, 40.0, rng.uniform(GOOD_QV, 40, len(xy))))
    # Rounding in float32 must not lift a bad read to the threshold.
    qv = np.where(low, np.minimum(qv, 19.9), qv).astype(np.float32)
    cell, in_nucleus, distance = assign(xyz[:, :2].astype(np.float64), cells, shapes)
    drawn = Transcripts(feature, xyz, qv, cell, in_nucleus & nucleated[cell], distance, origin)
    inside = ((xyz[:, :2] > 0) & (xyz[:, :2] < np.array(frame_um, dtype=np.float32))).all(1)
    return drawn.take(np.flatnonzero(inside))


def starve(rng: np.random.Generator, drawn: Transcripts, genes: int, n_cells: int, fraction: float) -> Transcripts:
    """Take transcripts from a share of the cells until fewer than ten gene transcripts count in each."""
    poor = rng.permutation(n_cells)[: round(fraction * n_cells)]
    keep_at_most = np.full(n_cells, np.iinfo(np.int64).max)
    keep_at_most[poor] = rng.integers(0, 10, len(poor))
    rank = np.zeros(len(drawn.cell), dtype=np.int64)
    rows = rng.permutation(np.flatnonzero((drawn.cell >= 0) & (drawn.feature < genes)))
    rows = rows[np.argsort(drawn.cell[rows], kind="stable")]
    _, start, count = np.unique(drawn.cell[rows], return_index=True, return_counts=True)
    rank[rows] = np.arange(len(rows)) - np.repeat(start, count)
    return drawn.take(np.flatnonzero((drawn.cell < 0) | (rank < keep_at_most[drawn.cell])))


def assign(xy_um: Floats, cells: Cells, shapes: Shapes) -> tuple[Integers, NDArray[np.bool_], NDArray[np.float32]]:
    """Give each point to the cell around it with the nearest nucleus.

    Returns
    -------
    cell, in_nucleus, distance
        Row of the cell or -1; whether the point lies in that cell's nucleus; distance to the nearest nucleus, µm.
    """
    best = np.full(len(xy_um), -1, dtype=np.int64)
    gap, least = np.full(len(xy_um), np.inf), np.full(len(xy_um), np.inf)
    _, index = nearest(cells.xy_um, xy_um, 5)
    for candidate in index.T:
        offset = xy_um - cells.xy_um[candidate]
        radius, theta = np.hypot(*offset.T), np.arctan2(offset[:, 1], offset[:, 0])
        beyond = radius - radius_at(shapes.nucleus_um, candidate, theta)
        better = (radius < radius_at(shapes.cell_um, candidate, theta)) & (beyond < gap)
        best[better], gap[better] = candidate[better], beyond[better]
        least = np.minimum(least, beyond)
    return best, (best >= 0) & (gap < 0), _snap(np.maximum(least, 0))


def _places(rng: np.random.Generator, cells: Cells, shapes: Shapes, origin: Integers, diffusion_um: float) -> Floats:
    """Put half of a cell's transcripts into its nucleus, the rest round it, and let some leak away."""
    theta = rng.uniform(0, 2 * np.pi, len(origin))
    nucleus, cell = radius_at(shapes.nucleus_um, origin, theta), radius_at(shapes.cell_um, origin, theta)
    nuclear, share = rng.uniform(size=len(origin)) < 0.5, rng.uniform(size=len(origin))
    radius = np.sqrt(np.where(nuclear, share * nucleus**2, nucleus**2 + share * (cell**2 - nucleus**2)))
    spread = np.where(rng.uniform(size=len(origin)) < _LEAKING, diffusion_um, 0.2)
    place = cells.xy_um[origin] + radius[:, None] * np.stack([np.cos(theta), np.sin(theta)], 1)
    return np.asarray(place + rng.normal(0, 1, place.shape) * spread[:, None])


def _snap(values: Floats) -> NDArray[np.float32]:
    # The instrument reports places in steps of 1/64 µm.
    return np.asarray(np.round(values * _GRID) / _GRID, dtype=np.float32)
