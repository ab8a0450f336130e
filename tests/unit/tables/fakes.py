"""Metrics and cohorts for the tables."""

from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import COHORT, METRICS
from nuclass_pipeline.tables import heldout

SCORES = {"local": (0.60, 0.21), "global": (0.55, 0.30), "gate": (0.70, 0.21)}


def write_heldout(path: Path, seeds: tuple[int, ...] = (0,), slides: tuple[str, ...] = ("mean", "lung-2", "pooled", "ovary-2")) -> Path:
    rows = [
        {
            "run": "r",
            "model": model,
            "variant": "base",
            "probabilities": variant,
            "seed": seed,
            "slide": slide,
            "organ": "all",
            "label": label,
            "label_set": kind,
        }
        | {"metric": metric, "value": value + 0.02 * seed + wrong, "ci_low": value - 0.1, "ci_high": value + 0.1, "n_cells": 1234}
        for slide in slides
        for seed in seeds
        for model, (score, error) in SCORES.items()
        for metric, value in {"macro_f1": score, "accuracy": score + 0.1, "weighted_f1": score, "ece": error, "brier": error}.items()
        for variant in ("raw", "calibrated")
        # Only the first belongs into the table; the others must not change it.
        for label, kind, wrong in (
            ("all", "open", 0.5 * ((metric, variant) not in heldout.SCORES.values()) + 0.05 * ((metric, variant) == ("ece", "raw"))),
            ("all", "closed", 0.3),
            ("T_Cell", "open", 0.4),
        )
    ]
    rows += [
        {
            "run": "r",
            "model": model,
            "variant": "base",
            "probabilities": "raw",
            "seed": seed,
            "slide": slide,
            "organ": "all",
            "label": label,
            "label_set": "open",
        }
        | {"metric": "unseen_cells", "value": count, "ci_low": None, "ci_high": None, "n_cells": int(count)}
        for seed in seeds
        for model in SCORES
        for slide, label, count in (("lung-2", "all", 83.0), ("lung-2", "Monocyte", 83.0), ("ovary-2", "all", 2.0))
    ]
    write_table(pd.DataFrame(rows), path, METRICS)
    return path


def write_cohort(path: Path) -> Path:
    counts = {("train", "T_Cell"): 60, ("train", "B_Cell"): 10, ("buffer", "T_Cell"): 5, ("train", "Unresolved"): 20}
    whole = {("all", "T_Cell"): 70, ("all", "B_Cell"): 10, ("all", "Unresolved"): 20}
    rows = [
        {"run": "r", "slide": "z-1", "organ": "lung", "role": "train", "subset": part, "label": label, "cells": cells}
        for (part, label), cells in {**counts, **whole}.items()
    ]
    rows += [
        {"run": "r", "slide": "a-2", "organ": "ovary", "role": "heldout", "subset": part, "label": "T_Cell", "cells": 1500}
        for part in ("heldout", "all")
    ]
    write_table(pd.DataFrame(rows), path, COHORT)
    return path
