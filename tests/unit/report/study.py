"""Results of a small study for tests of the report: two held-out slides, one for training, and an H&E without Xenium."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from nuclass_pipeline.io import write_json, write_table
from nuclass_pipeline.schemas import COHORT, METRICS, QUALITY, RUNTIME, WARNINGS
from nuclass_pipeline.tables.write import write_table_files
from tests import ROOT

CAPTIONS = sorted((ROOT / "workflow" / "report").glob("*.rst"))
VALUES = {"local": 0.6, "global": 0.55, "gate": 0.712}
CELLS = {"lung-2": 4000, "lung-3": 321, "mean": 4321, "pooled": 4321}
SLIDES = ("lung-1", "lung-2", "lung-3", "lung-he")


def write_heldout(path: Path) -> Path:
    rows = [_metric(model, slide, "all", metric, value, variant) for slide in CELLS for model, value in VALUES.items()
            for metric in ("macro_f1", "accuracy", "weighted_f1", "ece", "brier") for variant in ("raw", "calibrated")]  # fmt: skip
    for seed in (0, 1):
        rows += [
            _metric("gate", "lung-2", "T_Cell", "f1", 0.5 + 0.2 * seed, "raw") | {"seed": seed, "n_cells": 17},
            _metric("gate", "lung-2", "Monocyte", "f1", 0.0, "raw") | {"seed": seed, "n_cells": 3},
            _metric("gate", "lung-2", "Monocyte", "unseen_cells", 3.0, "raw") | {"seed": seed, "n_cells": 3},
            _metric("gate", "lung-2", "all", "unseen_cells", 3.0, "raw") | {"seed": seed, "n_cells": 3},
            _metric("gate", "lung-3", "T_Cell", "f1", np.nan, "raw") | {"seed": seed, "n_cells": 0},
        ]
    write_table(pd.DataFrame(rows), path, METRICS)
    return path


def _metric(model: str, slide: str, label: str, metric: str, value: float, variant: str) -> dict[str, Any]:
    place = {
        "run": "r",
        "model": model,
        "variant": "base",
        "probabilities": variant,
        "seed": 0,
        "slide": slide,
        "organ": "all",
        "label": label,
    }
    score = {"metric": metric, "value": value, "ci_low": value - 0.05, "ci_high": value + 0.05, "n_cells": CELLS[slide]}
    return place | {"label_set": "open"} | score


def write_cohort(path: Path) -> Path:
    rows = [("lung-1", "train", "train", "T_Cell", 40), ("lung-1", "train", "train", "B_Cell", 8), ("lung-1", "train", "val", "Ductal", 2)]
    rows += [("lung-1", "train", "train", "Unresolved", 5), ("lung-2", "heldout", "heldout", "Monocyte", 3)]
    frame = pd.DataFrame(rows, columns=["slide", "role", "subset", "label", "cells"]).assign(run="r", organ="lung")
    write_table(frame[[column.name for column in COHORT.columns]], path, COHORT)
    return path


def write_quality(path: Path, slides: tuple[str, ...] = SLIDES, **changes: Any) -> Path:
    roles = ("train", "heldout", "heldout", "predict")
    rows = [
        {"slide": slide, "organ": "lung", "role": role, "kind": "xenium", "cells": 1000 + number, "transcripts_median": 151.5}
        | {"genes_median": 71.0, "panel_genes": 377.0, "cell_types": 18.0, "cell_types_seen": 17.0, "labelled": 900 + number}
        | {"unresolved": f"poor quality {100 - number}; weak support {number}", "nuclei": 990.0, "excluded": 12.0}
        | {"exclusions": "outside the H&E 12", "tissue_share": 0.717, "verdict": "good", "correlation": 0.59}
        | {"correlation_chance": 0.08, "shift_um": 0.21, "cells_inside": 0.988}
        for number, (slide, role) in enumerate(zip(slides, roles, strict=False))
    ]
    frame = pd.DataFrame(rows, columns=[column.name for column in QUALITY.columns]).assign(**changes)
    # Nothing of Xenium on the last, as of an H&E alone.
    alone = frame["role"] == "predict"
    numbers = ["transcripts_median", "genes_median", "panel_genes", "cell_types", "cell_types_seen", "correlation", "shift_um"]
    frame.loc[alone, [*numbers, "correlation_chance", "cells_inside"]] = np.nan
    frame.loc[alone, "verdict"] = None
    write_table(frame, path, QUALITY)
    return path


def write_runtime(path: Path, rules: tuple[str, ...] = ("train_local", "train_global", "train_gate", "read_cells")) -> Path:
    rows = [{"rule": rule, "jobs": 2, "seconds": 720.0 / (n + 1), "cpu_seconds": 90.0, "peak_mb": 2048.0} for n, rule in enumerate(rules)]
    frame = pd.DataFrame(rows, columns=[column.name for column in RUNTIME.columns])
    frame = frame.astype({"jobs": int, "seconds": float, "cpu_seconds": float, "peak_mb": float})
    frame.loc[frame["rule"] == "read_cells", "peak_mb"] = np.nan
    write_table(frame, path, RUNTIME)
    return path


def write_warnings(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    write_table(pd.DataFrame(rows, columns=["slide", "stage", "warning"], dtype=object), path, WARNINGS)
    return path


def write_history(root: Path, model: str, seed: int = 0, checks: int = 1) -> Path:
    path = root / "models/base" / model / f"seed-{seed}" / "history.parquet"
    path.parent.mkdir(parents=True)
    scores = [0.2, 0.6, 0.83125, 0.83125, 0.7, 0.8]
    frame = pd.DataFrame({"epoch": np.arange(6) // checks, "train_loss": np.linspace(2, 1, 6), "val_macro_f1": scores})
    frame.assign(val_loss=[2.0, 1.5, 1.25, 1.3, 1.4, 1.5]).to_parquet(path)
    return path


def write_picture(path: Path, size: tuple[int, int] = (90, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def inputs_of_labels(root: Path) -> dict[str, Any]:
    """Return the arguments of a study that only labels slides: no model, no figure."""
    write_json({"run": "r", "recorded": "2026-11-20T10:00+00:00", "nuclass_pipeline": "0.1.0", "commit": "0123456789abcdef", "dirty": False}
               | {"inputs": {"config/slides.tsv": "ab" * 32}, "libraries": {"torch": "2.9"}}, root / "manifest.json")  # fmt: skip
    (root / "config.yaml").write_text("run: r  # a & b\n")
    return {
        "heading": "Demo & results",
        "captions": CAPTIONS,
        "label_reports": [write_picture(root / "slides" / slide / "label_report.png") for slide in SLIDES[:3]],
        "quality": write_quality(root / "quality.parquet"),
        "runtime": write_runtime(root / "runtime.parquet"),
        "warnings": write_warnings(root / "warnings.parquet", [("lung-1", "split", "only 9 cells have a label and an image")]),
        "manifest": root / "manifest.json",
        "config": root / "config.yaml",
        "report": root / "report.html",
    }


def inputs_of_models(root: Path) -> dict[str, Any]:
    """Return the arguments of a whole study."""
    heldout = write_heldout(root / "metrics.parquet")
    write_table_files(name="heldout", inputs={"heldout": heldout}, outputs=[root / "heldout.tsv"])
    cohort = write_cohort(root / "cohort.parquet")
    write_table_files(name="cohort", inputs={"cohort": cohort}, outputs=[root / "cohort.tsv"])
    return inputs_of_labels(root) | {
        "figures": [write_picture(root / f"{name}.png", (900, 300)) for name in ("confusion", "gate_map")],
        "tables": [root / "cohort.tsv", root / "heldout.tsv"],
        "tissue": [write_picture(root / "slides" / slide / "tissue.png") for slide in SLIDES],
        "histories": [write_history(root, model) for model in VALUES],
        "heldout": heldout,
        "cohort": cohort,
    }
