"""Annotators: they rank the admissible labels of a whole cluster, given its record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.proposals.collect import collect_evidence
from nuclass_pipeline.proposals.evidence import ClusterEvidence

# 0.99, because with a permuted table at most 5 % of the clusters then pass, with the real one 80 to 90 % of the breast slide's.
NULL_QUANTILE = 0.99
"""Quantile of the permutation null that the support of a proposed label has to reach."""


class ClusterAnnotator(Protocol):
    """Anything that ranks labels."""

    def rank(self, evidence: ClusterEvidence) -> dict[str, float]:
        """Return the log probability of each label in `evidence.admissible`, and of no other."""


@dataclass(frozen=True)
class RulesAnnotator:
    """Rank by the support of the markers alone, without a language model.

    Attributes
    ----------
    temperature
        Difference in support that makes a label e times as likely. It only shapes the probabilities, which are not calibrated.
    """

    temperature: float = 0.05

    def rank(self, evidence: ClusterEvidence) -> dict[str, float]:
        """Return the log softmax of support ÷ temperature; labels without support count as 0, so no evidence is a uniform answer."""
        score = {support.label: support.score for support in evidence.support}
        values = log_softmax(np.array([score.get(label, 0.0) for label in evidence.admissible]) / self.temperature)
        return dict(zip(evidence.admissible, values.tolist(), strict=True))


def null_support(
    *,
    sizes: Mapping[Any, int],
    markers: pd.DataFrame,
    panel: Panel,
    genes: Sequence[str],
    organ: str,
    permutations: int = 40,
    seed: int = 0,
) -> float:
    """Compute the support that the best label of a cluster reaches in 1 % of the permutation null.

    The clusters keep their markers, and the rows of marker weights are permuted over the genes of the panel. A label with less support
    is no better than one from a permuted marker table, so the cluster's proposal is Unresolved.

    Parameters
    ----------
    sizes, markers, panel, genes, organ
        As for `collect_evidence`.
    permutations
        Number of permutations; each adds the best support of every cluster to the null.
    seed
        Seed of the permutations.

    Returns
    -------
    Quantile `NULL_QUANTILE` of the best supports, 0 to 1; 0 if there is no cluster.
    """
    rng = np.random.default_rng(seed)
    best: list[float] = []
    for _ in range(permutations):
        # Whole rows, because a gene that marks several types must go on doing so: its value depends on their number.
        permuted = replace(panel, weights=rng.permutation(panel.weights))
        records = collect_evidence(sizes=sizes, markers=markers, panel=permuted, genes=genes, organ=organ)
        best += [max((support.score for support in record.support), default=0.0) for record in records]
    return float(np.quantile(best, NULL_QUANTILE)) if best else 0.0
