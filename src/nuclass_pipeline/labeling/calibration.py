"""Calibration of confidence on simulated doublets, whose types are known.

The main cause of wrong labels is transcripts of a second cell. How reliable a confidence is then depends on the panel, the depth and the
types of a slide, and no slide comes with its truth. So doublets are simulated from pure cells of the slide in known proportions, as in
Scrublet and DoubletFinder, and assigned like all other cells. The share with the right type is fitted as a function of confidence.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.labeling.confidence import TypeAssignment, assign_types, contained
from nuclass_pipeline.labeling.evidence import Annotator, CellExpression, Fit, choose_seeds, lineage_members
from nuclass_pipeline.labeling.support import null_type_support, type_support

logger = logging.getLogger(__name__)

# As many as make the fit the same from seed to seed: a test holds two seeds to within 0.05.
N_DOUBLETS = 20_000
"""Doublets to simulate."""

# Fewest doublets to calibrate on, because a logistic fit to fewer is noise. A round number.
_MIN_DOUBLETS = 100

# Cells that the map from expression to components is fitted to. A bound on memory, because their expression becomes dense.
_MAX_PROJECTED = 20_000


@dataclass(frozen=True)
class SimulatedDoublets:
    """Simulated doublets and their types.

    Attributes
    ----------
    expression
        Their expression as query cells of the slide.
    major, minor
        Column of the type with more, and with fewer, of each doublet's transcripts, (doublets,).
    """

    expression: CellExpression
    major: Integers
    minor: Integers


def assign_calibrated(expression: CellExpression, fit: Fit, lineages: Sequence[str] | None = None, seed: int = 0) -> TypeAssignment:
    """Assign a type to each cell of a slide, with the probability that it is right as its confidence.

    Confidence is reduced where the markers of a type have little support on the slide.

    Parameters
    ----------
    expression
        Expression and markers of the slide.
    fit
        What fits an annotator to it.
    lineages
        Lineage of each type; those of the panel by default.
    seed
        Seed of the simulated doublets, of the support and of its permutation null.
    """
    annotator = fit(expression)
    assignment = assign_types(expression, annotator.rank(expression), lineages)
    # Down-weighted last, because doublets share the marker table and cannot show whether it means anything.
    calibrated = calibrate_confidence(expression, annotator, assignment, lineages, seed)
    support = type_support(expression, fit, seed)
    null_support = null_type_support(expression, fit, seed)
    return calibrated.downweighted(expression.panel, support, null_support, expression.marked)


def calibrate_confidence(
    expression: CellExpression, annotator: Annotator, assignment: TypeAssignment, lineages: Sequence[str] | None = None, seed: int = 0
) -> TypeAssignment:
    """Replace confidences by the share of simulated doublets with the right type at that confidence.

    The confidence of a type is fitted to all doublets, that of a lineage to doublets of two lineages. Where no doublets can be simulated,
    the assignment is returned as it is.

    Parameters
    ----------
    expression, annotator, lineages
        As for `assign_calibrated`.
    assignment
        Types of the slide's cells before calibration.
    seed
        Seed of the simulated doublets.
    """
    doublets = simulate_doublets(expression, assignment.candidate, seed)
    if doublets is None:
        logger.info("nearly all seeds are of one type: confidence is not calibrated")
        return assignment
    _, code = lineage_members(expression.panel.lineages if lineages is None else lineages)
    _, family = lineage_members(expression.panel.broader)
    found = assign_types(doublets.expression, annotator.rank(doublets.expression), lineages, assignment)
    apart = code[doublets.major] != code[doublets.minor]
    right, right_lineage = found.candidate == doublets.major, found.lineage == code[doublets.major]
    right_family = family[found.candidate] == family[doublets.major]
    confidence = _calibrate(found.confidence, right, assignment.confidence)
    broad = _calibrate(found.broad_confidence, right_family, assignment.broad_confidence)
    lineage = _calibrate(found.lineage_confidence[apart], right_lineage[apart], assignment.lineage_confidence)
    # The minimum, because a cell with the right type is also of the type that contains it, and of its lineage.
    broad = np.minimum(np.where(contained(expression.panel)[assignment.candidate], broad, confidence), lineage)
    return replace(assignment, confidence=np.minimum(confidence, broad), broad_confidence=broad, lineage_confidence=lineage)


def simulate_doublets(expression: CellExpression, candidate: Integers, seed: int) -> SimulatedDoublets | None:
    """Simulate doublets from seeds of two types each; None where nearly all cells are of one type, or no type has seeds.

    Types are drawn as frequent as on the slide. The share of the first is uniform between 1/2 and 1. Counts are multinomial around the
    mixture of two seeds' smoothed expression, at the depth of a cell of the first type.

    Parameters
    ----------
    expression
        Expression and markers of the slide.
    candidate
        Column of each cell's type, (cells,).
    seed
        Seed of all draws.
    """
    seeds = choose_seeds(expression.shares)
    usable = np.flatnonzero(np.isin(candidate, seeds[seeds >= 0]))
    if not len(usable):
        return None
    rng = np.random.default_rng(seed)
    # Four times as many pairs as needed, because pairs of the same type are dropped.
    first, second = rng.choice(usable, (2, 4 * N_DOUBLETS))
    apart = np.flatnonzero(candidate[first] != candidate[second])[:N_DOUBLETS]
    if len(apart) < _MIN_DOUBLETS:
        return None
    major, minor = candidate[first[apart]], candidate[second[apart]]
    share = rng.uniform(0.5, 1, (len(apart), 1))
    one, other = (expression.smoothed[_draw_seeds(seeds, types, rng)] for types in (major, minor))
    mixture = share * one / one.sum(axis=1, keepdims=True) + (1 - share) * other / other.sum(axis=1, keepdims=True)
    depth = np.asarray(expression.counts[first[apart]].sum(axis=1), np.int64).ravel()
    counts = rng.multinomial(depth, mixture / mixture.sum(axis=1, keepdims=True))
    return SimulatedDoublets(_query_expression(expression, sparse.csr_matrix(counts.astype(np.float64)), rng), major, minor)


def _draw_seeds(seeds: Integers, types: Integers, rng: np.random.Generator) -> Integers:
    """Draw a seed of each of `types`, with replacement."""
    drawn = np.empty(len(types), np.int64)
    for column in np.unique(types):
        drawn[types == column] = rng.choice(np.flatnonzero(seeds == column), (types == column).sum())
    return drawn


def _query_expression(slide: CellExpression, counts: sparse.csr_matrix, rng: np.random.Generator) -> CellExpression:
    """Build the expression of query cells as if they were cells of the slide, from their raw counts, (query cells, genes)."""
    depth = np.asarray(slide.counts.sum(axis=1), np.float64).ravel()
    target = np.median(depth[depth > 0])
    own = sparse.csr_matrix(sparse.diags_array(target / np.asarray(counts.sum(axis=1), np.float64).ravel()) @ counts)
    # A regression, because components are linear in logged expression, and the slide's table of components has no loadings.
    rows = rng.choice(len(depth), min(_MAX_PROJECTED, len(depth)), replace=False)
    loadings, *_ = np.linalg.lstsq(_logged(slide.own[rows]), slide.components[rows], rcond=1e-6)
    components = _logged(own) @ loadings
    neighbors = slide.neighbors.of_query(components, slide.components)
    return CellExpression(slide.panel, counts, components, neighbors, own, neighbors.average(own, slide.own), slide.ambient)


def _logged(own: sparse.csr_matrix) -> Floats:
    return np.column_stack([np.log1p(own.toarray()), np.ones(own.shape[0])])


def _calibrate(simulated: Floats, right: Booleans, confidence: Floats) -> Floats:
    """Fit P(right) to the confidence of simulated doublets (Platt scaling), and apply the fit to `confidence`, (cells,)."""
    if not len(simulated):
        return confidence
    # One wrong cell at 0 and one right cell at 1, because the fit is undefined where all doublets are right.
    values, truth = np.append(simulated, [0.0, 1.0]), np.append(right, [False, True])
    model = LogisticRegression().fit(_log_odds(values), truth)
    probability = model.predict_proba(_log_odds(confidence))[:, 1]
    shown = model.predict_proba(_log_odds([0.5, 0.8]))[:, 1]
    logger.info("confidence calibrated on %d simulated doublets: 0.5 means %.2f, 0.8 means %.2f", len(simulated), *shown)
    return np.asarray(probability)


def _log_odds(confidence: Floats | Sequence[float]) -> Floats:
    return np.asarray(logit(np.clip(confidence, 1e-3, 1 - 1e-3)))[:, None]
