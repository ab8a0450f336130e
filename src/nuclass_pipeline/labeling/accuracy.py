"""How well labels agree with a known truth."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from nuclass_pipeline.expression.counts import match_cells
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import LABELS, METRICS, TRUTH
from nuclass_pipeline.vocabulary import UNRESOLVED


def score_labels_table(truth: Iterable[str | None], candidate: Iterable[str | None], label: Iterable[str]) -> dict[str, float]:
    """Score labels against a truth.

    Parameters
    ----------
    truth
        True label of each cell; None where the cell is not scored.
    candidate
        Best type before abstention, for the forced choice; None counts as wrong.
    label
        Label, or `Unresolved`.

    Returns
    -------
    `accuracy` and `macro_f1` of the forced choice, over the types in the truth; `coverage`, the share with a label; and of the labelled
    cells `selective_accuracy` and `selective_macro_f1`. NaN where there is no cell.
    """
    frame = pd.DataFrame({"truth": list(truth), "candidate": list(candidate), "label": list(label)}, dtype=object)
    frame = frame[frame["truth"].notna()].fillna(UNRESOLVED)
    labelled = frame[frame["label"] != UNRESOLVED]
    return {
        "accuracy": _accuracy(frame["truth"], frame["candidate"]),
        "macro_f1": _macro_f1(frame["truth"], frame["candidate"]),
        "coverage": len(labelled) / len(frame) if len(frame) else np.nan,
        "selective_accuracy": _accuracy(labelled["truth"], labelled["label"]),
        "selective_macro_f1": _macro_f1(labelled["truth"], labelled["label"]),
    }


COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Where `accuracy_at_coverage` reads the curve of risk against coverage."""


def accuracy_at_coverage(right: NDArray[np.bool_], confidence: NDArray[np.float64]) -> dict[str, float]:
    """Give the accuracy of the surest cells, for each share of cells in `COVERAGES`; cells as sure as the last of them count too.

    Parameters
    ----------
    right, confidence
        Of the forced choice of each cell, (cells,); one cell or more.
    """
    ranked = np.sort(confidence)[::-1]
    least = {f"{share:g}": ranked[max(1, round(share * len(ranked))) - 1] for share in COVERAGES}
    return {share: float(right[confidence >= value].mean()) for share, value in least.items()}


def _accuracy(truth: pd.Series, found: pd.Series) -> float:
    return float((truth == found).mean()) if len(truth) else np.nan


def _macro_f1(truth: pd.Series, found: pd.Series) -> float:
    if not len(truth):
        return np.nan
    return float(f1_score(truth.astype(str), found.astype(str), labels=sorted(set(truth)), average="macro", zero_division=0))


def score_labels(
    *, labels: Sequence[Path], truths: Sequence[Path], slides: Sequence[str], organs: Mapping[str, str], run: str, metrics: Path
) -> None:
    """Score the labels of slides whose truth is known.

    Cells too poor to label are left out of the scores above, and give `poor_unresolved`, the share of them that is Unresolved.

    Parameters
    ----------
    labels, truths
        Tables `LABELS` and `TRUTH` of the same cells, in the order of `slides`.
    slides, organs, run
        Written to the rows.
    metrics
        Table `METRICS`: model `labels`, variant `rules`, label set `open`.
    """
    files = zip(labels, truths, slides, strict=True)
    parts = [_score(label, truth).assign(slide=slide, organ=organs[slide]) for label, truth, slide in files]
    frame = pd.concat(parts, ignore_index=True).assign(run=run, model="labels", variant="rules", seed=0)
    frame = frame.assign(label="all", label_set="open", ci_low=np.nan, ci_high=np.nan)
    write_table(frame[[column.name for column in METRICS.columns]], metrics, METRICS)


def _score(labels: Path, truth: Path) -> pd.DataFrame:
    known = read_table(truth, TRUTH)
    found = match_cells(read_table(labels, LABELS), pd.Index(known["cell_id"].astype(str)), labels)
    poor = known["poor"].to_numpy(bool)
    scores: Mapping[str, float] = score_labels_table(known["label"].where(~poor, None), found["candidate"], found["label"])
    labelled = int(((found["label"] != UNRESOLVED) & ~poor).sum())
    sizes = {name: labelled if name.startswith("selective") else int((~poor).sum()) for name in scores}
    unresolved = float((found["label"][poor] == UNRESOLVED).mean()) if poor.any() else np.nan
    rows = [*((name, value, sizes[name]) for name, value in scores.items()), ("poor_unresolved", unresolved, int(poor.sum()))]
    return pd.DataFrame(rows, columns=["metric", "value", "n"])
