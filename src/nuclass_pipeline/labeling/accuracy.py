"""Accuracy of labels where the truth is known."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, roc_auc_score

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.expression.counts import match_cells
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import ALL, LABELS, METRICS, TRUTH
from nuclass_pipeline.vocabulary import UNRESOLVED


def score_labels_table(truth: Iterable[str | None], candidate: Iterable[str | None], label: Iterable[str]) -> dict[str, float]:
    """Compute scores of labels against the truth, each from 0 to 1; NaN where no cell is scored.

    Parameters
    ----------
    truth
        True label of each cell; None where the cell is not scored.
    candidate
        Type before abstention, the forced choice; None counts as wrong.
    label
        Label, or `Unresolved`.

    Returns
    -------
    accuracy, macro_f1
        Of the forced choice, over the types that occur in the truth.
    coverage
        Share of the cells with a label.
    selective_accuracy, selective_macro_f1
        Of the labelled cells alone.
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


ECE_BINS = 15
"""Bins of the expected calibration error of labels."""

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Points of the curve of risk against coverage that `accuracy_at_coverage` computes."""


def accuracy_at_coverage(right: Booleans, confidence: Floats) -> dict[str, float]:
    """Compute the accuracy of the cells with the highest confidence, for each share of cells in `COVERAGES`.

    Parameters
    ----------
    right
        Whether the forced choice of each cell is right, (cells,); one cell or more.
    confidence
        Its confidence, (cells,).
    """
    ranked = np.sort(confidence)[::-1]
    lowest = {f"{share:g}": ranked[max(1, round(share * len(ranked))) - 1] for share in COVERAGES}
    # Not the first n cells, because which of several equally sure cells are among them would depend on their order.
    return {share: float(right[confidence >= value].mean()) for share, value in lowest.items()}


def confidence_scores(right: Booleans, confidence: Floats) -> dict[str, float]:
    """Compute how well the confidence of forced choices is calibrated, and how well it ranks them.

    Parameters
    ----------
    right
        Whether the forced choice of each cell is right, (cells,).
    confidence
        Its confidence, (cells,).

    Returns
    -------
    mean_confidence
        What the accuracy would be if the confidence were calibrated.
    ece
        Expected calibration error over `ECE_BINS` bins of equal width.
    auroc_of_error
        Chance that a right cell is surer than a wrong one; NaN where all cells are right, or none.
    """
    # In the function, because labels are made without torch.
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    ece = binary_calibration_error(
        torch.from_numpy(confidence.astype(np.float64)), torch.from_numpy(right.astype(np.int64)), n_bins=ECE_BINS
    )
    ranked = float(roc_auc_score(right, confidence)) if 0 < right.sum() < len(right) else np.nan
    return {"mean_confidence": float(confidence.mean()), "ece": float(ece), "auroc_of_error": ranked}


def _accuracy(truth: pd.Series, found: pd.Series) -> float:
    return float((truth == found).mean()) if len(truth) else np.nan


def _macro_f1(truth: pd.Series, found: pd.Series) -> float:
    if not len(truth):
        return np.nan
    return float(f1_score(truth.astype(str), found.astype(str), labels=sorted(set(truth)), average="macro", zero_division=0))


def score_labels(
    *, labels: Sequence[Path], truths: Sequence[Path], slides: Sequence[str], organs: Mapping[str, str], run: str, metrics: Path
) -> None:
    """Write the scores of the labels of slides whose truth is known.

    `score_labels_table` scores all cells but those with too few transcripts to label. Of those, `poor_unresolved` is the share that is
    Unresolved.

    Parameters
    ----------
    labels, truths, slides
        Table `LABELS`, table `TRUTH` of the same cells, and name of each slide.
    organs
        Slide → organ.
    run
        Name of the run.
    metrics
        Table `METRICS` to write: model `labels`, variant `rules`, label set `open`.
    """
    files = zip(labels, truths, slides, strict=True)
    scored = [_score(label, truth).assign(slide=slide, organ=organs[slide]) for label, truth, slide in files]
    frame = pd.concat(scored, ignore_index=True).assign(run=run, model="labels", variant="rules", seed=0)
    frame = frame.assign(label=ALL, label_set="open", ci_low=np.nan, ci_high=np.nan, probabilities=None)
    write_table(frame[[column.name for column in METRICS.columns]], metrics, METRICS)


def _score(labels: Path, truth: Path) -> pd.DataFrame:
    known = read_table(truth, TRUTH)
    found = match_cells(read_table(labels, LABELS), pd.Index(known["cell_id"].astype(str)), labels)
    poor = known["poor"].to_numpy(bool)
    # Poor cells are scored apart, because leaving them Unresolved is right although they have a true label.
    scores: Mapping[str, float] = score_labels_table(known["label"].where(~poor, None), found["candidate"], found["label"])
    labelled = int(((found["label"] != UNRESOLVED) & ~poor).sum())
    sizes = {name: labelled if name.startswith("selective") else int((~poor).sum()) for name in scores}
    unresolved = float((found["label"][poor] == UNRESOLVED).mean()) if poor.any() else np.nan
    rows = [*((name, value, sizes[name]) for name, value in scores.items()), ("poor_unresolved", unresolved, int(poor.sum()))]
    return pd.DataFrame(rows, columns=["metric", "value", "n_cells"])
