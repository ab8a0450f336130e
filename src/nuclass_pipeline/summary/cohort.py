"""Cells of the study by slide, subset of the split and class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import ALL, COHORT, LABELS, SPLIT


def summarize_cohort(
    *,
    labels: Sequence[Path],
    splits: Sequence[Path],
    slides: Sequence[str],
    organs: Mapping[str, str],
    roles: Mapping[str, str],
    run: str,
    cohort: Path,
) -> None:
    """Count cells by slide, subset of the split and label, Unresolved included.

    Parameters
    ----------
    labels, splits
        Label and split tables, one per slide, in the order of `slides`. Slides without a split come last.
    slides
        Slides of the study with labels.
    organs, roles
        Organ of each slide, and its role: train, heldout or label.
    run
        Name of the run.
    cohort
        Cohort table to write. Its subset `all` counts every cell of a slide, also those that the split leaves out.

    Raises
    ------
    UserError
        If a split has cells without a row in the labels.
    """
    counts = [
        _count(label, split).assign(slide=slide, organ=organs[slide], role=roles[slide])
        for label, split, slide in zip(labels, [*splits, *[None] * (len(slides) - len(splits))], slides, strict=True)
    ]
    frame = pd.concat(counts, ignore_index=True).assign(run=run)
    write_table(frame[[column.name for column in COHORT.columns]], cohort, COHORT)


def _count(labels: Path, split: Path | None) -> pd.DataFrame:
    cells = read_table(labels, LABELS, ["cell_id", "label"])
    # From the labels, because the split may leave cells out.
    rows = cells[["label"]].assign(subset=ALL)
    if split:
        rows = pd.concat([_subsets(split, cells, labels), rows])
    return rows.groupby(["subset", "label"], sort=True, as_index=False).size().rename(columns={"size": "cells"})


def _subsets(split: Path, cells: pd.DataFrame, labels: Path) -> pd.DataFrame:
    subsets = read_table(split, SPLIT, ["cell_id", "subset"])
    joined = subsets.merge(cells, on="cell_id", how="left", validate="one_to_one")
    if joined["label"].isna().any():
        missing = joined.loc[joined["label"].isna(), "cell_id"].iloc[0]
        raise UserError(split, "cell_id", f"{missing!r} is not in {labels}", "Remove the file and run again.")
    return joined[["subset", "label"]]
