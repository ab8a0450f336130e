"""What each part of a proposal is worth: blocks of evidence left out, labels chosen or written freely, labels in reversed order."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Unpack, cast

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Booleans, Integers
from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.expression.counts import match_cells
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.proposals.annotators import ClusterAnnotator, RulesAnnotator
from nuclass_pipeline.proposals.evidence import BLOCKS, ClusterEvidence
from nuclass_pipeline.proposals.language_model import LanguageAnnotator, LanguageModel, Scorer, describe_evidence
from nuclass_pipeline.proposals.propose import ProposalFiles, choose_label, is_weak, read_evidence
from nuclass_pipeline.proposals.rationale import Writer
from nuclass_pipeline.schemas import ABLATION, TRUTH

logger = logging.getLogger(__name__)

Answer = Callable[[ClusterEvidence], str | None]
"""Label of a cluster; free text counts as one. None for a tie."""

ABLATIONS: dict[str, tuple[str, ...]] = {"all": (), **{f"without {block}": (block,) for block in BLOCKS}, "none": BLOCKS}
"""Name of each comparison, and the blocks it leaves out."""

_FREE_REPLY = "Reply with the name of the one best cell type and nothing else."
# Enough for the longest name of a type: what a model writes beyond it is not a name.
_MAX_TOKENS = 24


class ScoringWriter(Scorer, Writer, Protocol):
    """A language model that scores next tokens and writes text."""


@dataclass(frozen=True)
class AnnotatorVariant:
    """One way to name a cluster.

    Attributes
    ----------
    annotator
        rules or llm-score.
    kind
        constrained: one of the admissible labels is chosen; free: the language model writes a name.
    answer
        Returns the label of a record.
    reversed_answer
        The same with the labels in reversed order; None where no labels are shown.
    """

    annotator: str
    kind: str
    answer: Answer
    reversed_answer: Answer | None


def compare_annotators(
    *, truth: Path | None = None, config: ProposalsConfig, threads: int, ablation: Path, **files: Unpack[ProposalFiles]
) -> None:
    """Propose the labels of a slide's clusters with less evidence and by other annotators, and count what changes.

    Parameters
    ----------
    truth
        Table `TRUTH` of the same cells, if there is one; poor cells are left out, as in `score_labels`.
    config
        With a `model`, the language model takes part whatever the `annotator` is.
    threads
        Threads for the language model.
    ablation
        Table `ABLATION`.
    files
        Same as for `propose_labels`.
    """
    inputs = read_evidence(**files)
    model = cast(ScoringWriter, LanguageModel(config.model, threads)) if config.model else None
    frame = compare_variants(
        records=inputs.records(),
        reversed_records=inputs.with_reversed_types().records(),
        min_support=inputs.null_support(),
        truth=cluster_truth(truth, inputs.cells) if truth else {},
        variants=annotator_variants(model),
    )
    write_table(frame, ablation, ABLATION)


def annotator_variants(model: ScoringWriter | None) -> tuple[AnnotatorVariant, ...]:
    """List the variants: the rules, and with a model its choice among the labels and the name that it writes freely."""
    rules = partial(top_label, RulesAnnotator())
    if model is None:
        return (AnnotatorVariant("rules", "constrained", rules, rules),)
    choice, reversed_choice = (
        _cached(partial(top_label, LanguageAnnotator(model, reverse_options=reverse_options))) for reverse_options in (False, True)
    )
    return (
        AnnotatorVariant("rules", "constrained", rules, rules),
        AnnotatorVariant("llm-score", "constrained", choice, reversed_choice),
        AnnotatorVariant("llm-score", "free", _cached(partial(free_text, model)), None),
    )


def top_label(annotator: ClusterAnnotator, evidence: ClusterEvidence) -> str | None:
    """Return the label that an annotator ranks first; None for a tie."""
    return choose_label(annotator.rank(evidence))


def free_text(model: Writer, evidence: ClusterEvidence) -> str:
    """Return the type that the first line of a model's text names, or the line itself if it names none; no options are shown."""
    line = model.write(f"{describe_evidence(evidence)}\n{_FREE_REPLY}", _MAX_TOKENS).strip().partition("\n")[0]
    return HIERARCHY.type_named(line) or line


