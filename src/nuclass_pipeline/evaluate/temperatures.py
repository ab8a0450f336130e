"""Temperatures for predictions, from the outputs of the models on training slides.

They equal those of `calibrate_models`, which reads prediction tables. Both are there, because an archive holds predictions without models:
its scores are computed again, and its predictions must not wait for a file that it lacks.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nuclass_pipeline.evaluate.calibration import calibration_subsets, fit_model_temperature
from nuclass_pipeline.evaluate.metrics_table import write_metrics
from nuclass_pipeline.evaluate.predict import prediction_table, run_models
from nuclass_pipeline.evaluate.predictions import ScoredCells, to_scored
from nuclass_pipeline.io import read_table
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.schemas import LABELS, SPLIT


def fit_temperatures(
    *,
    features: Sequence[Path],
    checkpoints: Sequence[Path],
    labels: Sequence[Path],
    splits: Sequence[Path],
    seeds: Sequence[int],
    run: str,
    temperatures: Path,
    variant: str = BASE,
) -> None:
    """Fit one temperature per path, and one for the gate, of every seed.

    Parameters
    ----------
    features
        Files of `embed_cells`, in the order of ``expand(…, seed=seeds, slide=slides)``.
    checkpoints
        Checkpoint of the gate of each seed.
    labels, splits
        Tables of the training slides.
    seeds
        Seeds of the models.
    run, variant
        Name of the run, and variant of the models.
    temperatures
        Metrics table.
    """
    tables = []
    for number, (seed, checkpoint) in enumerate(zip(seeds, checkpoints, strict=True)):
        scored: dict[str, list[ScoredCells]] = defaultdict(list)
        mine = features[number * len(labels) : (number + 1) * len(labels)]
        for files in zip(mine, labels, splits, strict=True):
            for model, cells in _classify(checkpoint, *files).items():
                scored[model].append(cells)
        tables += [fit_model_temperature(slides, model, seed)[1] for model, slides in scored.items()]
    write_metrics(tables, temperatures, run, variant=variant)


def _classify(checkpoint: Path, features: Path, labels: Path, split: Path) -> dict[str, ScoredCells]:
    from nuclass_pipeline.train.gates.outputs import FeatureFile

    source = FeatureFile.open(features)
    frame = pd.DataFrame({"cell_id": source.cells})
    for table in (read_table(labels, LABELS, ["cell_id", "label"]), read_table(split, SPLIT, ["cell_id", "subset", "block"])):
        frame = frame.merge(table, on="cell_id", how="left", validate="one_to_one")
    scored = {}
    for model, weight, p in run_models(source, checkpoint):
        table = prediction_table(frame, p, weight, source.meta.classes)
        scored[model] = to_scored(table, features, calibration_subsets(model)).known
    return scored
