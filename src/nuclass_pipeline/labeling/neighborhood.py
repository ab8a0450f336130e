"""Cells that are near a cell in expression: averaging with them fills in transcripts that were missed."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from nuclass_pipeline.arrays import Booleans, Floats, Integers

# Both tuned on the breast slide (docs/development.md): equal weights over ten cells dissolved its 58 dendritic cells. A normal density
# over twenty keeps them, and helped on every thinned panel too.
NEIGHBORS = 19
"""Neighbours of a cell; with the cell itself at most a tenth of the slide."""

BANDWIDTH_SHARE = 0.75
"""Standard deviation of the density, in medians of the distance to a neighbour."""


@dataclass(frozen=True)
class Neighborhood:
    """Neighbours of cells, and their weights.

    Attributes
    ----------
    rows
        Neighbours as rows of the slide, (cells, k).
    weights
        Weight of each against 1 for the cell itself, (cells, k). A normal density of the distance, because equal weights would average a
        rare cell with the many cells that happen to be nearest.
    bandwidth
        Standard deviation of that density, in the unit of the components.
    """

    rows: Integers
    weights: Floats
    bandwidth: float

    @classmethod
    def of_slide(cls, components: Floats) -> "Neighborhood":
        """Find the neighbours of the cells of a slide by principal components, (cells, n); no cell is its own neighbour."""
        k = max(0, min(NEIGHBORS, len(components) // 10 - 1))
        if not k:
            return cls(np.empty((len(components), 0), np.int64), np.empty((len(components), 0)), 1.0)
        # Called without points, because the search then leaves each cell out of its own neighbours.
        distance, rows = NearestNeighbors(n_neighbors=k).fit(components).kneighbors()
        return cls._by_distance(rows, distance, BANDWIDTH_SHARE * float(np.median(distance)))

    @classmethod
    def _by_distance(cls, rows: Integers, distance: Floats, bandwidth: float) -> "Neighborhood":
        # Distance 0 where the bandwidth is 0, because the median is 0 where most cells are alike, and all neighbours are near then.
        relative = np.divide(distance, bandwidth, out=np.zeros_like(distance), where=bandwidth > 0)
        return cls(rows, np.exp(-(relative**2) / 2), bandwidth)

    def of_query(self, components: Floats, slide: Floats) -> "Neighborhood":
        """Find the neighbours of query cells among the cells of the slide, with its bandwidth.

        Parameters
        ----------
        components
            Principal components of the query cells, (query cells, n).
        slide
            Principal components of the slide's cells, (cells, n).
        """
        k = self.rows.shape[1]
        if not k:
            return Neighborhood(np.empty((len(components), 0), np.int64), np.empty((len(components), 0)), self.bandwidth)
        distance, rows = NearestNeighbors(n_neighbors=k).fit(slide).kneighbors(components)
        return self._by_distance(rows, distance, self.bandwidth)

    def average(self, own: sparse.csr_matrix, slide: sparse.csr_matrix) -> Floats:
        """Average the expression of the cells with that of their neighbours, (cells, genes).

        Parameters
        ----------
        own
            Normalised counts of the cells, (cells, genes).
        slide
            Normalised counts of the slide that `rows` refers to, (cells of the slide, genes).
        """
        n, k = self.rows.shape
        weights = sparse.csr_matrix((self.weights.ravel(), self.rows.ravel(), k * np.arange(n + 1)), shape=(n, slide.shape[0]))
        total = 1 + self.weights.sum(axis=1, keepdims=True)
        return np.asarray((own + weights @ slide).toarray() / total, dtype=np.float64)

    def share(self, selected: Booleans) -> Floats:
        """Compute the weighted share of each cell's neighbours that are `selected`, (cells,); 1 where no neighbour has weight.

        Parameters
        ----------
        selected
            Which neighbours count, (cells, k).
        """
        total = self.weights.sum(axis=1)
        return np.asarray(np.divide((self.weights * selected).sum(axis=1), total, out=np.ones_like(total), where=total > 0))
