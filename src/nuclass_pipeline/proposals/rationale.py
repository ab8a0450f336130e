"""Why a cluster has its label, in a sentence or two that cite nothing but its evidence."""

import re
from collections.abc import Collection
from typing import Protocol

from nuclass_pipeline.proposals.evidence import ClusterEvidence
from nuclass_pipeline.proposals.language_model import describe_evidence

_MAX_TOKENS = 96
_MAX_GENES = 5


class Writer(Protocol):
    """Anything that continues a text."""

    def write(self, question: str, most_tokens: int) -> str:
        """Answer a question in at most so many tokens."""


def explain(evidence: ClusterEvidence, label: str, model: Writer | None = None) -> str:
    """Say why a cluster has `label`, which was chosen before and cannot change here.

    Parameters
    ----------
    evidence
        The record the label was chosen from.
    label
        One of `evidence.admissible`.
    model
        Writes the text, of which only sentences that cite the evidence and no other gene are kept. Without a model, or if no
        sentence is left, the text is a fixed sentence.

    Raises
    ------
    ValueError
        If the label is not admissible.
    """
    if label not in evidence.admissible:
        raise ValueError(f"{label!r} is not admissible")
    question = f"{describe_evidence(evidence)}\nThe answer is {label}. Say in at most two sentences which of these genes speak for it."
    kept = grounded(model.write(question, _MAX_TOKENS), evidence) if model else []
    return " ".join(kept) or _plain_sentence(evidence, label)


def grounded(text: str, evidence: ClusterEvidence) -> list[str]:
    """Keep the finished sentences that cite at least one gene of the evidence and none besides.

    What looks like a gene symbol, a word with a digit or two capitals, counts as one, save words of the admissible labels such as NK.
    """
    genes = {gene.upper() for gene in evidence.genes}
    spared = {word.upper() for label in evidence.admissible for word in re.split(r"[^A-Za-z0-9]+", label)}
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return [sentence for sentence in sentences if sentence.endswith((".", "!", "?")) and _cites_only(sentence, genes, spared)]


def _cites_only(sentence: str, genes: Collection[str], spared: Collection[str]) -> bool:
    cited = set()
    for word in re.findall(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*", sentence):
        whole = word.upper() in genes
        cited |= {word.upper()} if whole else {part.upper() for part in re.split("[.-]", word) if _looks_like_gene(part)}
    cited -= set(spared) - set(genes)
    return bool(cited) and cited <= set(genes)


def _looks_like_gene(word: str) -> bool:
    return word[0].isalpha() and (any(letter.isdigit() for letter in word) or sum(map(str.isupper, word)) > 1)


def _plain_sentence(evidence: ClusterEvidence, label: str) -> str:
    for support in evidence.support:
        if support.label == label:
            return f"{label}: of its markers, {', '.join(support.genes[:_MAX_GENES])} are up in this cluster (support {support.score:.2f})."
    return f"{label}: none of its markers is up in this cluster."
