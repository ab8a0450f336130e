"""Complementarity of the two paths, and the gain of the gate over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import divide, draw_weights, sum_blocks, two_sided_p
from nuclass_pipeline.evaluate.metrics import accuracy, macro_f1
from nuclass_pipeline.evaluate.metrics_table import tidy, write_metrics
from nuclass_pipeline.evaluate.predictions import HELDOUT, ScoredCells, by_model, read_scored, with_labels
from nuclass_pipeline.io import read_table
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.schemas import ALL, POOLED, PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

OUTCOMES = ("neither", "local_only", "global_only", "both")
"""Which paths are right; the index is ``local + 2 · global``."""
_SCORES = {"accuracy": accuracy, "macro_f1": macro_f1}


@dataclass(frozen=True)
class Paired:
    """Sums over the same cells for the three models; the leading axis L is resamples.

    Attributes
    ----------
    confusion
        (L, 3, K, K) cells by true and predicted class for local, global and gate.
    outcome
        (L, 4, K) cells by `OUTCOMES` and true class.
    g
        (L, K) summed weight of the global path by true class.
    """

    confusion: Floats
    outcome: Floats
    g: Floats

    def __add__(self, other: "Paired") -> "Paired":
        return Paired(self.confusion + other.confusion, self.outcome + other.outcome, self.g + other.g)


def pair(local: ScoredCells, global_: ScoredCells, gate: ScoredCells, weights: Floats) -> Paired:
    """Sum the cells of each block, and resample the blocks.

    Parameters
    ----------
    local, global_, gate
        The same N cells in the same order.
    weights
        (L, blocks) from `draw_weights`, the same for the three models, which pairs them.
    """
    truth, block, classes, blocks = gate.truth, gate.block, len(gate.labels), gate.blocks
    predicted = [model.proba.argmax(axis=1) for model in (local, global_, gate)]
    right = (predicted[0] == truth) + 2 * (predicted[1] == truth)
    confusion = [sum_blocks(block, truth * classes + p, blocks, classes**2) for p in predicted]
    outcome = sum_blocks(block, right * classes + truth, blocks, len(OUTCOMES) * classes)
    g = sum_blocks(block, truth, blocks, classes, gate.g)
    return Paired(
        np.stack([weights @ sums for sums in confusion], axis=1).reshape(len(weights), len(MODELS), classes, classes),
        (weights @ outcome).reshape(len(weights), len(OUTCOMES), classes),
        weights @ g,
    )


def compare_paths(
    *,
    predictions: Sequence[Path],
    seeds: Sequence[int],
    slides: Sequence[str],
    organs: Mapping[str, str],
    run: str,
    config: EvaluationConfig,
    complementarity: Path,
    variant: str = BASE,
) -> None:
    """Compare the local path, the global path and the gate cell by cell on the held-out slides (open label set).

    The model `oracle` is right if either path is. The table has rows per slide and pooled, for each class and for all.

    * Cells of classes that the model lacks are among those that neither path gets right.
    * `local_only`, `global_only`, `both` and `neither` of the oracle: cells that only one path, both or neither get right.
    * `accuracy` of every model, and `mean_gate_weight`, the mean weight of the global path in the gate.
    * For all only, of the gate: `accuracy_minus_local`, `macro_f1_minus_global`, … with paired intervals, and their p in `…_p`.
    * `accuracy_gain` and `macro_f1_gain` are the same against the better single path.

    Parameters
    ----------
    predictions
        Prediction tables in the order of ``expand(…, model=MODELS, seed=seeds, slide=slides)``.
    seeds, slides
        Seeds and held-out slides.
    organs
        Organ of each slide.
    run, variant
        Name of the run, and variant of the models.
    config
        Resamples and seed.
    complementarity
        Metrics table.

    Raises
    ------
    UserError
        If the three files of a slide differ in cells, labels or classes.
    """
    files = by_model(predictions, MODELS, seeds, slides)
    tables = []
    for seed in seeds:
        paired: dict[str, Paired] = {}
        labels = {label for slide in slides for label in read_table(files["gate", seed][slide], PREDICTIONS, ["label"])["label"]}
        for index, slide in enumerate(slides):
            models = _read([files[model, seed][slide] for model in MODELS], labels - {UNRESOLVED})
            paired[slide] = pair(*models, draw_weights(models[-1].blocks, config.bootstrap, [config.seed, index]))
        paired[POOLED] = reduce(add, paired.values())
        for slide, sums in paired.items():
            names: dict[str, str | int] = {
                "seed": seed,
                "slide": slide,
                "organ": organs.get(slide, ALL),
                "probabilities": "raw",
                "label_set": "open",
            }
            tables += [rows.assign(**names) for rows in _rows(sums, models[-1].labels)]
    write_metrics(tables, complementarity, run, variant=variant)


def _read(paths: Sequence[Path], labels: set[str]) -> tuple[ScoredCells, ScoredCells, ScoredCells]:
    local, global_, gate = (with_labels(read_scored(path, HELDOUT), labels) for path in paths)
    for path, model in zip(paths, (local, global_), strict=False):
        if model.classes != gate.classes:
            raise UserError(
                path, "p_<class>", "the classes differ from those of the gate", "Train the three models again, on the same classes."
            )
        if not (np.array_equal(model.cell_id, gate.cell_id) and np.array_equal(model.truth, gate.truth)):
            raise UserError(
                path, "cell_id", "cells or labels differ from those of the gate", "Remove the predictions of this slide and run again."
            )
    return local, global_, gate


def _rows(sums: Paired, classes: Sequence[str]) -> Iterator[pd.DataFrame]:
    labels = [ALL, *classes]
    outcome, g = _with_all(sums.outcome), _with_all(sums.g)
    cells = outcome.sum(axis=1)
    for index, name in enumerate(OUTCOMES):
        # NaN without any cell, because `tidy` leaves out rows that are not defined.
        counts = np.where(cells[0] > 0, outcome[:, index], np.nan)
        yield tidy(counts, labels, [name] * len(labels), cells[0], model="oracle")
    right = {"oracle": cells - outcome[:, OUTCOMES.index("neither")]}
    right |= {m: _with_all(np.diagonal(sums.confusion[:, i], axis1=1, axis2=2)) for i, m in enumerate(MODELS)}
    for model, hits in right.items():
        yield tidy(divide(hits, cells), labels, ["accuracy"] * len(labels), cells[0], model=model)
    yield tidy(divide(g, cells), labels, ["mean_gate_weight"] * len(labels), cells[0], model="gate")
    yield _differences(sums, int(cells[0, 0]))


def _differences(sums: Paired, cells: int) -> pd.DataFrame:
    columns: dict[str, Floats] = {}
    for name, score in _SCORES.items():
        local, global_, gate = (score(sums.confusion[:, index]) for index in range(len(MODELS)))
        # By the estimate and for all resamples, because choosing the better one in each resample would favour the single path.
        better = local if local[0] >= global_[0] else global_
        for reference, values in {"minus_local": local, "minus_global": global_, "gain": better}.items():
            columns[f"{name}_{reference}"] = gate - values
            columns[f"{name}_{reference}_p"] = np.r_[two_sided_p(gate - values), np.full(len(gate) - 1, np.nan)]
    return tidy(np.column_stack(list(columns.values())), [ALL] * len(columns), list(columns), [cells] * len(columns), model="gate")


def _with_all(sums: Floats) -> Floats:
    return np.concatenate([sums.sum(axis=-1, keepdims=True), sums], axis=-1)
