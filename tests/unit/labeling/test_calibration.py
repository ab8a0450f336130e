"""Mixed cells are what they are said to be, and confidence read off them holds for cells that nobody mixed."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling import calibration
from nuclass_pipeline.labeling.calibration import calibrate_confidence, simulate_doublets
from nuclass_pipeline.labeling.confidence import assign_types
from nuclass_pipeline.labeling.evidence import CellExpression, Rules, gather_expression

TYPES = ("B_Cell", "Fibroblast", "Macrophage", "T_Cell")
GENES = 24


def draw(noise: float, n: int = 3000, seed: int = 0) -> tuple[CellExpression, np.ndarray]:
    """Draw cells of four types, each mixed with another: the share of the first is uniform between a half and one.

    `noise` is the share of transcripts that fall on any gene: the more, the less the panel tells.
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


def test_mixed_cells_are_mixtures_of_their_two_types(clear):
    evidence, _ = clear
    verdict = assign_types(evidence, Rules.learn(evidence).rank(evidence))
    mixed = simulate_doublets(evidence, verdict.candidate, seed=0)
    assert (mixed.most != mixed.other).all()
    per_type = mixed.evidence.counts @ np.repeat(np.eye(4), GENES // 4, axis=0)
    rows = np.arange(len(mixed.most))
    first, second = per_type[rows, mixed.most].sum(), per_type[rows, mixed.other].sum()
    # Three quarters on average, less what the seeds themselves have of other types.
    assert 0.6 < first / per_type.sum() < 0.75
    assert 0.15 < second / per_type.sum() < 0.3
    np.testing.assert_allclose(
        np.bincount(mixed.most, minlength=4) / len(rows), np.bincount(verdict.candidate, minlength=4) / 3000, atol=0.03
    )
    depth = np.asarray(evidence.counts.sum(axis=1)).ravel()
    assert abs(mixed.evidence.counts.sum(axis=1).mean() - depth.mean()) < 1
    assert {depth.min(), depth.max()} <= set(np.asarray(mixed.evidence.counts.sum(axis=1)).ravel())


def test_further_cells_lie_where_the_same_cells_of_the_slide_lie(clear):
    evidence, _ = clear
    found = calibration._expression_among(evidence, evidence.counts[:50], np.random.default_rng(0))
    np.testing.assert_allclose(found.own.toarray(), evidence.own[:50].toarray())
    spread = evidence.components.std(axis=0)
    assert (np.abs(found.components - evidence.components[:50]) < 0.05 * spread).mean() > 0.99


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
def test_calibrated_confidence_is_the_share_that_is_right(noise):
    evidence, truth = draw(noise)
    annotator = Rules.learn(evidence)
    raw = assign_types(evidence, annotator.rank(evidence))
    found = calibrate_confidence(evidence, annotator, raw)
    right = raw.candidate == truth
    assert abs(found.confidence.mean() - right.mean()) < 0.06
    brier = [np.mean((confidence - right) ** 2) for confidence in (found.confidence, raw.confidence)]
    assert brier[0] < brier[1]
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        inside = (found.confidence >= low) & (found.confidence < high)
        if inside.sum() > 100:
            assert abs(right[inside].mean() - found.confidence[inside].mean()) < 0.12
    assert (found.confidence <= found.group_confidence).all()
    np.testing.assert_array_equal(found.candidate, raw.candidate)


def test_the_same_seed_gives_the_same_confidence(clear):
    evidence, _ = clear
    annotator = Rules.learn(evidence)
    raw = assign_types(evidence, annotator.rank(evidence))
    first, again, other = (calibrate_confidence(evidence, annotator, raw, seed=seed).confidence for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 0 < np.abs(first - other).max() < 0.05


def test_one_type_alone_cannot_be_mixed(clear, caplog):
    evidence, most = clear
    alone = np.flatnonzero(most == 0)[:200]
    evidence = gather_expression(Panel(TYPES[:1], evidence.panel.weights[:, :1]), evidence.counts[alone], evidence.components[alone])
    raw = assign_types(evidence, Rules.learn(evidence).rank(evidence))
    with caplog.at_level("INFO"):
        assert calibrate_confidence(evidence, Rules.learn(evidence), raw) is raw
    assert "not calibrated" in caplog.text


def test_a_fit_by_hand():
    """Right with the odds of the confidence, squared and halved: that is what is read off."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.02, 0.98, 200_000)
    odds = (confidence / (1 - confidence)) ** 2 / 2
    right = rng.random(200_000) < odds / (1 + odds)
    found = calibration._read_off(confidence, right, np.array([0.0, 0.3, 0.5, 0.8]))
    np.testing.assert_allclose(found, [0, *(expit(2 * np.log(c / (1 - c)) - np.log(2)) for c in (0.3, 0.5, 0.8))], atol=0.01)
    assert calibration._read_off(np.ones(100), np.ones(100, bool), np.array([0.99]))[0] > 0.9
