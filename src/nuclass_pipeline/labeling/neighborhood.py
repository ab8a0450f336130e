"""The cells that are nearest to a cell in expression: they stand in for transcripts that were missed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from nuclass_pipeline.arrays import Floats

NEIGHBORS = 19
"""Neighbours of a cell; with itself at most a tenth of the slide."""

BANDWIDTH_SHARE = 0.75
"""Standard deviation of the nearness, in medians of the distance to a neighbour."""


@dataclass(frozen=True)
class Neighborhood:
    """Neighbours of cells, and how near each is.

    `rows`, (cells, k), are rows of the slide, and `nearness`, (cells, k), their weights against 1 for the cell itself: a normal density
    of the distance, so that a rare cell is not averaged with many that merely are the nearest. `bandwidth` is its standard deviation.
    """

    rows: NDArray[np.int64]
    nearness: Floats
    bandwidth: float

    @classmethod
    def of_slide(cls, components: Floats) -> "Neighborhood":
        """Find the neighbours of the cells of a slide, by principal components (cells, n); no cell is its own neighbour."""
        k = max(0, min(NEIGHBORS, len(components) // 10 - 1))
        if not k:
            return cls(np.empty((len(components), 0), np.int64), np.empty((len(components), 0)), 1.0)
        # Asked without points, the search leaves each cell out of its own neighbours.
        distance, rows = NearestNeighbors(n_neighbors=k).fit(components).kneighbors()
        return cls._by_distance(rows, distance, BANDWIDTH_SHARE * float(np.median(distance)))

    @classmethod
    def _by_distance(cls, rows: NDArray[np.int64], distance: Floats, bandwidth: float) -> "Neighborhood":
        # Where most cells are alike the median is 0: then all their neighbours are near.
        relative = np.divide(distance, bandwidth, out=np.zeros_like(distance), where=bandwidth > 0)
        return cls(rows, np.exp(-(relative**2) / 2), bandwidth)

    def of_further(self, components: Floats, slide: Floats) -> "Neighborhood":
        """Find the neighbours of further cells, `components` (further cells, n), among those of the slide, `slide` (cells, n)."""
        k = self.rows.shape[1]
        if not k:
            return Neighborhood(np.empty((len(components), 0), np.int64), np.empty((len(components), 0)), self.bandwidth)
        distance, rows = NearestNeighbors(n_neighbors=k).fit(slide).kneighbors(components)
        return self._by_distance(rows, distance, self.bandwidth)

    def average(self, own: sparse.csr_matrix, slide: sparse.csr_matrix) -> Floats:
        """Average the cells with their neighbours.

        Parameters
        ----------
        own
            Normalised counts of the cells, (cells, genes).
        slide
            Those of the slide, which `rows` refer to, (cells of the slide, genes).
        """
        n, k = self.rows.shape
        weights = sparse.csr_matrix((self.nearness.ravel(), self.rows.ravel(), k * np.arange(n + 1)), shape=(n, slide.shape[0]))
        total = 1 + self.nearness.sum(axis=1, keepdims=True)
        return np.asarray((own + weights @ slide).toarray() / total, dtype=np.float64)

    def share(self, like: NDArray[np.bool_]) -> Floats:
        """Give the weighted share of each cell's neighbours that are `like` it, (cells, k); 1 without neighbours near it."""
        total = self.nearness.sum(axis=1)
        return np.asarray(np.divide((self.nearness * like).sum(axis=1), total, out=np.ones_like(total), where=total > 0))
