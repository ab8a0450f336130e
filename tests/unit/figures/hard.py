"""The hardest run that figures must show: many classes with long names, eight organs, eleven slides, two seeds."""

from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import COHORT, PREDICTIONS, REGISTRATION, RELIABILITY
from nuclass_pipeline.vocabulary import CLASSES
from tests.unit.figures import fakes

LONG = sorted(sorted(CLASSES, key=len)[-16:])
"""The sixteen longest names of classes."""
ORGANS = ("breast", "colon", "heart", "kidney", "liver", "lung", "ovary", "pancreas")
TRAINING = tuple(f"{organ}-with-a-long-name-1" for organ in ORGANS)
SLIDES = tuple(f"{organ}-with-a-long-name-2" for organ in ORGANS[:3])


def write_cohort(path: Path) -> Path:
    """Write eight organs with all sixteen classes each, from common ones to ones with a single cell."""
    rows = []
    for role, slides in (("train", TRAINING), ("heldout", SLIDES)):
        for number, slide in enumerate(slides):
            names = {"run": "hard", "slide": slide, "organ": slide.split("-")[0], "role": role, "subset": "all"}
            counts = np.maximum(1, 200_000 * 0.45 ** np.arange(16) / (1 + number) ** 2).astype(int)
            rows += [names | {"label": label, "cells": int(n)} for label, n in zip(np.roll(LONG, number), counts, strict=True)]
    write_table(pd.DataFrame(rows), path, COHORT)
    return path


def write_predictions(
    root: Path, cells: int = 400, wrong: float = 0.3, seeds: int = 1, slides: tuple[str, ...] = SLIDES
) -> dict[str, list]:
    """Write predictions of sixteen classes, one of which is on no slide."""
    paths: dict[str, list] = {"local": [], "global_": [], "gate": []}
    for seed in range(seeds):
        for number, slide in enumerate(slides):
            rng = np.random.default_rng([seed, number])
            truth = rng.integers(0, 15, cells)
            frame = pd.DataFrame(
                {"cell_id": [f"c{i}" for i in range(cells)], "label": np.array(LONG)[truth], "subset": "heldout", "block": "0"}
            )
            frame = frame.assign(x_um=rng.uniform(0, 12_000, cells), y_um=rng.uniform(0, 9000, cells), padded=False)
            for model in paths:
                found = np.where(rng.random(cells) < wrong, rng.integers(0, 15, cells), truth)
                shares = np.full((cells, 16), 0.02)
                shares[np.arange(cells), found] = 0.7
                scores = pd.DataFrame(shares, columns=[f"p_{name}" for name in LONG])
                table = frame.assign(predicted=np.array(LONG)[found], gate_weight={"local": 0.0, "global_": 1.0, "gate": 0.5}[model])
                path = root / model / f"seed-{seed}" / f"{slide}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_table(pd.concat([table, scores], axis=1), path, PREDICTIONS)
                paths[model].append(path)
    return paths


def write_registration(path: Path) -> Path:
    rng, rows = np.random.default_rng(0), []
    for name in (*TRAINING, *SLIDES):
        shift = {"shift_x_um": -107.9, "shift_y_um": 100.4, "correlation": 0.06, "correlation_best": 0.61, "verdict": "shifted"}
        picture = {"thumbnail": fakes.png(fakes.stained(rng, 64, 10, 4)), "field_um": 280.0}
        rows.append({"slide": name, "organ": name.split("-")[0], "mpp_he": 0.2737} | shift | picture)
    write_table(pd.DataFrame(rows), path, REGISTRATION)
    return path


def write_reliability(path: Path) -> Path:
    """Write bins of a million cells and of one, for two seeds; the calibrated ones of the gate are the raw ones."""
    rows = []
    for model in ("local", "global", "gate"):
        for variant in ("raw", "calibrated"):
            for seed in (0, 1):
                for number in range(10):
                    n = (1, 0, 3, 10_000, 200_000, 1_000_000, 30, 500, 20_000, 3_000_000)[number]
                    shift = 0.3 if variant == "raw" and model != "gate" else 0.5
                    middle, right = ((number + shift) / 10, min(1.0, number / 9)) if n else (np.nan, np.nan)
                    names = {
                        "run": "hard",
                        "model": model,
                        "variant": "base",
                        "probabilities": variant,
                        "seed": seed,
                        "slide": "pooled",
                        "label_set": "open",
                    }
                    edges = {"bin": number, "bin_low": number / 10, "bin_high": (number + 1) / 10}
                    rows.append(names | edges | {"confidence": middle, "accuracy": right, "n_cells": n})
                    rows[-1] |= {"accuracy_low": np.clip(right - 0.1, 0, 1), "accuracy_high": np.clip(right + 0.1, 0, 1)}
    write_table(pd.DataFrame(rows), path, RELIABILITY)
    return path


def write_complementarity(path: Path) -> Path:
    rows = []
    for number, label in enumerate(["all", *LONG]):
        counts = {"both": 900_000.0, "local_only": 10.0 + number, "global_only": 60_000.0, "neither": float(number)}
        rows += [fakes.metric(model="oracle", label=label, metric=name, value=value) for name, value in counts.items()]
        rows += [fakes.metric(model=model, label=label, value=0.99) for model in ("gate", "oracle")]
        rows.append(fakes.metric(label=label, metric="mean_gate_weight", value=number / 16))
    return fakes.write_metrics(path, rows)


def write_attribution(path: Path, wrong: bool = True) -> Path:
    """Write six cells of each slide; every class has the longest name."""
    fakes.write_attribution(path, SLIDES[: 2 if wrong else 1])
    table = pd.read_parquet(path)
    label = "Endothelial_TumorAssociated"
    other = "Tumor_Associated_Fibroblast" if wrong else label
    table.assign(label=label, predicted=other, gate_predicted=other).to_parquet(path)
    return path
