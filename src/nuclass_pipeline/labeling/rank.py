"""What ranks the admissible labels of a whole cluster, given its record."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import log_softmax

from nuclass_pipeline.labeling.record import ClusterEvidence


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
