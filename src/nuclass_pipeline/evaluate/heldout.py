"""Scores of every model on the held-out slides, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import divide, draw_weights, interval
from nuclass_pipeline.evaluate.calibration import temperature_of, temperatures_by_kind
from nuclass_pipeline.evaluate.metrics import OVERALL, PER_CLASS, Tally, calibration_error, pool, score_classes, score_overall, tally_blocks
from nuclass_pipeline.evaluate.metrics_table import tidy, write_metrics
from nuclass_pipeline.evaluate.predictions import HELDOUT, ScoredCells, adjust, align_labels, by_model, read_scored
from nuclass_pipeline.io import write_table
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.schemas import ALL, MEAN, POOLED, RELIABILITY

LABEL_SETS = ("open", "closed")
MIN_CLASSES = 2
"""Fewer classes on a slide leave nothing to choose from in its closed label set."""


@dataclass(frozen=True)
class _Slides:
    """The held-out slides with the predictions of one model.

    Attributes
    ----------
    scored
        Cells of each slide.
    weights
        (L, blocks) resamples of each slide, the same for all models.
    """

    scored: dict[str, ScoredCells]
    weights: dict[str, Floats]

    @property
    def labels(self) -> tuple[str, ...]:
        return next(iter(self.scored.values())).labels


def score_predictions(
    *,
    predictions: Sequence[Path],
    models: Sequence[str],
    seeds: Sequence[int],
    slides: Sequence[str],
    organs: Mapping[str, str],
    calibration: Path,
    run: str,
    config: EvaluationConfig,
    heldout: Path,
    reliability: Path,
    variant: str = BASE,
) -> None:
    """Score held-out predictions: open and closed label set, raw and calibrated, per slide, mean of slides and pooled.

    Cells labelled Unresolved are not scored.

    * Cells of a class that the model lacks are errors of the open label set, and left out of the closed one; `unseen_cells` counts them.
    * A slide with one class has no closed score (its value is empty), and adds nothing to closed means.
    * NLL of the open label set is that of the cells whose class the model has, because it is infinite for the others.

    Parameters
    ----------
    predictions
        Prediction tables in the order of ``expand(…, model=models, seed=seeds, slide=slides)``.
    models, seeds, slides
        Models, seeds and held-out slides.
    organs
        Organ of each slide.
    calibration
        Metrics table with the temperature of each model and seed.
    run, variant
        Name of the run, and variant of the models.
    config
        Bins, resamples and seed.
    heldout
        Metrics table. Its warnings are about classes that the model lacks, slides with one class, and calibration that raised an ECE.
    reliability
        Table of accuracy and confidence by bin of confidence, with intervals from the resamples of the scores.

    Raises
    ------
    UserError
        If a file holds cells of a training slide, a slide has no cell to score, or a model has no temperature.
    """
    rows, bins = [], []
    # Keys of a dictionary, because several models share a warning about a slide.
    warnings: dict[str, None] = {}
    for (model, seed), files in by_model(predictions, models, seeds, slides).items():
        held = _read(files, config)
        names: dict[str, str | int] = {"model": model, "seed": seed}
        rows += [_count_unseen(held.scored[slide], slide).assign(organ=organs[slide], **names) for slide in slides]
        scores, by_bin, raised = _score_sets(held, temperature_of(model, seed, calibration), organs, config.bins)
        rows += [frame.assign(**names) for frame in scores]
        bins += [frame.assign(**names) for frame in by_bin]
        warnings |= dict.fromkeys(text for slide, cells in held.scored.items() for text in _warnings(slide, cells))
        warnings |= dict.fromkeys(f"{model}, seed {seed}: {text}" for text in raised)
    write_metrics(rows, heldout, run, list(warnings), variant=variant)
    write_table(pd.concat(bins, ignore_index=True).assign(run=run, variant=variant), reliability, RELIABILITY)


def _score_sets(
    held: _Slides, temperature: float, organs: Mapping[str, str], n_bins: int
) -> tuple[list[pd.DataFrame], list[pd.DataFrame], list[str]]:
    """Return scores, bins and warnings of one model, raw and calibrated, for each label set."""
    scores, bins, open_sets = [], [], []
    for (kind, value), label_set in product(temperatures_by_kind(temperature).items(), LABEL_SETS):
        tallies = _tally(held, value, label_set == "closed", n_bins)
        names = {"probabilities": kind, "label_set": label_set}
        scores += [frame.assign(**names) for frame in _score(tallies, held.labels, organs)]
        bins += [_bins(tally, n_bins).assign(slide=slide, **names) for slide, tally in _with_pooled(tallies)]
        open_sets += [tallies] if label_set == "open" else []
    return scores, bins, _raised(*open_sets)


def _warnings(slide: str, cells: ScoredCells) -> list[str]:
    """Return what a reader of the scores of a slide should know."""
    total, known = len(cells.truth), cells.known
    counts = ", ".join(f"{name} {count}" for name, count in _unseen(cells).items())
    found = {
        f"{total - len(known.truth)} of {total} labelled cells are of classes that the model lacks ({counts}): "
        "errors of the open label set, left out of the closed one": len(known.truth) < total,
        "its cells are of one class of the model, so it has no score with the closed label set": cells.present.sum() < MIN_CLASSES,
    }
    return [f"{slide}: {text}" for text, holds in found.items() if holds]


def _raised(raw: Mapping[str, Tally], calibrated: Mapping[str, Tally]) -> list[str]:
    """Return a text for each slide whose ECE is larger after calibration, in the digits that are printed."""
    errors = {slide: [round(float(calibration_error(tallies[slide])[0]), 3) for tallies in (raw, calibrated)] for slide in raw}
    return [
        f"calibration raised the ECE of {slide} from {before:.3f} to {after:.3f}"
        for slide, (before, after) in errors.items()
        if after > before
    ]


def _read(files: Mapping[str, Path], config: EvaluationConfig) -> _Slides:
    scored = align_labels({slide: read_scored(path, HELDOUT) for slide, path in files.items()})
    first = next(iter(scored.values()))
    for slide, path in files.items():
        if not scored[slide].present.any():
            raise UserError(path, "label", "no cell has a label that is a class of the model", "Remove the slide from study.heldout.")
        if scored[slide].classes != first.classes:
            raise UserError(
                path,
                "p_<class>",
                "the classes differ from those of the first slide",
                "Remove the predictions of both slides and run again.",
            )
    weights = {
        slide: draw_weights(cells.blocks, config.bootstrap, [config.seed, index]) for index, (slide, cells) in enumerate(scored.items())
    }
    return _Slides(scored, weights)


def _tally(held: _Slides, temperature: float, closed: bool, bins: int) -> dict[str, Tally]:
    tallies = {}
    for slide, cells in held.scored.items():
        part = _closed(cells) if closed else cells
        proba = adjust(part.proba, temperature, cells.present if closed else None)
        blocks = tally_blocks(part.truth, proba, part.block, blocks=part.blocks, bins=bins, labels=len(held.labels))
        tallies[slide] = blocks.resample(held.weights[slide])
    return tallies


def _closed(cells: ScoredCells) -> ScoredCells:
    """Return the cells of the closed label set: those of classes of the model, and none where only one class is present."""
    # None, because an argmax over one class is always right.
    return cells.known if cells.present.sum() >= MIN_CLASSES else cells.at(np.zeros(len(cells.truth), bool))


def _with_pooled(tallies: Mapping[str, Tally]) -> Iterator[tuple[str, Tally]]:
    yield from tallies.items()
    yield POOLED, pool(list(tallies.values()))


def _score(tallies: Mapping[str, Tally], names: Sequence[str], organs: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    labels = [ALL] * len(OVERALL) + list(names) * len(PER_CLASS)
    metrics = [*OVERALL, *np.repeat(PER_CLASS, len(names))]
    values = {slide: _columns(tally) for slide, tally in _with_pooled(tallies)}
    cells = {slide: _support(tally) for slide, tally in _with_pooled(tallies)}
    values[MEAN], cells[MEAN] = _mean([values[slide] for slide in tallies]), cells[POOLED]
    for slide, scores in values.items():
        place = {"slide": slide, "organ": organs.get(slide, ALL)}
        yield tidy(scores, labels, metrics, cells[slide], **place) if cells[slide].any() else _no_scores(**place)


def _no_scores(**names: str) -> pd.DataFrame:
    """Return rows of scores without a value, because a slide that has none must be seen."""
    return pd.DataFrame({"label": ALL, "metric": list(OVERALL), "value": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n_cells": 0}).assign(
        **names
    )


def _columns(tally: Tally) -> Floats:
    if not tally.confusion[0].any():
        return np.full((len(tally.losses), len(OVERALL) + len(PER_CLASS) * tally.confusion.shape[1]), np.nan)
    return np.hstack([score_overall(tally), score_classes(tally).reshape(len(tally.losses), -1)])


def _support(tally: Tally) -> Floats:
    support = tally.confusion[0].sum(axis=1)
    overall = [tally.losses[0, 2] if name == "nll" else support.sum() for name in OVERALL]
    return np.concatenate([overall, np.tile(support, len(PER_CLASS))])


def _mean(values: list[Floats]) -> Floats:
    """Return the mean over the slides on which a score is defined; a resample that lacks it there stays NaN."""
    stacked = np.stack(values)
    defined = np.isfinite(stacked[:, 0])
    total = np.where(defined[:, None], stacked, 0).sum(axis=0)
    return divide(total, np.broadcast_to(defined.sum(axis=0), total.shape))


def _unseen(cells: ScoredCells) -> dict[str, int]:
    """Return the number of cells of each class that the model lacks."""
    counts = np.bincount(cells.truth, minlength=len(cells.labels))[len(cells.classes) :]
    return {name: int(count) for name, count in zip(cells.unseen, counts, strict=True) if count}


def _count_unseen(cells: ScoredCells, slide: str) -> pd.DataFrame:
    unseen = _unseen(cells)
    counts = {ALL: sum(unseen.values()), **unseen}
    values = np.array([list(counts.values())], float)
    names = {"slide": slide, "probabilities": "raw", "label_set": "open"}
    return tidy(values, list(counts), ["unseen_cells"] * len(counts), values[0], **names)


def _bins(tally: Tally, bins: int) -> pd.DataFrame:
    cells, confidence, hits = tally.bins[0]
    filled = np.where(cells > 0, cells, np.nan)
    low, high = interval(divide(tally.bins[:, 2], tally.bins[:, 0]))
    # Where all resamples agree, as in a bin of one block, the spread is unknown and not 0.
    differ = low < high
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "bin": np.arange(bins),
            "bin_low": edges[:-1],
            "bin_high": edges[1:],
            "confidence": confidence / filled,
            "accuracy": hits / filled,
            "accuracy_low": np.where(differ, low, np.nan),
            "accuracy_high": np.where(differ, high, np.nan),
            "n_cells": cells.astype(np.int64),
        }
    )
