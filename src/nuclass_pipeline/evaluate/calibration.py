"""One temperature per model, fitted on validation cells of training slides."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights
from nuclass_pipeline.evaluate.metrics import OVERALL, pool, tally_blocks
from nuclass_pipeline.evaluate.metrics_table import ALL, POOLED, tidy, write_metrics
from nuclass_pipeline.evaluate.predictions import MIN_PROBABILITY, ScoredCells, adjust, by_model, read_scored
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import METRICS

# Bounded, because predictions that are all right, or all wrong, would drive T to 0 or to infinity.
_MAX_TEMPERATURE = 20.0
_REPORTED = ("accuracy", "ece", "brier", "nll")


def fit_temperature(proba: Floats, truth: Integers) -> float:
    """Return the temperature that minimises the negative log-likelihood.

    Parameters
    ----------
    proba
        (N, K) probabilities.
    truth
        (N,) class index.

    Returns
    -------
    float
        T between 1/20 and 20; softmax(log p / T) is calibrated (Guo et al. 2017). The likelihood is concave in 1/T, so
        its only optimum is found.
    """
    log_p = np.log(np.maximum(proba, MIN_PROBABILITY))
    truth_log_p = log_p[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.logaddexp.reduce(log_p * scale, axis=1) - truth_log_p * scale).mean())

    # Over log T, because halving and doubling the temperature are steps of the same size.
    bound = np.log(_MAX_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-5}).x))


def calibrate_models(
    *,
    predictions: Sequence[Path],
    models: Sequence[str],
    seeds: Sequence[int],
    slides: Sequence[str],
    run: str,
    config: EvaluationConfig,
    calibration: Path,
) -> None:
    """Fit one temperature per model and seed on the validation cells of the training slides.

    Parameters
    ----------
    predictions
        Prediction tables in the order of ``expand(…, model=models, seed=seeds, slide=slides)``.
    models, seeds, slides
        Models, seeds and training slides.
    run
        Name of the run.
    config
        Bins, resamples and seed of the scores before and after calibration.
    calibration
        Metrics table: `temperature`, and accuracy, ECE, Brier and NLL on the cells it was fitted on, raw and calibrated.

    Raises
    ------
    UserError
        If a file holds held-out cells, or no file holds a validation cell that can be scored.
    """
    tables = []
    for (model, seed), files in by_model(predictions, models, seeds, slides).items():
        scored = [read_scored(path, "val") for path in files.values()]
        if not sum(len(slide.truth) for slide in scored):
            raise UserError(
                next(iter(files.values())), "subset", f"there is no labelled validation cell for {model}", "Raise split.fractions.val."
            )
        names: dict[str, str | int] = {"model": model, "seed": seed, "slide": POOLED, "organ": ALL, "label_set": "open"}
        temperature = fit_temperature(np.concatenate([s.proba for s in scored]), np.concatenate([s.truth for s in scored]))
        cells = [sum(len(slide.truth) for slide in scored)]
        tables.append(tidy(np.array([[temperature]]), [ALL], ["temperature"], cells, variant="calibrated", **names))
        tables += [_score(scored, value, config).assign(variant=variant, **names) for variant, value in variants(temperature).items()]
    write_metrics(tables, calibration, run)


def variants(temperature: float) -> dict[str, float]:
    """Return the temperature of each variant of the probabilities."""
    return {"raw": 1.0, "calibrated": temperature}


def read_temperatures(path: Path) -> dict[tuple[str, int], float]:
    """Read the temperature of each model and seed."""
    frame = read_table(path, METRICS)
    rows = frame[frame["metric"] == "temperature"]
    return dict(zip(zip(rows["model"], rows["seed"], strict=True), rows["value"], strict=True))


def _score(scored: list[ScoredCells], temperature: float, config: EvaluationConfig) -> pd.DataFrame:
    tallies = []
    for index, slide in enumerate(scored):
        blocks = tally_blocks(slide.truth, adjust(slide.proba, temperature), slide.block, blocks=slide.blocks, bins=config.bins)
        tallies.append(blocks.resample(draw_weights(slide.blocks, config.bootstrap, [config.seed, index])))
    joined = pool(tallies)
    values = np.column_stack([OVERALL[name](joined) for name in _REPORTED])
    return tidy(values, [ALL] * len(_REPORTED), _REPORTED, [sum(len(slide.truth) for slide in scored)] * len(_REPORTED))
