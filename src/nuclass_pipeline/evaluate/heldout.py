"""Scores of every model on the held-out slides, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import divide, draw_weights
from nuclass_pipeline.evaluate.calibration import read_temperatures, variants
from nuclass_pipeline.evaluate.metrics import OVERALL, PER_CLASS, Tally, pool, score_classes, score_overall, tally_blocks
from nuclass_pipeline.evaluate.metrics_table import ALL, MEAN, POOLED, tidy, write_metrics
from nuclass_pipeline.evaluate.predictions import ScoredCells, adjust, by_model, read_scored
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import RELIABILITY

LABEL_SETS = ("open", "closed")


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
    def classes(self) -> tuple[str, ...]:
        return next(iter(self.scored.values())).classes


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
) -> None:
    """Score held-out predictions: open and closed label set, raw and calibrated, per slide, mean of slides and pooled.

    Cells labelled Unresolved are not scored. Cells whose label is not a class of the model are not scored either; rows of the
    metric `unseen_cells` count them.

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
    run
        Name of the run.
    config
        Bins, resamples and seed.
    heldout
        Metrics table.
    reliability
        Table of accuracy and confidence by bin of confidence.

    Raises
    ------
    UserError
        If a file holds cells of a training slide, a slide has no cell to score, or a model has no temperature.
    """
    temperatures = read_temperatures(calibration)
    rows, bins = [], []
    for (model, seed), files in by_model(predictions, models, seeds, slides).items():
        if (model, seed) not in temperatures:
            raise UserError(calibration, "model", f"there is no temperature for {model}, seed {seed}", "Remove it and run again.")
        held = _read(files, config)
        names: dict[str, str | int] = {"model": model, "seed": seed}
        rows += [_count_unseen(held.scored[slide], slide).assign(organ=organs[slide], **names) for slide in slides]
        for variant, temperature in variants(temperatures[model, seed]).items():
            for label_set in LABEL_SETS:
                tallies = _tally(held, temperature, label_set == "closed", config.bins)
                names |= {"variant": variant, "label_set": label_set}
                rows += [scores.assign(**names) for scores in _score(tallies, held.classes, organs)]
                bins += [_bins(tally, config.bins).assign(slide=slide, **names) for slide, tally in _with_pooled(tallies)]
    write_metrics(rows, heldout, run)
    write_table(pd.concat(bins, ignore_index=True).assign(run=run), reliability, RELIABILITY)


def _read(files: Mapping[str, Path], config: EvaluationConfig) -> _Slides:
    scored = {slide: read_scored(path, "heldout") for slide, path in files.items()}
    first = next(iter(scored.values()))
    for slide, path in files.items():
        if not len(scored[slide].truth):
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
        proba = adjust(cells.proba, temperature, cells.present if closed else None)
        blocks = tally_blocks(cells.truth, proba, cells.block, blocks=cells.blocks, bins=bins)
        tallies[slide] = blocks.resample(held.weights[slide])
    return tallies


def _with_pooled(tallies: Mapping[str, Tally]) -> Iterator[tuple[str, Tally]]:
    yield from tallies.items()
    yield POOLED, pool(list(tallies.values()))


def _score(tallies: Mapping[str, Tally], classes: Sequence[str], organs: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    labels = [ALL] * len(OVERALL) + list(classes) * len(PER_CLASS)
    metrics = [*OVERALL, *np.repeat(PER_CLASS, len(classes))]
    values = {slide: _columns(tally) for slide, tally in _with_pooled(tallies)}
    cells = {slide: _support(tally) for slide, tally in _with_pooled(tallies)}
    values[MEAN], cells[MEAN] = _mean([values[slide] for slide in tallies]), cells[POOLED]
    for slide, scores in values.items():
        yield tidy(scores, labels, metrics, cells[slide], slide=slide, organ=organs.get(slide, ALL))


def _columns(tally: Tally) -> Floats:
    return np.hstack([score_overall(tally), score_classes(tally).reshape(len(tally.losses), -1)])


def _support(tally: Tally) -> Floats:
    support = tally.confusion[0].sum(axis=1)
    return np.concatenate([np.full(len(OVERALL), support.sum()), np.tile(support, len(PER_CLASS))])


def _mean(values: list[Floats]) -> Floats:
    """Return the mean over the slides on which a score is defined; a resample that lacks it there stays NaN."""
    stacked = np.stack(values)
    defined = np.isfinite(stacked[:, 0])
    total = np.where(defined[:, None], stacked, 0).sum(axis=0)
    return divide(total, np.broadcast_to(defined.sum(axis=0), total.shape))


def _count_unseen(cells: ScoredCells, slide: str) -> pd.DataFrame:
    counts = {ALL: sum(cells.unseen.values()), **cells.unseen}
    values = np.array([list(counts.values())], float)
    names = {"slide": slide, "variant": "raw", "label_set": "open"}
    return tidy(values, list(counts), ["unseen_cells"] * len(counts), values[0], **names)


def _bins(tally: Tally, bins: int) -> pd.DataFrame:
    # Row 0 alone, because the reliability diagram shows the data and no resamples.
    cells, confidence, hits = tally.bins[0]
    filled = np.where(cells > 0, cells, np.nan)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "bin": np.arange(bins),
            "bin_low": edges[:-1],
            "bin_high": edges[1:],
            "confidence": confidence / filled,
            "accuracy": hits / filled,
            "n_cells": cells.astype(np.int64),
        }
    )
