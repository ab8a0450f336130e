"""The confidence of the public NanoCellAnnotator, formula by formula, for comparison; it names no cell here.

It counts a p value of 0 as no significance, can reach 0.9 at most, and depends on how many labels compete. Its 14 label aliases and
its keyword lists are not part of this: the lineage signal is an argument.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy as shannon

MIN_COVERAGE, MIN_SCORE, MIN_MARGIN, MAX_ENTROPY = 0.25, 1.25, 0.20, 1.35
HIGH, MODERATE = 0.70, 0.50
CATCH_ALL = frozenset({"normal cell", "cell", "other", "unknown", "uncharacterized", "unspecified"})
"""Labels that say nothing, and are dropped before agreement is counted."""


def _clamp(x: float) -> float:
    return min(1.0, max(0.0, x))


def canonical(label: str) -> str:
    """Reduce a label to its key: lower case, without what is in parentheses, punctuation or a final s.

    Letters outside a–z count as punctuation, as in the original.
    """
    bare = re.sub(r"\([^)]*\)", " ", label.lower())
    return re.sub(r"s$", "", " ".join(re.sub(r"[^a-z0-9]+", " ", bare).split()))


def marker_weight(log2fc: float | None, fraction_in: float | None, fraction_out: float | None, p_adjusted: float | None) -> float:
    """Weigh a marker by effect, excess prevalence and significance, 0 to 3.25; missing inputs (None) add nothing.

    1.5 · log2fc/2.5 + 1.0 · (in − out)/0.5 + 0.75 · −log10(p)/6, each ratio cut to 0–1; a p of 0 adds nothing.
    """
    weight = 0.0
    if log2fc is not None:
        weight += 1.5 * _clamp(log2fc / 2.5)
    if fraction_in is not None and fraction_out is not None:
        weight += _clamp((fraction_in - fraction_out) / 0.5)
    if p_adjusted is not None and p_adjusted > 0:
        weight += 0.75 * _clamp(-np.log10(p_adjusted) / 6)
    return float(weight)


def database_weight(match_score: float) -> float:
    """Scale the match of a gene to the database, 0 to 100, so that 80 is 0 and 100 is 1."""
    return _clamp((match_score - 80) / 20)


def contribution(weight: float, match_score: float) -> float:
    """Reduce a marker's weight by up to 40 % for a poor match."""
    return weight * (0.6 + 0.4 * database_weight(match_score))


def label_scores(contributions: Sequence[tuple[str | None, float]], signal: Mapping[str, float] | None = None) -> dict[str, float]:
    """Add up the contributions of markers to their labels; all grow by 5 % of the strongest lineage signal.

    Parameters
    ----------
    contributions
        Label (None where the gene is unknown) and contribution of each marker.
    signal
        Share of programmes that speak for each lineage.
    """
    scores: dict[str, float] = {}
    for label, value in contributions:
        if label is not None:
            scores[canonical(label)] = scores.get(canonical(label), 0.0) + value
    bonus = 1 + 0.05 * max((signal or {}).values(), default=0.0)
    return {label: score * bonus for label, score in scores.items()}


def margin(first: float, second: float) -> float:
    """Give (s1 − s2) / max(1e-6, s1)."""
    return (first - second) / max(1e-6, first)


def confidence(first: float, gap: float, coverage: float, entropy: float) -> float:
    """Combine the best score, its margin (`gap`), the share of markers with a label and the entropy (nats), 0 to 0.9.

    [0.45 · s1/4 + 0.25 · gap/0.5 + 0.20 · (coverage − 0.25)/0.75] · [1 − 0.25 · (H − 0.5)/1.5], each ratio cut to 0–1.
    """
    support = 0.45 * _clamp(first / 4) + 0.25 * _clamp(gap / 0.5) + 0.20 * _clamp((coverage - 0.25) / 0.75)
    return _clamp(support * (1 - 0.25 * _clamp((entropy - 0.5) / 1.5)))


@dataclass(frozen=True)
class Decision:
    """The status of a cluster (HIGH, MEDIUM, AMBIGUOUS or UNRESOLVED), why, and the confidence."""

    status: str
    reason: str
    confidence: float


def decide(first: float, second: float, coverage: float, entropy: float) -> Decision:
    """Accept a label or say what stands against it; the first objection counts.

    Parameters
    ----------
    first, second
        Best and second-best score; 0 where there is none.
    coverage
        Share of the markers that have a label.
    entropy
        Of the softmax of all scores, nats.
    """
    if first <= 0 or coverage < MIN_COVERAGE:
        return Decision("UNRESOLVED", "no_scores" if first <= 0 else "low_coverage", 0.0)
    gap = margin(first, second)
    value = confidence(first, gap, coverage, entropy)
    objections = {"low_top_score": first < MIN_SCORE, "small_margin": gap < MIN_MARGIN, "high_entropy": entropy > MAX_ENTROPY}
    for reason, holds in objections.items():
        if holds:
            return Decision("AMBIGUOUS", reason, value)
    return Decision("HIGH" if value >= HIGH else "MEDIUM", "accepted", value)


def rank(scores: Mapping[str, float]) -> list[str]:
    """List the labels by falling score; ties in the order of their names."""
    return sorted(scores, key=lambda label: (-scores[label], label))


def judge_cluster(scores: Mapping[str, float], coverage: float) -> Decision:
    """Decide on a cluster from the scores of its labels."""
    ordered = sorted(scores.values(), reverse=True)
    first, second = [*ordered, 0.0, 0.0][:2]
    spread = float(shannon(softmax(ordered))) if ordered else 0.0
    return decide(first, second, coverage, spread)


@dataclass(frozen=True)
class Audit:
    """How a label from elsewhere stands among the scores; `rank` is 1 for the best, −1 for a label without score."""

    support: float
    rank: int
    combined: float
    flag: str


def audit(label: str, scores: Mapping[str, float], lineage: str, signal: Mapping[str, float]) -> Audit:
    """Compare a label with the scores, and its lineage with the programmes: 0.75 · support + 0.25 · consistency."""
    key, order = canonical(label), rank(scores)
    support, consistency = _clamp(scores.get(key, 0.0) / 4), signal.get(lineage, 0.0)
    place = order.index(key) + 1 if key in scores else -1
    flags = {"not_in_candidates": place < 0, "weak": support < 0.35, "slim_inconsistent": lineage != "other" and consistency < 0.20}
    return Audit(support, place, 0.75 * support + 0.25 * consistency, next((flag for flag, holds in flags.items() if holds), "ok"))


def tier(value: float) -> str:
    """Name the tier of a confidence as the original's evaluation does: by the number alone, whatever the decision was."""
    return "High" if value >= HIGH else "Moderate" if value >= MODERATE else "Low"


def agreement(labels: Sequence[str], candidates: Sequence[Sequence[str]], cells: Sequence[int], k: int) -> float:
    """Give the share of cells whose cluster's label is among its first `k` candidates that say something.

    A missing label is an empty text. Comparing a label with the candidates it was chosen from is self-consistency, not accuracy.
    """
    kept = [[key for key in map(canonical, names) if key not in CATCH_ALL][:k] for names in candidates]
    agreed = (n for label, names, n in zip(labels, kept, cells, strict=True) if canonical(label) in names)
    return sum(agreed) / sum(cells)
