"""What each slide holds and how well its parts fit, in one table: cells, panel, labels, tissue and registration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.io import open_h5, read_table, read_texts, write_table
from nuclass_pipeline.knowledge.markers import Marker, admissible, read_markers, restrict_to_panel
from nuclass_pipeline.schemas import CELLS, LABELS, QUALITY, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED


def summarize_quality(
    *,
    cells: Sequence[Path],
    labels: Sequence[Path],
    splits: Sequence[Path],
    counts: Sequence[Path],
    registrations: Sequence[Path],
    images: Sequence[Path],
    knowledge: Path,
    slides: Mapping[str, Mapping[str, str]],
    quality: Path,
) -> None:
    """Write one row per slide.

    Parameters
    ----------
    cells, labels, splits, counts, registrations, images
        `cells.parquet`, `labels.parquet`, `split.parquet`, `counts.h5ad`, `registration.json` and `image.h5` of the slides that have them,
        each in the folder of its slide.
    knowledge
        Marker table.
    slides
        Slide → organ, role and kind, in the order of the table.
    quality
        Table `QUALITY`.
    """
    markers = read_markers(knowledge)
    found = {"splits": splits, "counts": counts, "registrations": registrations, "images": images, "cells": cells, "labels": labels}
    by_slide = {name: {Path(path).parent.name: Path(path) for path in paths} for name, paths in found.items()}
    rows = []
    for slide, about in slides.items():
        paths = {name: files[slide] for name, files in by_slide.items() if slide in files}
        rows.append({"slide": slide, **about, **_describe(paths, about["organ"], markers)})
    frame = pd.DataFrame(rows, columns=[column.name for column in QUALITY.columns])
    write_table(_without_gaps(frame), quality, QUALITY)


def _describe(paths: Mapping[str, Path], organ: str, markers: Sequence[Marker]) -> dict[str, Any]:
    found = _describe_cells(paths["cells"], has_transcripts="counts" in paths) | _describe_labels(paths["labels"])
    if "counts" in paths:
        found |= _describe_counts(paths["counts"], organ, markers)
    if "splits" in paths:
        found |= _describe_split(paths["splits"])
    if "images" in paths:
        with open_h5(paths["images"]) as file:
            found["tissue_share"] = float(file.attrs["tissue_share"])
    if "registrations" in paths:
        found |= _describe_registration(paths["registrations"])
    return found


def _describe_cells(path: Path, has_transcripts: bool) -> dict[str, Any]:
    table = read_table(path, CELLS)
    nuclei = table["nucleus_area_um2"]
    return {
        "cells": len(table),
        "transcripts_median": float(table["transcripts"].median()) if has_transcripts else np.nan,
        "nuclei": float((nuclei > 0).sum()) if nuclei.notna().any() else np.nan,
    }


def _describe_labels(path: Path) -> dict[str, Any]:
    table = read_table(path, LABELS, ["label", "reason"])
    lacking = table["label"] == UNRESOLVED
    return {"labelled": int((~lacking).sum()), "unresolved": count_reasons(table.loc[lacking, "reason"].fillna("no reason"))}


def _describe_counts(path: Path, organ: str, markers: Sequence[Marker]) -> dict[str, Any]:
    # By the row pointers, because reading all counts of a large slide takes gigabytes.
    with open_h5(path) as file:
        genes_per_cell = np.diff(file["X/indptr"][:])
        genes = read_texts(file[f"var/{file['var'].attrs['_index']}"])
    return {
        "genes_median": float(np.median(genes_per_cell)),
        "panel_genes": len(genes),
        "cell_types": len(admissible(organ)),
        "cell_types_seen": len(restrict_to_panel(markers, organ, list(genes)).types),
    }


def _describe_split(path: Path) -> dict[str, Any]:
    table = read_table(path, SPLIT, ["subset", "reason"])
    excluded = table[table["subset"] == "excluded"]
    return {"excluded": len(excluded), "exclusions": count_reasons(excluded["reason"].fillna("no reason"))}


def _describe_registration(path: Path) -> dict[str, Any]:
    _, record = read_registration(path)
    if "verdict" not in record:  # The H&E of a slide without Xenium is registered to nothing.
        return {}
    return {
        "verdict": "accepted" if record.get("accepted") else record["verdict"],
        "correlation": record["correlation_best"],
        "correlation_chance": record["correlation_chance"],
        "shift_um": float(np.hypot(*record["shift_um"])),
        "cells_inside": record["cells_inside"],
    }


def count_reasons(reasons: "pd.Series[str]") -> str:
    """Count equal texts, the commonest first: `poor quality 100; weak support 3`."""
    return "; ".join(f"{reason} {count:,}" for reason, count in reasons.value_counts().items())


def _without_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the kinds of columns that the table requires, also where no slide has a value."""
    numbers = [column.name for column in QUALITY.columns if column.kind == "number"]
    verdict = frame["verdict"].astype(object).where(frame["verdict"].notna(), None)
    texts = frame[["exclusions", "unresolved"]].fillna("").astype(object)
    return frame.astype(dict.fromkeys(numbers, float)).assign(verdict=verdict, **texts)
