"""Simulated doublets consist of their two types, and confidence calibrated on them holds for other cells."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling import calibration
from nuclass_pipeline.labeling.calibration import assign_calibrated, calibrate_confidence, simulate_doublets
from nuclass_pipeline.labeling.confidence import assign_types
from nuclass_pipeline.labeling.evidence import CellExpression, gather_expression
from nuclass_pipeline.labeling.rules import Rules

TYPES = ("B_Cell", "Fibroblast", "Macrophage", "T_Cell")
GENES = 24


def draw(noise: float, n: int = 3000, seed: int = 0) -> tuple[CellExpression, np.ndarray]:
    """Draw doublets of four types, and the type with most of their transcripts; its share is uniform between 1/2 and 1.

    `noise` is the share of transcripts that are distributed over all genes: the more, the less the panel separates types.
    """
    rng = np.random.default_rng(seed)
    weights = np.repeat(np.eye(4), GENES // 4, axis=0)
    profile = (1 - noise) * weights.T / weights.sum(axis=0)[:, None] + noise / GENES
    most = rng.integers(0, 4, n)
    other = (most + rng.integers(1, 4, n)) % 4
    share = rng.uniform(0.5, 1, (n, 1))
    counts = rng.multinomial(rng.integers(20, 80, n), share * profile[most] + (1 - share) * profile[other])
    x = sparse.csr_matrix(counts.astype(float))
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * np.median(counts.sum(axis=1)))
    _, _, axes = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    return gather_expression(Panel(TYPES, weights), x, (logged - logged.mean(axis=0)) @ axes[:8].T), most


@pytest.fixture(scope="module")
def clear():
    return draw(0.1)


def test_doublets_are_mixtures_of_their_two_types(clear):
    expression, _ = clear
    assignment = assign_types(expression, Rules.fit(expression).rank(expression))
    doublets = simulate_doublets(expression, assignment.candidate, seed=0)
    assert (doublets.major != doublets.minor).all()
    per_type = doublets.expression.counts @ np.repeat(np.eye(4), GENES // 4, axis=0)
    rows = np.arange(len(doublets.major))
    first, second = per_type[rows, doublets.major].sum(), per_type[rows, doublets.minor].sum()
    # Below 3/4, because the seeds themselves have transcripts of other types.
    assert 0.6 < first / per_type.sum() < 0.75
    assert 0.15 < second / per_type.sum() < 0.3
    np.testing.assert_allclose(
        np.bincount(doublets.major, minlength=4) / len(rows), np.bincount(assignment.candidate, minlength=4) / 3000, atol=0.03
    )
    depth = np.asarray(expression.counts.sum(axis=1)).ravel()
    assert abs(doublets.expression.counts.sum(axis=1).mean() - depth.mean()) < 1
    assert {depth.min(), depth.max()} <= set(np.asarray(doublets.expression.counts.sum(axis=1)).ravel())


def test_query_cells_have_the_expression_of_the_same_cells_of_the_slide(clear):
    expression, _ = clear
    found = calibration._query_expression(expression, expression.counts[:50], np.random.default_rng(0))
    np.testing.assert_allclose(found.own.toarray(), expression.own[:50].toarray())
    spread = expression.components.std(axis=0)
    assert (np.abs(found.components - expression.components[:50]) < 0.05 * spread).mean() > 0.99


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
def test_calibrated_confidence_is_the_share_that_is_right(noise):
    expression, truth = draw(noise)
    annotator = Rules.fit(expression)
    raw = assign_types(expression, annotator.rank(expression))
    found = calibrate_confidence(expression, annotator, raw)
    right = raw.candidate == truth
    assert abs(found.confidence.mean() - right.mean()) < 0.06
    brier = [np.mean((confidence - right) ** 2) for confidence in (found.confidence, raw.confidence)]
    assert brier[0] < brier[1]
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        inside = (found.confidence >= low) & (found.confidence < high)
        if inside.sum() > 100:
            assert abs(right[inside].mean() - found.confidence[inside].mean()) < 0.12
    assert (found.confidence <= found.lineage_confidence).all()
    np.testing.assert_array_equal(found.candidate, raw.candidate)


def test_the_same_seed_gives_the_same_confidence(clear):
    expression, _ = clear
    annotator = Rules.fit(expression)
    raw = assign_types(expression, annotator.rank(expression))
    first, again, other = (calibrate_confidence(expression, annotator, raw, seed=seed).confidence for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 0 < np.abs(first - other).max() < 0.05


def test_one_type_alone_has_no_doublets(clear, caplog):
    expression, most = clear
    alone = np.flatnonzero(most == 0)[:200]
    panel = Panel(TYPES[:1], expression.panel.weights[:, :1])
    expression = gather_expression(panel, expression.counts[alone], expression.components[alone])
    raw = assign_types(expression, Rules.fit(expression).rank(expression))
    with caplog.at_level("INFO"):
        assert calibrate_confidence(expression, Rules.fit(expression), raw) is raw
    assert "not calibrated" in caplog.text


def test_a_fit_by_hand():
    """Simulate P(right) whose odds are those of the confidence, squared and halved: the fit returns it."""
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.02, 0.98, 200_000)
    odds = (raw / (1 - raw)) ** 2 / 2
    right = rng.random(200_000) < odds / (1 + odds)
    found = calibration._calibrate(raw, right, np.array([0.0, 0.3, 0.5, 0.8]))
    np.testing.assert_allclose(found, [0, *(expit(2 * np.log(c / (1 - c)) - np.log(2)) for c in (0.3, 0.5, 0.8))], atol=0.01)
    assert calibration._calibrate(np.ones(100), np.ones(100, bool), np.array([0.99]))[0] > 0.9


@pytest.mark.parametrize("types", [("T_Cell",), ("Fibroblast", "Tumor_Associated_Fibroblast")])
def test_cells_without_a_marker_have_no_confidence_even_where_all_types_are_of_one_family(types):
    rng = np.random.default_rng(0)
    weights = np.zeros((8, len(types)))
    weights[np.arange(4), np.arange(4) % len(types)] = 3
    counts = rng.poisson(3, (400, 8)).astype(float)
    counts[200:, :4] = 0
    apart = np.repeat([[0.0], [9.0]], 200, axis=0) + rng.normal(0, 0.1, (400, 2))
    expression = gather_expression(Panel(types, weights), sparse.csr_matrix(counts), apart)
    found = assign_calibrated(expression, Rules.fit)
    assert (found.confidence[200:] == 0).all()
    assert (found.broad_confidence[200:] == 0).all()


def test_one_marker_alone_supports_no_type():
    counts = np.repeat([[5.0, 1.0, 1.0], [0.0, 1.0, 1.0]], 100, axis=0)
    expression = gather_expression(Panel(("T_Cell",), np.array([[3.0], [0], [0]])), sparse.csr_matrix(counts), counts)
    found = assign_calibrated(expression, Rules.fit)
    assert (found.support == 0).all()
    assert (found.confidence == 0).all()