def _cached(answer: Answer) -> Answer:
    """Return `answer` with a memory: clusters share a prompt where they have no evidence, or where a block was empty before."""
    answers: dict[tuple[str, tuple[str, ...]], str | None] = {}

    def answer_once(evidence: ClusterEvidence) -> str | None:
        # The prompt and not the record, because the record also holds the cluster's name and size, which no model reads.
        key = describe_evidence(evidence), evidence.admissible
        if key not in answers:
            answers[key] = answer(evidence)
        return answers[key]

    return answer_once


def compare_variants(
    *,
    records: Sequence[ClusterEvidence],
    reversed_records: Sequence[ClusterEvidence],
    min_support: float,
    truth: Mapping[str, str],
    variants: Sequence[AnnotatorVariant],
) -> pd.DataFrame:
    """Score every variant with each of `ABLATIONS`.

    Parameters
    ----------
    records
        One record per cluster.
    reversed_records
        The same records, made from a panel with its types in reversed order.
    min_support
        Support below which a cluster gets no proposal. The whole record is compared with it, so that an ablation changes nothing but
        what the annotator sees.
    truth
        Commonest true label of each cluster, where one is known.
    variants
        Annotators to compare.

    Returns
    -------
    Table `ABLATION`.
    """
    weak = np.array([is_weak(record, min_support) for record in records], bool)
    rows = []
    for variant in variants:
        for name, blocks in ABLATIONS.items():
            answers = [variant.answer(leave_out(record, blocks)) for record in records]
            answer = variant.reversed_answer
            reversed_answers = [answer(leave_out(record, blocks)) for record in reversed_records] if answer else None
            described = {"annotator": variant.annotator, "answer": variant.kind, "evidence": name, "n_clusters": len(records)}
            rows.append(described | _score(records, answers, reversed_answers, weak, truth))
            by_cluster = {record.cluster: label for record, label in zip(records, answers, strict=True)}
            logger.info("%s, %s, %s: %s", variant.annotator, variant.kind, name, by_cluster)
    return pd.DataFrame(rows)


def leave_out(evidence: ClusterEvidence, blocks: Sequence[str]) -> ClusterEvidence:
    """Return the record with some of its `BLOCKS` empty."""
    empty: dict[str, Any] = {block: {} if block == "composition" else () for block in blocks}
    return replace(evidence, **empty)


def _score(
    records: Sequence[ClusterEvidence],
    answers: Sequence[str | None],
    reversed_answers: Sequence[str | None] | None,
    weak: Booleans,
    truth: Mapping[str, str],
) -> dict[str, float]:
    pairs = list(zip(records, answers, strict=True))
    proposed = np.array([answer in record.admissible for record, answer in pairs], bool) & ~weak
    # A tie is an abstention and not an invalid answer, because a constrained annotator cannot leave the admissible set.
    invalid = np.array([answer is not None and answer not in record.admissible for record, answer in pairs], bool)
    scored = proposed & np.array([record.cluster in truth for record in records], bool)
    right = np.array([answer == truth.get(record.cluster) for record, answer in pairs], bool)[scored]
    n_cells = np.array([record.n_cells for record in records], int)[scored]
    same = None if reversed_answers is None else np.array([a == b for a, b in zip(answers, reversed_answers, strict=True)])
    return {
        "invalid_rate": _share(invalid),
        "permutation_stability": np.nan if same is None else _share(same),
        "abstained": _share(~proposed),
        "accuracy": _share(right),
        "accuracy_cells": _share(right, n_cells),
    }


def _share(flags: Booleans, weights: Integers | None = None) -> float:
    return float(np.average(flags, weights=weights)) if len(flags) else np.nan


def cluster_truth(path: Path, cells: pd.DataFrame) -> dict[str, str]:
    """Return the commonest true label of each cluster's cells; poor cells do not count, and a tie leaves the cluster without truth.

    Parameters
    ----------
    path
        Table `TRUTH`.
    cells
        Columns `cell_id` and `cluster`.
    """
    table = read_table(path, TRUTH)
    matched = match_cells(table, pd.Index(cells["cell_id"].astype(str)), path)
    labels = matched["label"].where(~matched["poor"].to_numpy(bool))
    modes = {str(name): found.mode() for name, found in labels.groupby(cells["cluster"])}
    return {name: str(labels[0]) for name, labels in modes.items() if len(labels) == 1}
