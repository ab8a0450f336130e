"""Explain a cluster's label in a sentence or two that cite nothing but its evidence."""

import re
from collections.abc import Collection
from typing import Protocol

from nuclass_pipeline.proposals.evidence import ClusterEvidence
from nuclass_pipeline.proposals.language_model import describe_evidence

# About two sentences: a sentence that the limit cuts off is dropped.
_MAX_TOKENS = 96
_MAX_GENES = 5


class Writer(Protocol):
    """A language model that writes text."""

    def write(self, prompt: str, max_tokens: int) -> str:
        """Return the answer to a prompt, at most `max_tokens` long."""


def explain(evidence: ClusterEvidence, label: str, model: Writer | None = None) -> str:
    """Return the reasons for `label`, which is already chosen and cannot change here.

    Parameters
    ----------
    evidence
        The record that the label was chosen from.
    label
        One of `evidence.admissible`.
    model
        Language model that writes the text. Only its sentences that cite the evidence and no other gene are kept. Without a model, or
        if no sentence is left, the text is a fixed sentence.

    Raises
    ------
    ValueError
        If the label is not admissible.
    """
    if label not in evidence.admissible:
        raise ValueError(f"{label!r} is not admissible")
    # After the label and not before it, because the text could otherwise change which label comes out.
    prompt = f"{describe_evidence(evidence)}\nThe answer is {label}. Say in at most two sentences which of these genes speak for it."
    kept = grounded(model.write(prompt, _MAX_TOKENS), evidence) if model else []
    return " ".join(kept) or _plain_sentence(evidence, label)


def grounded(text: str, evidence: ClusterEvidence) -> list[str]:
    """Return the finished sentences of a text that cite at least one gene of the evidence and no other gene.

    A word with a digit or two capitals counts as a gene symbol, except for words of the admissible labels such as NK.
    """
    genes = {gene.upper() for gene in evidence.genes}
    label_words = {word.upper() for label in evidence.admissible for word in re.split(r"[^A-Za-z0-9]+", label)}
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return [sentence for sentence in sentences if sentence.endswith((".", "!", "?")) and _cites_only(sentence, genes, label_words)]


def _cites_only(sentence: str, genes: Collection[str], label_words: Collection[str]) -> bool:
    cited = set()
    for word in re.findall(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*", sentence):
        # The whole word first, because some symbols have a hyphen (HLA-DRA); else "CD3D-positive" cites CD3D.
        whole = word.upper() in genes
        cited |= {word.upper()} if whole else {piece.upper() for piece in re.split("[.-]", word) if _looks_like_gene(piece)}
    cited -= set(label_words) - set(genes)
    return bool(cited) and cited <= set(genes)


def _looks_like_gene(word: str) -> bool:
    return word[0].isalpha() and (any(letter.isdigit() for letter in word) or sum(map(str.isupper, word)) > 1)


def _plain_sentence(evidence: ClusterEvidence, label: str) -> str:
    for support in evidence.support:
        if support.label == label:
            return f"{label}: of its markers, {', '.join(support.genes[:_MAX_GENES])} are up in this cluster (support {support.score:.2f})."
    return f"{label}: none of its markers is up in this cluster."
