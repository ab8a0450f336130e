"""What each part of a proposal is worth: evidence left out block by block, labels chosen or written, and in another order."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Unpack, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.expression.counts import match_cells
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.proposals.annotators import ClusterAnnotator, RulesAnnotator
from nuclass_pipeline.proposals.evidence import BLOCKS, ClusterEvidence
from nuclass_pipeline.proposals.language_model import LanguageAnnotator, LanguageModel, Reader, describe_evidence
from nuclass_pipeline.proposals.propose import ProposalFiles, choose_label, is_weak, read_evidence
from nuclass_pipeline.proposals.rationale import Writer
from nuclass_pipeline.schemas import ABLATION, TRUTH

logger = logging.getLogger(__name__)

Answer = Callable[[ClusterEvidence], str | None]

ABLATIONS: dict[str, tuple[str, ...]] = {"all": (), **{f"without {block}": (block,) for block in BLOCKS}, "none": BLOCKS}
"""Name of each comparison, and the blocks it leaves out."""

_FREE = "Reply with the name of the one best cell type and nothing else."
_MAX_TOKENS = 24


class Model(Reader, Writer, Protocol):
    """A language model that is read and that writes."""


@dataclass(frozen=True)
class AnnotatorVariant:
    """One way to name a cluster.

    `answer` gives a label, whatever else was written, or None for a tie; `again` does the same with the labels in reversed order, and
    is None where no labels are shown.
    """

    annotator: str
    kind: str
    answer: Answer
    again: Answer | None


def compare_annotators(
    *, truth: Path | None = None, config: ProposalsConfig, threads: int, ablation: Path, **files: Unpack[ProposalFiles]
) -> None:
    """Propose the labels of a slide's clusters with less evidence and by other annotators, and count what that changes.

    Parameters
    ----------
    truth
        Table `TRUTH` of the same cells, if there is one; poor cells are left out, as in `score_labels`.
    config
        A `model` makes the language model take part, whatever `annotator` says.
    threads
        Threads for it.
    ablation
        Table `ABLATION`.
    files
        As for `propose_labels`.
    """
    known = read_evidence(**files)
    model = cast(Model, LanguageModel(config.model, threads)) if config.model else None
    frame = compare_variants(
        records=known.records(),
        reordered=known.backwards().records(),
        least=known.chance(),
        truth=_true_labels(truth, known.cells) if truth else {},
        variants=annotator_variants(model),
    )
    write_table(frame, ablation, ABLATION)


def annotator_variants(model: Model | None) -> tuple[AnnotatorVariant, ...]:
    """List who takes part: the rules, and with a model its choice among the labels and the name that it writes."""
    rules = partial(top_label, RulesAnnotator())
    if model is None:
        return (AnnotatorVariant("rules", "constrained", rules, rules),)
    choice, reverse = (_remembered(partial(top_label, LanguageAnnotator(model, backwards=backwards))) for backwards in (False, True))
    return (
        AnnotatorVariant("rules", "constrained", rules, rules),
        AnnotatorVariant("llm-score", "constrained", choice, reverse),
        AnnotatorVariant("llm-score", "free", _remembered(partial(free_text, model)), None),
    )


def top_label(annotator: ClusterAnnotator, evidence: ClusterEvidence) -> str | None:
    """Give the label that an annotator ranks first; None for a tie."""
    return choose_label(annotator.rank(evidence))


def free_text(model: Writer, evidence: ClusterEvidence) -> str:
    """Ask without options, and give the type that the first line of the text names; the line itself if it names none."""
    line = model.write(f"{describe_evidence(evidence)}\n{_FREE}", _MAX_TOKENS).strip().partition("\n")[0]
    return HIERARCHY.type_named(line) or line


def _remembered(answer: Answer) -> Answer:
    """Ask a language model each question once: without evidence, or where a block was empty before, clusters share it."""
    known: dict[tuple[str, tuple[str, ...]], str | None] = {}

    def answer_once(evidence: ClusterEvidence) -> str | None:
        key = describe_evidence(evidence), evidence.admissible
        if key not in known:
            known[key] = answer(evidence)
        return known[key]

    return answer_once


def compare_variants(
    *,
    records: Sequence[ClusterEvidence],
    reordered: Sequence[ClusterEvidence],
    least: float,
    truth: Mapping[str, str],
    variants: Sequence[AnnotatorVariant],
) -> pd.DataFrame:
    """Score every contestant with each of `EVIDENCE`.

    Parameters
    ----------
    records
        One per cluster.
    reordered
        The same, made with the labels in reversed order.
    least
        Support that chance reaches. It is held against the whole record, so that a comparison changes nothing but what is shown.
    truth
        Commonest true label of each cluster, where one is known.
    variants
        Who takes part.

    Returns
    -------
    Table `ABLATION`.
    """
    weak = np.array([is_weak(record, least) for record in records], bool)
    rows = []
    for contestant in variants:
        for name, blocks in ABLATIONS.items():
            answers = [contestant.answer(leave_out(record, blocks)) for record in records]
            again = [contestant.again(leave_out(record, blocks)) for record in reordered] if contestant.again else None
            found = {"annotator": contestant.annotator, "answer": contestant.kind, "evidence": name, "n": len(records)}
            rows.append(found | _score(records, answers, again, weak, truth))
            named = {record.cluster: answer for record, answer in zip(records, answers, strict=True)}
            logger.info("%s, %s, %s: %s", contestant.annotator, contestant.kind, name, named)
    return pd.DataFrame(rows)


def leave_out(evidence: ClusterEvidence, blocks: Sequence[str]) -> ClusterEvidence:
    """Empty some of the `BLOCKS` of a record."""
    empty: dict[str, Any] = {block: {} if block == "composition" else () for block in blocks}
    return replace(evidence, **empty)


def _score(
    records: Sequence[ClusterEvidence],
    answers: Sequence[str | None],
    again: Sequence[str | None] | None,
    weak: NDArray[np.bool_],
    truth: Mapping[str, str],
) -> dict[str, float]:
    pairs = list(zip(records, answers, strict=True))
    proposed = np.array([answer in record.admissible for record, answer in pairs], bool) & ~weak
    invalid = np.array([answer is not None and answer not in record.admissible for record, answer in pairs], bool)
    known = proposed & np.array([record.cluster in truth for record in records], bool)
    right = np.array([answer == truth.get(record.cluster) for record, answer in pairs], bool)[known]
    cells = np.array([record.n_cells for record in records], int)[known]
    return {
        "invalid_rate": _share(invalid),
        "permutation_stability": np.nan if again is None else _share(np.array([a == b for a, b in zip(answers, again, strict=True)])),
        "abstained": _share(~proposed),
        "agreement": _share(right),
        "agreement_cells": _share(right, cells),
    }


def _share(flags: NDArray[np.bool_], weights: NDArray[np.int64] | None = None) -> float:
    return float(np.average(flags, weights=weights)) if len(flags) else np.nan


def _true_labels(path: Path, cells: pd.DataFrame) -> dict[str, str]:
    """Give the commonest true label of each cluster's cells; clusters where two are as common have none."""
    table = read_table(path, TRUTH)
    known = match_cells(table, pd.Index(cells["cell_id"].astype(str)), path)
    labels = known["label"].where(~known["poor"].to_numpy(bool))
    commonest = {str(name): found.mode() for name, found in labels.groupby(cells["cluster"])}
    return {name: str(found[0]) for name, found in commonest.items() if len(found) == 1}
