"""What the folds took: features, their size, and training, from what Snakemake wrote about each job."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.real_tissue.folds import Fold
from benchmarks.real_tissue.scores import Heldout
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.train.dataset import read_ids

TRAINED = ("local", "global", "gate")


def read_costs(folds: Sequence[Fold], pooled: Heldout) -> pd.DataFrame:
    """Return what the folds of one division took: `quantity`, `unit`, `value`.

    Times are those of whole jobs, with the start of Python, on so many threads as `compute.threads` says.

    Raises
    ------
    UserError
        If the record of a job is missing.
    """
    rows: list[tuple[str, str, float]] = [("context windows that are padded", "%", 100 * float(pooled.padded.mean()))]
    sources = {slide: folds[0].features(slide) for slide in folds[0].run.cohort_slides}
    total = 0.0
    for name in ("local", "context"):
        paths = [source[name] for source in sources.values()]
        cells = sum(len(read_ids(path)) for path in paths)
        took = sum(seconds(folds[0].benchmarks / "embed_windows" / f"{_job(path)}.tsv") for path in paths)
        size = sum(path.stat().st_size for path in paths) / cells
        total += size
        rows.append((f"{name} features", "windows/s", cells / took))
        rows.append((f"{name} features", "bytes per cell", size))
    rows.append(("both features", "bytes per cell", total))
    for name in TRAINED:
        times = [seconds(fold.benchmarks / f"train_{name}" / f"{BASE}.seed-{fold.run.seeds[0]}.tsv") for fold in folds]
        rows.append((f"training of the {name}{'' if name == 'gate' else ' path'}", "s per fold", float(np.mean(times))))
    return pd.DataFrame(rows, columns=["quantity", "unit", "value"])


def seconds(path: Path) -> float:
    """Return the seconds of a job from the table that Snakemake wrote about it."""
    if not path.is_file():
        raise UserError(path, "file", "it is missing", "Remove the results of this benchmark and run it again.")
    return float(pd.read_csv(path, sep="\t")["s"].iloc[-1])


def _job(features: Path) -> str:
    """Return the name of the job that made a feature file: `<slide>.<encoder>.<px>.<key>`."""
    return f"{features.parents[1].name}.{features.stem}"
