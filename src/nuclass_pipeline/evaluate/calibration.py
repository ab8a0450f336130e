"""One temperature per model, fitted on training slides, and used only where it lowers the loss on a slide left out of the fit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights
from nuclass_pipeline.evaluate.metrics import OVERALL, pool, tally_blocks
from nuclass_pipeline.evaluate.metrics_table import tidy, write_metrics
from nuclass_pipeline.evaluate.predictions import ScoredCells, adjust, by_model, read_scored
from nuclass_pipeline.io import read_table
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.models.temperature import MAX_TEMPERATURE, fit_temperature, log_loss
from nuclass_pipeline.schemas import ALL, METRICS, POOLED

_REPORTED = ("accuracy", "ece", "brier", "nll")
CALIBRATION_SUBSETS = {"local": ("gate", "val"), "global": ("gate", "val")}
"""Model → subsets that it was not trained on; other models are calibrated on `val` alone, because the gate is trained on `gate`."""
MIN_CALIBRATION_CELLS = 200
"""Fewer calibration cells are a warning: with 200, the standard error of an accuracy of 0.8 is 0.03."""
FOLDS = 5
"""Parts of a single training slide, each left out in turn."""


def left_out_losses(parts: Sequence[ScoredCells]) -> tuple[float, float]:
    """Return the mean loss of the parts, raw and at the temperature fitted on all other parts.

    Parameters
    ----------
    parts
        Two or more sets of cells.
    """
    raw = [log_loss(part.proba, part.truth, 1.0) for part in parts]
    fitted = []
    for index, part in enumerate(parts):
        others = [*parts[:index], *parts[index + 1 :]]
        fitted.append(log_loss(part.proba, part.truth, fit_temperature(*_joined(others))))
    return float(np.mean(raw)), float(np.mean(fitted))


def parts_of(slides: Sequence[ScoredCells]) -> list[ScoredCells]:
    """Return the slides that have cells; a single one is divided by its spatial blocks."""
    filled = [slide for slide in slides if len(slide.truth)]
    if len(filled) > 1:
        return filled
    # Whole blocks, because neighbouring cells are too much alike to test each other.
    parts = [slide.at(slide.block % FOLDS == fold) for slide in filled for fold in range(FOLDS)]
    return [part for part in parts if len(part.truth)]


def _joined(slides: Sequence[ScoredCells]) -> tuple[Floats, Integers]:
    return np.concatenate([slide.proba for slide in slides]), np.concatenate([slide.truth for slide in slides])


def calibrate_models(
    *,
    predictions: Sequence[Path],
    models: Sequence[str],
    seeds: Sequence[int],
    slides: Sequence[str],
    run: str,
    config: EvaluationConfig,
    calibration: Path,
    variant: str = BASE,
) -> None:
    """Fit one temperature per model and seed on cells of the training slides, and score these cells before and after.

    The temperature is 1, so that probabilities stay as they are, unless fitting lowers the loss of slides left out of the fit.

    Parameters
    ----------
    predictions
        Prediction tables in the order of ``expand(…, model=models, seed=seeds, slide=slides)``.
    models, seeds, slides
        Models, seeds and training slides.
    run, variant
        Name of the run, and variant of the models.
    config
        Bins, resamples and seed of the scores before and after calibration.
    calibration
        Metrics table: `temperature`; `nll_left_out`, the losses that decided; and accuracy, ECE, Brier and NLL on the cells it was
        fitted on, raw and calibrated. Its warnings are about doubtful calibrations.

    Raises
    ------
    UserError
        If a file holds held-out cells, or no file holds a validation cell that can be scored.
    """
    tables, warnings = [], []
    for (model, seed), files in by_model(predictions, models, seeds, slides).items():
        scored = [read_scored(path, calibration_subsets(model)).known for path in files.values()]
        if not sum(len(slide.truth) for slide in scored):
            raise UserError(
                next(iter(files.values())), "subset", f"there is no labelled validation cell for {model}", "Raise split.fractions.val."
            )
        fitted, rows = fit_model_temperature(scored, model, seed)
        temperature = rows.loc[rows["metric"] == "temperature", "value"].item()
        tables.append(rows)
        tables += [
            _score(scored, value, config).assign(probabilities=kind, **_names(model, seed))
            for kind, value in temperatures_by_kind(temperature).items()
        ]
        warnings += [f"{model}, seed {seed}: {text}" for text in _warnings(scored, fitted)]
    write_metrics(tables, calibration, run, warnings, variant=variant)


def calibration_subsets(model: str) -> tuple[str, ...]:
    """Return the subsets on which a model is calibrated."""
    return CALIBRATION_SUBSETS.get(model, ("val",))


def _names(model: str, seed: int) -> dict[str, str | int]:
    return {"model": model, "seed": seed, "slide": POOLED, "organ": ALL, "label_set": "open"}


def fit_model_temperature(scored: Sequence[ScoredCells], model: str, seed: int) -> tuple[float, pd.DataFrame]:
    """Return the temperature that was fitted, and rows of the metrics table with the one to use and the losses that decided."""
    parts, fitted = parts_of(scored), fit_temperature(*_joined(scored))
    raw, calibrated = left_out_losses(parts) if len(parts) > 1 else (np.nan, np.nan)
    used = fitted if calibrated < raw else 1.0
    rows = {("temperature", "calibrated"): used, ("nll_left_out", "raw"): raw, ("nll_left_out", "temperature"): calibrated}
    cells = sum(len(slide.truth) for slide in scored)
    tables = [tidy(np.array([[value]]), [ALL], [name], [cells], probabilities=kind) for (name, kind), value in rows.items()]
    return fitted, pd.concat(tables).assign(**_names(model, seed))


def _warnings(scored: Sequence[ScoredCells], fitted: float) -> list[str]:
    """Return what makes a calibration doubtful."""
    cells, filled = sum(len(slide.truth) for slide in scored), sum(len(slide.truth) > 0 for slide in scored)
    found = {
        f"only {cells} cells calibrate it, and {MIN_CALIBRATION_CELLS} are few": cells < MIN_CALIBRATION_CELLS,
        f"the temperature {fitted:.3g} is at its bound, because nearly all calibration cells are right, or nearly all wrong": (
            _at_bound(*_joined(scored), fitted)
        ),
        "the calibration cells are of one slide, so nothing shows whether the calibration holds on another slide": filled < 2,
    }
    return [text for text, holds in found.items() if holds]


def _at_bound(proba: Floats, truth: Integers, fitted: float) -> bool:
    # By the loss and not by the temperature, because the loss is flat to machine precision long before the bound.
    best = log_loss(proba, truth, fitted)
    return any(log_loss(proba, truth, bound) < best + 1e-6 for bound in (1 / MAX_TEMPERATURE, MAX_TEMPERATURE))


def temperatures_by_kind(temperature: float) -> dict[str, float]:
    """Return the temperature of raw and of calibrated probabilities."""
    return {"raw": 1.0, "calibrated": temperature}


def read_temperatures(path: Path) -> dict[tuple[str, int], float]:
    """Read the temperature of each model and seed."""
    frame = read_table(path, METRICS)
    rows = frame[frame["metric"] == "temperature"]
    return dict(zip(zip(rows["model"], rows["seed"], strict=True), rows["value"], strict=True))


def temperature_of(model: str, seed: int, path: Path) -> float:
    """Read the temperature of one model.

    Raises
    ------
    UserError
        If the table does not hold it.
    """
    temperatures = read_temperatures(path)
    if (model, seed) not in temperatures:
        raise UserError(path, "model", f"there is no temperature for {model}, seed {seed}", "Remove it and run again.")
    return temperatures[model, seed]


def _score(scored: Sequence[ScoredCells], temperature: float, config: EvaluationConfig) -> pd.DataFrame:
    tallies = []
    for index, slide in enumerate(scored):
        blocks = tally_blocks(slide.truth, adjust(slide.proba, temperature), slide.block, blocks=slide.blocks, bins=config.bins)
        tallies.append(blocks.resample(draw_weights(slide.blocks, config.bootstrap, [config.seed, index])))
    joined = pool(tallies)
    values = np.column_stack([OVERALL[name](joined) for name in _REPORTED])
    return tidy(values, [ALL] * len(_REPORTED), _REPORTED, [sum(len(slide.truth) for slide in scored)] * len(_REPORTED))
