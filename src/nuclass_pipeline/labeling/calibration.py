"""Confidence as a probability, by cells whose type is known because they were mixed from sure ones.

What spoils a label is a second cell's transcripts. How far a confidence can be trusted then depends on the panel, the depth and the
types of a slide, and no slide comes with its truth. So cells are mixed from pure cells of the slide, in proportions that are known,
labelled like all others, and the share that is labelled right is read off as a function of confidence.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.labeling.confidence import TypeAssignment, assign_types, null_type_support
from nuclass_pipeline.labeling.evidence import Annotator, CellExpression, choose_seeds, group_members, marker_shares

logger = logging.getLogger(__name__)

N_DOUBLETS = 20_000
"""As many cells are mixed as make the fit the same from seed to seed."""

_MIN_MIXED, _PROJECTED = 100, 20_000


@dataclass(frozen=True)
class SimulatedDoublets:
    """Cells that were mixed: their evidence, and the columns of the type that is most of each and of the other, (cells,)."""

    evidence: CellExpression
    most: NDArray[np.int64]
    other: NDArray[np.int64]


def assign_calibrated(evidence: CellExpression, annotator: Annotator, groups: Sequence[str] | None = None, seed: int = 0) -> TypeAssignment:
    """Judge the cells of a slide; a confidence is the probability of being right, less where the markers of a type have no support.

    Parameters
    ----------
    evidence
        Of the slide.
    annotator
        Learnt from it.
    groups
        As for `judge`.
    seed
        Of the mixing, and of the marker tables dealt at random.
    """
    verdict = assign_types(evidence, annotator.rank(evidence), groups)
    # Mixed cells share the markers and cannot tell whether these mean anything, so that doubt comes last.
    return calibrate_confidence(evidence, annotator, verdict, groups, seed).doubted(null_type_support(evidence, seed))


def calibrate_confidence(
    evidence: CellExpression, annotator: Annotator, verdict: TypeAssignment, groups: Sequence[str] | None = None, seed: int = 0
) -> TypeAssignment:
    """Turn the confidences of a verdict into the share of mixed cells that are labelled right at that confidence.

    A type's confidence is read off all mixed cells, a group's off those mixed from two groups. Where there is nothing to mix the
    confidence stays.
    """
    mixed = simulate_doublets(evidence, verdict.candidate, seed)
    if mixed is None:
        logger.info("next to all sure cells are of one type: confidence is not calibrated")
        return verdict
    _, code = group_members(evidence.panel.lineages if groups is None else groups)
    found = assign_types(mixed.evidence, annotator.rank(mixed.evidence), groups, verdict)
    apart = code[mixed.most] != code[mixed.other]
    right, right_group = found.candidate == mixed.most, found.group == code[mixed.most]
    confidence = _read_off(found.confidence, right, verdict.confidence)
    group_confidence = _read_off(found.group_confidence[apart], right_group[apart], verdict.group_confidence)
    # Who has the type right has the group right too.
    return replace(verdict, confidence=np.minimum(confidence, group_confidence), group_confidence=group_confidence)


def simulate_doublets(evidence: CellExpression, candidate: NDArray[np.int64], seed: int) -> SimulatedDoublets | None:
    """Mix cells from the seeds of two types each; None where next to all cells are of one type, or no type has seeds.

    The types are drawn as they occur on the slide. The share of the first is uniform between a half and one. Counts are multinomial
    around the mixture of the two cells' smoothed expression, at the depth of a cell of the first type.

    Parameters
    ----------
    evidence
        Of the slide.
    candidate
        Column of each cell's type, (cells,).
    seed
        Of the draws.
    """
    chosen = choose_seeds(marker_shares(evidence))
    known = np.flatnonzero(np.isin(candidate, chosen[chosen >= 0]))
    if not len(known):
        return None
    rng = np.random.default_rng(seed)
    like, unlike = rng.choice(known, (2, 4 * N_DOUBLETS))
    apart = np.flatnonzero(candidate[like] != candidate[unlike])[:N_DOUBLETS]
    if len(apart) < _MIN_MIXED:
        return None
    like, most, other = like[apart], candidate[like[apart]], candidate[unlike[apart]]
    share = rng.uniform(0.5, 1, (len(apart), 1))
    first, second = (evidence.smoothed[_draw_seeds(chosen, types, rng)] for types in (most, other))
    mixture = share * first / first.sum(axis=1, keepdims=True) + (1 - share) * second / second.sum(axis=1, keepdims=True)
    depth = np.asarray(evidence.counts[like].sum(axis=1), np.int64).ravel()
    counts = rng.multinomial(depth, mixture / mixture.sum(axis=1, keepdims=True))
    return SimulatedDoublets(_expression_among(evidence, sparse.csr_matrix(counts.astype(np.float64)), rng), most, other)


def _draw_seeds(chosen: NDArray[np.int64], types: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a seed of each of `types`, with replacement."""
    drawn = np.empty(len(types), np.int64)
    for column in np.unique(types):
        drawn[types == column] = rng.choice(np.flatnonzero(chosen == column), (types == column).sum())
    return drawn


def _expression_among(slide: CellExpression, counts: sparse.csr_matrix, rng: np.random.Generator) -> CellExpression:
    """Collect the evidence on further cells as if they lay among those of a slide."""
    depth = np.asarray(slide.counts.sum(axis=1), np.float64).ravel()
    target = np.median(depth[depth > 0])
    own = sparse.csr_matrix(sparse.diags_array(target / np.asarray(counts.sum(axis=1), np.float64).ravel()) @ counts)
    # Components are linear in logged expression; that of the slide says how.
    rows = rng.choice(len(depth), min(_PROJECTED, len(depth)), replace=False)
    loadings, *_ = np.linalg.lstsq(_logged(slide.own[rows]), slide.components[rows], rcond=1e-6)
    components = _logged(own) @ loadings
    neighbors = slide.neighbors.of_further(components, slide.components)
    return CellExpression(slide.panel, counts, components, neighbors, own, neighbors.average(own, slide.own))


def _logged(own: sparse.csr_matrix) -> Floats:
    return np.column_stack([np.log1p(own.toarray()), np.ones(own.shape[0])])


def _read_off(mixed: Floats, right: NDArray[np.bool_], confidence: Floats) -> Floats:
    """Fit the probability of being right to the confidence of mixed cells (Platt's scaling), and read it off for others, (cells,)."""
    if not len(mixed):
        return confidence
    # Two cells without doubt about what they are keep the fit defined where all mixed cells are right.
    values, truth = np.append(mixed, [0.0, 1.0]), np.append(right, [False, True])
    model = LogisticRegression().fit(_odds(values), truth)
    probability = model.predict_proba(_odds(confidence))[:, 1]
    logger.info(
        "confidence calibrated on %d mixed cells: 0.5 means %.2f, 0.8 means %.2f", len(mixed), *model.predict_proba(_odds([0.5, 0.8]))[:, 1]
    )
    return np.asarray(probability)


def _odds(confidence: Floats | Sequence[float]) -> Floats:
    return np.asarray(logit(np.clip(confidence, 1e-3, 1 - 1e-3)))[:, None]
