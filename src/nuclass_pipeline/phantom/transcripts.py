"""Transcripts: their places, their quality and the cells they are assigned to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.phantom.layout import nearest
from nuclass_pipeline.phantom.programs import expected_counts
from nuclass_pipeline.phantom.shapes import Shapes, radius_at
from nuclass_pipeline.phantom.tissue import Cells

if TYPE_CHECKING:
    from nuclass_pipeline.config.synthetic import SyntheticConfig

GOOD_QV = 20.0
"""Lowest quality of a transcript that Xenium counts."""
# Not all RNA diffuses, because only what leaks during permeabilisation travels; the rest stays in its cell.
_LEAKING = 0.36
# Share of transcripts that end outside all cells. Drawn in addition, because `transcripts_per_cell` is the median of assigned ones.
_LOST = 0.05
_CONTROL_RATE = 0.002
_AMBIENT_RATE = 0.02
_GRID = 64.0


@dataclass(frozen=True)
class Transcripts:
    """Transcripts of a slide; every array has one entry per transcript.

    Attributes
    ----------
    feature
        Row of the feature in the matrix.
    xyz_um
        (N, 3) place, µm.
    qv
        Quality, Phred-scaled.
    cell
        Row of the cell it is assigned to, or -1.
    in_nucleus
        Whether it is in the nucleus of that cell.
    nucleus_distance_um
        Distance to the nearest nucleus, µm; 0 inside.
    origin
        Row of the cell that made it, or -1 for noise.
    """

    feature: Integers
    xyz_um: NDArray[np.float32]
    qv: NDArray[np.float32]
    cell: Integers
    in_nucleus: Booleans
    nucleus_distance_um: NDArray[np.float32]
    origin: Integers

    def take(self, rows: Integers) -> "Transcripts":
        """Return the transcripts of these rows, in this order."""
        return Transcripts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def counted(self) -> Booleans:
        """Whether each enters the matrix: assigned, and qv ≥ 20."""
        return (self.cell >= 0) & (self.qv >= GOOD_QV)


def draw_transcripts(
    rng: np.random.Generator,
    cells: Cells,
    shapes: Shapes,
    genes: list[str],
    controls: int,
    frame_um: tuple[float, float],
    config: "SyntheticConfig",
    nucleated: Booleans,
) -> Transcripts:
    """Draw all transcripts of a slide.

    Parameters
    ----------
    rng
        Source of randomness.
    cells, shapes
        The cells and their outlines.
    genes
        Panel in feature order.
    controls
        Number of control features, which follow the genes.
    frame_um
        Width and height of the field; transcripts outside are dropped.
    config
        Quality of the data.
    nucleated
        (cells,) whether the nucleus was detected; without it no transcript is nuclear.
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
    # Limited, because rounding to float32 could lift a bad read to the threshold.
    qv = np.where(low, np.minimum(qv, 19.9), qv).astype(np.float32)
    cell, in_nucleus, distance = assign_transcripts(xyz[:, :2].astype(np.float64), cells, shapes)
    drawn = Transcripts(feature, xyz, qv, cell, in_nucleus & nucleated[cell], distance, origin)
    inside = ((xyz[:, :2] > 0) & (xyz[:, :2] < np.array(frame_um, dtype=np.float32))).all(1)
    return drawn.take(np.flatnonzero(inside))


def starve(rng: np.random.Generator, drawn: Transcripts, genes: int, n_cells: int, fraction: float) -> Transcripts:
    """Remove transcripts of some cells until each of these keeps fewer than ten of genes.

    Parameters
    ----------
    rng
        Source of randomness.
    drawn
        Transcripts of the slide.
    genes
        Number of genes, which precede the control features.
    n_cells
        Number of cells.
    fraction
        Share of the cells to starve.
    """
    poor = rng.permutation(n_cells)[: round(fraction * n_cells)]
    keep_at_most = np.full(n_cells, np.iinfo(np.int64).max)
    keep_at_most[poor] = rng.integers(0, 10, len(poor))
    rank = np.zeros(len(drawn.cell), dtype=np.int64)
    rows = rng.permutation(np.flatnonzero((drawn.cell >= 0) & (drawn.feature < genes)))
    rows = rows[np.argsort(drawn.cell[rows], kind="stable")]
    _, start, count = np.unique(drawn.cell[rows], return_index=True, return_counts=True)
    rank[rows] = np.arange(len(rows)) - np.repeat(start, count)
    return drawn.take(np.flatnonzero((drawn.cell < 0) | (rank < keep_at_most[drawn.cell])))


def assign_transcripts(xy_um: Floats, cells: Cells, shapes: Shapes) -> tuple[Integers, Booleans, NDArray[np.float32]]:
    """Assign each point to the cell around it whose nucleus is nearest.

    Parameters
    ----------
    xy_um
        (N, 2) points, µm.
    cells, shapes
        The cells and their outlines.

    Returns
    -------
    cell, in_nucleus, distance
        (N,) row of the cell or -1; whether the point is in the nucleus of that cell; distance to the nearest nucleus, µm.
    """
    best = np.full(len(xy_um), -1, dtype=np.int64)
    gap, least = np.full(len(xy_um), np.inf), np.full(len(xy_um), np.inf)
    # Five centres, because the cell around a point is not always that with the nearest centre.
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
    """Place half of a cell's transcripts in its nucleus, the others around it, and let some diffuse."""
    theta = rng.uniform(0, 2 * np.pi, len(origin))
    nucleus, cell = radius_at(shapes.nucleus_um, origin, theta), radius_at(shapes.cell_um, origin, theta)
    nuclear, share = rng.uniform(size=len(origin)) < 0.5, rng.uniform(size=len(origin))
    radius = np.sqrt(np.where(nuclear, share * nucleus**2, nucleus**2 + share * (cell**2 - nucleus**2)))
    spread = np.where(rng.uniform(size=len(origin)) < _LEAKING, diffusion_um, 0.2)
    place = cells.xy_um[origin] + radius[:, None] * np.stack([np.cos(theta), np.sin(theta)], 1)
    return np.asarray(place + rng.normal(0, 1, place.shape) * spread[:, None])


def _snap(values: Floats) -> NDArray[np.float32]:
    # In steps of 1/64 µm, because the instrument reports places so.
    return np.asarray(np.round(values * _GRID) / _GRID, dtype=np.float32)
