"""Support of cell types by markers that are held out, by hand and on planted types."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.evidence import CellExpression, TypeProbabilities, with_panel
from nuclass_pipeline.labeling.neighborhood import Neighborhood
from nuclass_pipeline.labeling.rules import Rules
from nuclass_pipeline.labeling.support import null_type_support, type_support

TYPES = ("Fibroblast", "T_Cell", "Tumor_Associated_Fibroblast")


def planted(own: np.ndarray, weights: np.ndarray) -> CellExpression:
    """Return cells with normalised counts `own`, (cells, genes), and marker weights, (genes, types)."""
    x, panel = sparse.csr_matrix(own), Panel(TYPES, weights)
    neighbors = Neighborhood(np.empty((len(own), 0), np.int64), np.empty((len(own), 0)), 1.0)
    return with_panel(CellExpression(panel, x, x.toarray(), neighbors, x, x.toarray(), np.zeros(len(weights))), panel)


class Given:
    """An annotator that gives cells the types it was made with, whatever the markers."""

    def __init__(self, types: np.ndarray) -> None:
        self.probabilities = np.eye(3)[types]

    def rank(self, expression: CellExpression) -> TypeProbabilities:
        return TypeProbabilities(self.probabilities, (self.probabilities,))


def test_support_is_the_share_of_marker_weight_that_is_twofold_up():
    own = np.array([[4, 4, 0, 1, 0, 0], [4, 4, 0, 1, 0, 0], [0, 3, 0, 0, 2, 2], [0, 3, 0, 0, 2, 2]], float)
    weights = np.array([[3, 0, 0], [2, 0, 0], [3, 0, 0], [1, 0, 0], [0, 3, 0], [0, 3, 1]], float)
    # Fibroblasts: gene 1 is not twofold up and gene 2 is not seen, so 3 + 1 of 3 + 2 + 1, and 2 are added. T cells: both markers.
    found = type_support(planted(own, weights), lambda _: Given(np.array([0, 0, 1, 1])), seed=0)
    np.testing.assert_allclose(found, [4 / (6 + 2), 6 / (6 + 2), 0])


def draw(seed: int) -> tuple[CellExpression, np.ndarray]:
    """Return cells of three types with ten markers each, and ten genes that are no markers."""
    rng = np.random.default_rng(seed)
    gene_type = np.arange(40) % 4
    truth = rng.integers(0, 3, 400)
    own = rng.poisson(0.1 + 2 * (gene_type == truth[:, None])).astype(float)
    return planted(own, 3.0 * (gene_type[:, None] == np.arange(3))), truth


def test_markers_that_are_held_out_choose_no_cells(monkeypatch):
    cells, _ = draw(0)
    marked = []

    def fit(expression: CellExpression) -> Rules:
        marked.append(np.flatnonzero(expression.panel.weights.any(axis=1)))
        return Rules.fit(expression)

    type_support(cells, fit, seed=0)
    held_out = [np.setdiff1d(np.flatnonzero(cells.panel.weights.any(axis=1)), part) for part in marked]
    assert [len(part) for part in held_out] == [6] * 5
    assert len(np.unique(np.concatenate(held_out))) == 30


@pytest.mark.parametrize("seed", range(3))
def test_the_null_lies_below_the_support_of_planted_types(seed):
    cells, _ = draw(seed)
    null = null_type_support(cells, Rules.fit, seed=0)
    assert null == null_type_support(cells, Rules.fit, seed=0)
    # All ten markers are up, of weight 30, and 2 are added.
    np.testing.assert_allclose(type_support(cells, Rules.fit, seed=0), 30 / 32)
    # A permuted table of three types still has a third of its genes in place.
    assert null < 0.9


def test_markers_of_another_type_do_not_support_a_type():
    cells, _ = draw(0)
    # The third type is given the genes without a type, which choose cells and have nothing else in common.
    weights = cells.panel.weights.copy()
    weights[:, 2] = 3.0 * (np.arange(40) % 4 == 3)
    wrong = with_panel(cells, replace(cells.panel, weights=weights))
    assert type_support(wrong, Rules.fit, seed=0)[2] < 0.3


@pytest.mark.parametrize("cells", [25, 200])
def test_a_type_of_a_large_slide_is_supported_though_its_markers_hardly_move_the_mean(cells):
    rng = np.random.default_rng(0)
    gene_type, truth = np.arange(30) % 3, np.repeat([0, 1], [20_000 - cells, cells])
    own = 3.0 * (gene_type == truth[:, None]) * (rng.random((20_000, 30)) < 0.9)
    expression = planted(own, 3.0 * (gene_type[:, None] == np.arange(3)))
    assert (own[:, gene_type == 1].mean(axis=0) < 0.005).all() == (cells == 25)
    np.testing.assert_allclose(type_support(expression, Rules.fit, seed=0)[:2], 30 / 32)
    # The third type's markers are nowhere, and count neither for nor against it.
    assert type_support(expression, Rules.fit, seed=0)[2] == 0
