"""What ranks the admissible labels of a whole cluster, given its record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.proposals.evidence import ClusterEvidence, collect_evidence


class ClusterAnnotator(Protocol):
    """Anything that ranks labels."""

    def rank(self, evidence: ClusterEvidence) -> dict[str, float]:
        """Give the log probability of each label in `evidence.admissible`, and of no other."""


@dataclass(frozen=True)
class RulesAnnotator:
    """Rank by the support of the markers alone; needs no language model.

    `temperature` is the difference in support that makes a label e times as likely. The probabilities are not calibrated.
    """

    temperature: float = 0.05

    def rank(self, evidence: ClusterEvidence) -> dict[str, float]:
        """Give the log softmax of support ÷ temperature; labels without support count as 0, so no evidence is a uniform answer."""
        score = {support.label: support.score for support in evidence.support}
        values = log_softmax(np.array([score.get(label, 0.0) for label in evidence.admissible]) / self.temperature)
        return dict(zip(evidence.admissible, values.tolist(), strict=True))


def null_support(
    *, sizes: Mapping[Any, int], markers: pd.DataFrame, panel: Panel, genes: Sequence[str], organ: str, draws: int = 40, seed: int = 0
) -> float:
    """Give the support that the best label of a cluster reaches by chance in one case of a hundred.

    The clusters keep their markers, and the marker table's rows are dealt to other genes of the panel. Below this support a
    cluster is no better known than by a table that knows nothing, so its label is Unresolved.

    Parameters
    ----------
    sizes, markers, panel, genes, organ
        As for `collect_evidence`.
    draws
        How often the rows are dealt anew.
    seed
        Of the deals.
    """
    rng = np.random.default_rng(seed)
    best: list[float] = []
    for _ in range(draws):
        dealt = replace(panel, weights=rng.permutation(panel.weights))
        records = collect_evidence(sizes=sizes, markers=markers, panel=dealt, genes=genes, organ=organ)
        best += [max((support.score for support in record.support), default=0.0) for record in records]
    return float(np.quantile(best, 0.99)) if best else 0.0
