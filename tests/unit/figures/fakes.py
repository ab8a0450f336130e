"""Inputs of the figures that look like real ones: shares of the published cohort, clustered cells, stained crops."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import ATTRIBUTION, COHORT, METRICS, OVERVIEWS, POINT_IMAGES, PREDICTIONS, REGISTRATION, RELIABILITY
from nuclass_pipeline.vocabulary import PAPER_CLASSES

MAL, TAF, ENDO = "Epithelial_Malignant", "Tumor_Associated_Fibroblast", "Endothelial"
ETA, SM = "Endothelial_TumorAssociated", "Smooth_Muscle"
# fmt: off
TRAINING = {
    "breast": {MAL: 50.4, TAF: 24.5, "Macrophage": 17.8, "Mast_Cell": 3.8, ETA: 3.5},
    "colon": {MAL: 58.6, "Macrophage": 17.0, TAF: 12.6, ENDO: 6.4, SM: 5.4},
    "lung": {"T_Cell": 23.0, MAL: 20.4, ENDO: 19.8, TAF: 14.6, "B_Cell": 8.6, "Epithelial_Alveolar": 7.7, "Epithelial_Airway": 5.9},
    "ovary": {MAL: 54.0, TAF: 16.6, SM: 16.0, "Macrophage": 7.1, ENDO: 4.7, ETA: 1.0, "Epithelial_Airway": 0.5},
    "pancreas": {MAL: 30.4, "Macrophage": 15.2, "Fibroblast": 14.7, "Acinar": 10.0, "Endocrine": 9.8, "T_Cell": 6.8, ENDO: 6.4,
                 "Ductal": 2.4, "B_Cell": 1.7, "Mast_Cell": 1.6, SM: 1.0},
    "liver": {"T_Cell": 66.6, TAF: 23.5, ENDO: 7.6, MAL: 2.3},
    "kidney": {"T_Cell": 54.7, TAF: 30.2, ENDO: 7.2, MAL: 5.3, "B_Cell": 2.5},
    "heart": {ENDO: 62.8, "Fibroblast": 37.2},
}
HELDOUT = {
    "ovary": {MAL: 74.7, "Fibroblast": 12.4, "Macrophage": 8.5, ENDO: 4.4},
    "lung": {MAL: 41.0, ENDO: 18.4, "Fibroblast": 15.0, "Macrophage": 12.6, "Monocyte": 6.0, "T_Cell": 3.9, TAF: 3.1},
    "pancreas": {"Ductal": 45.2, "Fibroblast": 18.5, "Acinar": 12.8, TAF: 9.1, ENDO: 8.6, "T_Cell": 3.8, "Endocrine": 2.0},
}
# fmt: on
ORGAN_CELLS = {
    "train": {"breast": 656, "colon": 418, "ovary": 381, "lung": 232, "pancreas": 178, "liver": 131, "kidney": 41, "heart": 14},
    "heldout": {"ovary": 138, "pancreas": 87, "lung": 75},
}
SLIDES = ("ovary-2", "lung-2", "pancreas-2")


def write_cohort(path: Path) -> Path:
    rows = [
        {
            "run": "fake",
            "slide": f"{organ}-{role}",
            "organ": organ,
            "role": role,
            "subset": "all",
            "label": label,
            "cells": round(1000 * n * s),
        }
        for role, table in (("train", TRAINING), ("heldout", HELDOUT))
        for organ, n in ORGAN_CELLS[role].items()
        for label, s in {**{k: v / 100 for k, v in table[organ].items()}, "Unresolved": 0.2}.items()
    ]
    write_table(pd.DataFrame(rows), path, COHORT)
    return path


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def stained(rng: np.random.Generator, side: int, nuclei: int, radius: float) -> np.ndarray:
    """Return pink tissue with violet nuclei: (side, side, 3)."""
    y, x = np.mgrid[:side, :side]
    texture = Image.fromarray((255 * rng.random((side, side))).astype(np.uint8)).filter(ImageFilter.GaussianBlur(side / 40))
    pink = np.array([236, 190, 214]) + 0.9 * (np.asarray(texture, float)[..., None] - 127)
    centers = np.vstack([[side / 2, side / 2], rng.uniform(0, side, (nuclei, 2))])
    for center, stretch in zip(centers, rng.uniform(0.7, 1.3, len(centers)), strict=True):
        near = ((x - center[0]) / stretch) ** 2 + ((y - center[1]) * stretch) ** 2
        pink = np.where((near < radius**2)[..., None], np.array([112, 78, 150]) + 0.3 * (pink - 200), pink)
    return np.clip(pink, 0, 255).astype(np.uint8)


def write_registration(path: Path, slides: int = 5) -> Path:
    rng = np.random.default_rng(0)
    names = [*SLIDES, "breast-1", "colon-1", "kidney-1", "heart-1"][:slides]
    rows = [
        {
            "slide": name,
            "organ": name.split("-")[0],
            "mpp_he": 0.2737,
            "shift_x_um": 0.4 if i != 2 else -7.9,
            "shift_y_um": -1.1 + i,
            "correlation": 0.61 - 0.1 * i,
            "correlation_best": 0.63 - 0.05 * i,
            "verdict": ("good", "good", "shifted", "unclear", "good", "good", "good")[i],
            "thumbnail": png(stained(rng, 220, 40, 5)),
            "field_um": 280.0,
        }
        for i, name in enumerate(names)
    ]
    write_table(pd.DataFrame(rows), path, REGISTRATION)
    return path


def write_overviews(path: Path, slides: tuple[str, ...] = SLIDES) -> Path:
    """Write pictures of 100 × 80 px of 40 µm; the upper left pixel is black."""
    pixels = np.full((80, 100, 3), (236, 190, 214), np.uint8)
    pixels[:2, :2] = 0
    rows = [{"slide": slide, "x_um": -10.0, "y_um": -20.0, "mpp": 40.0, "image": png(pixels)} for slide in slides]
    write_table(pd.DataFrame(rows), path, OVERVIEWS)
    return path


def write_point_images(path: Path, slides: tuple[str, ...] = SLIDES, case: str = "TCGA-A1-A0SB", field_um: float = 400.0) -> Path:
    """Write a square of each slide, with its corner at (1800, 1000) µm."""
    picture = png(stained(np.random.default_rng(3), 96, 30, 5))
    about = {"x_um": 1800.0, "y_um": 1000.0, "field_um": field_um, "picture": picture}
    rows = [{"slide": slide, "image": f"{case}-{number}", "case": case, **about} for number, slide in enumerate(slides)]
    write_table(pd.DataFrame(rows), path, POINT_IMAGES)
    return path


def write_predictions(root: Path, cells: int = 4000, slides: tuple[str, ...] = SLIDES) -> dict[str, list[Path]]:
    """Write predictions of paths that are good at different classes in different places, and of a gate that mostly follows the better."""
    paths: dict[str, list[Path]] = {"local": [], "global": [], "gate": []}
    index = {name: i for i, name in enumerate(PAPER_CLASSES)}
    for number, slide in enumerate(slides):
        rng = np.random.default_rng(number)
        x, y = rng.uniform(0, 4000, cells), rng.uniform(0, 2600 + 400 * number, cells)
        kept = (x - 2000) ** 2 / 2000**2 + (y - 1300) ** 2 / 1500**2 < 1 + 0.2 * np.sin(x / 300)
        x, y = x[kept], y[kept]
        mix = HELDOUT[slide.split("-")[0]]
        label = rng.choice(list(mix), len(x), p=np.array(list(mix.values())) / sum(mix.values()))
        label[rng.random(len(x)) < 0.1] = "Unresolved"
        truth = np.array([index.get(name, 0) for name in label])
        niche = np.sin(x / 500) * np.cos(y / 400) > 0
        skill = {"local": np.where(niche, 1.6, 3.0), "global": np.where(niche, 3.2, 1.4)}
        proba = {}
        for model, strength in skill.items():
            logits = rng.normal(size=(len(x), len(index)), scale=1.3)
            logits[np.arange(len(x)), truth] += strength
            power = np.exp(2.2 * logits)
            proba[model] = power / power.sum(axis=1, keepdims=True)
        g = np.clip(np.where(niche, 0.75, 0.3) + rng.normal(scale=0.12, size=len(x)), 0, 1)
        proba["gate"] = (1 - g[:, None]) * proba["local"] + g[:, None] * proba["global"]
        block = [f"{int(a // 500)}-{int(b // 500)}" for a, b in zip(x, y, strict=True)]
        for model, p in proba.items():
            weight = {"local": np.zeros(len(x)), "global": np.ones(len(x)), "gate": g}[model]
            names = {"cell_id": [f"c{i}" for i in range(len(x))], "label": label, "subset": "heldout", "block": block}
            frame = pd.DataFrame(
                names | {"x_um": x, "y_um": y, "padded": False, "predicted": np.array(PAPER_CLASSES)[p.argmax(1)], "gate_weight": weight}
            )
            frame = pd.concat([frame, pd.DataFrame(p, columns=[f"p_{name}" for name in PAPER_CLASSES])], axis=1)
            path = root / "predictions" / model / "seed-0" / f"{slide}.parquet"
            write_table(frame, path, PREDICTIONS)
            paths[model].append(path)
    return paths


def metric(**values: object) -> dict[str, object]:
    row: dict[str, object] = {
        "run": "fake",
        "model": "gate",
        "variant": "base",
        "probabilities": "raw",
        "seed": 0,
        "slide": "pooled",
        "organ": "all",
        "label": "all",
    }
    return row | {"label_set": "open", "metric": "accuracy", "value": 0.0, "ci_low": 0.0, "ci_high": 0.0, "n_cells": 10} | values


def write_metrics(path: Path, rows: list[dict[str, object]]) -> Path:
    write_table(pd.DataFrame(rows), path, METRICS)
    return path


def write_reliability(path: Path) -> Path:
    rows, bins = [], 10
    for model, slope in (("local", 0.6), ("global", 0.7), ("gate", 0.8)):
        for variant, factor in (("raw", slope), ("calibrated", 0.97)):
            for b in range(1, bins):
                middle = (b + 0.5) / bins
                n = int(5000 * middle**2)
                names = {
                    "run": "fake",
                    "model": model,
                    "variant": "base",
                    "probabilities": variant,
                    "seed": 0,
                    "slide": "pooled",
                    "label_set": "open",
                }
                edges = {"bin": b, "bin_low": b / bins, "bin_high": (b + 1) / bins}
                # The second bin lies in one block, so that its bounds are unknown.
                bounds = {"accuracy_low": factor * middle - 0.02 if b > 1 else np.nan, "accuracy_high": factor * middle + 0.03}
                rows.append(names | edges | {"confidence": middle, "accuracy": factor * middle, "n_cells": n} | bounds)
            rows.append(names | {"bin": 0, "bin_low": 0.0, "bin_high": 0.1, "confidence": np.nan, "accuracy": np.nan, "n_cells": 0})
            rows[-1] |= {"accuracy_low": np.nan, "accuracy_high": np.nan}
    write_table(pd.DataFrame(rows), path, RELIABILITY)
    return path


def write_ece(path: Path) -> Path:
    values = {("local", "raw"): 0.241, ("global", "raw"): 0.188, ("gate", "raw"): 0.121}
    rows = [metric(model=model, probabilities=variant, metric="ece", value=value) for (model, variant), value in values.items()]
    rows += [metric(model=model, probabilities="calibrated", metric="ece", value=0.02) for model in ("local", "global", "gate")]
    return write_metrics(path, rows)


OUTCOMES = {
    "Epithelial_Malignant": (700, 120, 60, 20),
    "T_Cell": (20, 10, 45, 25),
    "Endocrine": (30, 30, 5, 5),
    "Tumor_Associated_Fibroblast": (150, 35, 90, 60),
    "Acinar": (230, 30, 20, 10),
    "Endothelial": (120, 20, 15, 50),
}


def write_complementarity(path: Path) -> Path:
    table = {"all": tuple(map(sum, zip(*OUTCOMES.values(), strict=True))), **OUTCOMES}
    rows = []
    for place, (label, counts) in enumerate(table.items()):
        both, local, global_, neither = counts
        n = sum(counts)
        named = {"both": both, "local_only": local, "global_only": global_, "neither": neither}
        rows += [metric(model="oracle", label=label, metric=name, value=float(value), n=n) for name, value in named.items()]
        scores = {"oracle": 1 - neither / n, "gate": (both + 0.75 * max(local, global_)) / n}
        rows += [metric(model=model, label=label, value=value, n=n) for model, value in scores.items()]
        rows.append(metric(label=label, metric="mean_gate_weight", value=0.2 + 0.1 * place, n=n))
    return write_metrics(path, rows)


def write_attribution(path: Path, slides: tuple[str, ...] = SLIDES[:2], cells: int = 6) -> Path:
    rng, rows = np.random.default_rng(4), []
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    for slide in slides:
        for cell in range(cells):
            label = list(HELDOUT["lung"])[cell]
            for model, side, field, radius in (("local", 112, 56.0, 14), ("global", 128, 256.0, 4)):
                heat = np.exp(-((x - rng.normal(scale=0.3)) ** 2 + (y - rng.normal(scale=0.3)) ** 2) / 0.15) + 0.05
                predicted = label if rng.random() < 0.7 else "Macrophage"
                names = {"slide": slide, "cell_id": f"c{cell}", "label": label, "predicted": predicted, "model": model, "field_um": field}
                names |= {"gate_predicted": "Macrophage", "gate_probability": 0.625, "probability": 0.5}
                pixels, tissue = stained(rng, side, 8 if model == "local" else 20, radius), np.ones((side, side), bool)
                pixels[:, : side // 4], tissue[:, : side // 4] = 245, False
                rows.append(names | {"image": png(pixels), "tissue": png(tissue), "heat": (heat / heat.max()).ravel().tolist()})
                rows[-1]["masked_share"] = 0.125 * cell if cell < 5 else np.nan
    write_table(pd.DataFrame(rows), path, ATTRIBUTION)
    return path
