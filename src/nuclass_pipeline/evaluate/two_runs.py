"""Two runs side by side: their scores, and the differences on the cells that both scored."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights, interval
from nuclass_pipeline.evaluate.metrics import OVERALL, score_classes, tally_blocks
from nuclass_pipeline.evaluate.predictions import HELDOUT, PREFIX, to_scored
from nuclass_pipeline.io import read_table
from nuclass_pipeline.layout import BASE, RESULTS
from nuclass_pipeline.schemas import ALL, JOINED, MEAN, METRICS, PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

SIDES = ("first", "second")
COMPARED = {"macro_f1": "raw", "accuracy": "raw", "ece": "calibrated"}
"""Score → probabilities from which it is computed, in the metrics of a run."""
_CALIBRATED = "c_"
# Cells of one name that lie further apart are cells of two slides that have one name.
_SAME_PLACE_UM = 1.0


@dataclass(frozen=True)
class ScoredRun:
    """A run with its scores on held-out slides.

    Attributes
    ----------
    name
        Name to show.
    folder
        Its results.
    metrics
        Metrics of the held-out slides.
    variant
        Variant of its models.
    """

    name: str
    folder: Path
    metrics: pd.DataFrame
    variant: str = BASE

    @property
    def slides(self) -> list[str]:
        """Held-out slides."""
        return [name for name in dict.fromkeys(self.metrics["slide"]) if name not in JOINED]

    @property
    def models(self) -> list[str]:
        """Models that are scored."""
        return list(dict.fromkeys(self.metrics["model"]))

    @property
    def seeds(self) -> list[int]:
        """Seeds of training."""
        return sorted(set(self.metrics["seed"]))

    def predictions(self, slide: str, model: str) -> list[Path]:
        """Return the prediction files of all seeds."""
        return [self.prediction(slide, model, seed) for seed in self.seeds]

    def prediction(self, slide: str, model: str, seed: int) -> Path:
        """Return the prediction file of a seed."""
        return self.folder / RESULTS["predictions"].path.format(variant=self.variant, model=model, seed=seed, slide=slide)


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common, and where they differ. Differences are the second run minus the first.

    Attributes
    ----------
    scores
        One row per slide, model and score: of each run as scored, and the difference on common cells with its interval.
    classes
        The same for the F1 of each class on common cells.
    agreement
        Common cells by slide and model: the share with one prediction, and which run is right. First seed of each run.
    cells
        Cells by slide: common, and why others are not compared.
    notes
        What to know before the differences are used.
    """

    scores: pd.DataFrame
    classes: pd.DataFrame
    agreement: pd.DataFrame
    cells: pd.DataFrame
    notes: list[str]


def read_scores(folder: Path, name: str, variant: str = BASE) -> ScoredRun:
    """Read the scores of a run, or of a variant of it."""
    return ScoredRun(name, folder, read_table(folder / RESULTS["heldout_metrics"].path.format(variant=variant), METRICS), variant)


def compare_runs(first: ScoredRun, second: ScoredRun, config: EvaluationConfig) -> Comparison:
    """Compare two runs on the held-out slides and models that both have.

    Parameters
    ----------
    first, second
        The runs. Scores are means over the seeds of each.
    config
        Resamples and seed of the bootstrap, and bins of the calibration error.

    Raises
    ------
    UserError
        If the runs have no held-out slide, no model, or no cell on them in common.
    """
    slides, models = _common(first, second, "slides"), _common(first, second, "models")
    matched = {slide: _match(first, second, slide, models[0]) for slide in slides}
    cells = pd.DataFrame([counts for _, counts in matched.values()])
    if not cells["common"].any():
        remedy = "Compare runs that give the same cells the same labels."
        raise UserError(second.folder, "predictions", f"no labelled cell of {', '.join(slides)} is in both runs", remedy)
    scored = {
        (slide, model): _Pair(*(_score(run.predictions(slide, model), common, [config.seed, index], config) for run in (first, second)))
        for index, (slide, (common, _)) in enumerate(matched.items())
        for model in models
        if len(common)
    }
    names = [{"slide": slide, "model": model} for slide, model in scored]
    classes = [_compare_classes(pair, matched[slide][0]["label"]) for (slide, _), pair in scored.items()]
    agreement = [_agree([run.predictions(slide, model)[0] for run in (first, second)], matched[slide][0]) for slide, model in scored]
    compared = list(cells.loc[cells["common"] > 0, "slide"])
    return Comparison(
        _with_own(_compare_scores(scored, cells), first, second, compared),
        pd.concat([frame.assign(**name) for frame, name in zip(classes, names, strict=True)], ignore_index=True),
        pd.DataFrame([name | row for row, name in zip(agreement, names, strict=True)]),
        cells,
        list(_notes(first, second, cells)),
    )


def _common(first: ScoredRun, second: ScoredRun, kind: str) -> list[str]:
    has, others = getattr(first, kind), getattr(second, kind)
    if common := [name for name in has if name in others]:
        return common
    what = {"slides": "held-out slide", "models": "model"}[kind]
    problem = f"no {what} in common with {first.name}: {', '.join(others)} here, {', '.join(has)} there"
    raise UserError(second.folder, kind, problem, f"Compare runs that score the same {what}.")


def _match(first: ScoredRun, second: ScoredRun, slide: str, model: str) -> tuple[pd.DataFrame, dict[str, str | int]]:
    """Return the cells that both runs scored with one label, and the numbers of cells by why they are compared or not."""
    one, other = (_scored_cells(run.predictions(slide, model)[0]) for run in (first, second))
    both = one.join(other, how="inner", rsuffix="_other")
    moved = np.hypot(both["x_um"] - both["x_um_other"], both["y_um"] - both["y_um_other"]) > _SAME_PLACE_UM
    relabelled = ~moved & (both["label"] != both["label_other"])
    common = both.loc[~moved & ~relabelled, ["label", "block"]]
    counts = {"common": len(common), "only_first": len(one) - len(both), "only_second": len(other) - len(both)}
    return common, {"slide": slide, **counts, "other_label": int(relabelled.sum()), "other_place": int(moved.sum())}


def _scored_cells(path: Path) -> pd.DataFrame:
    frame = read_table(path, PREDICTIONS, ["cell_id", "label", "subset", "block", "x_um", "y_um"])
    return frame[frame["subset"].isin(HELDOUT) & frame["label"].ne(UNRESOLVED)].set_index("cell_id")


@dataclass(frozen=True)
class _Side:
    """Scores of one run on the common cells of a slide, means over its seeds; the leading axis L is resamples.

    Attributes
    ----------
    labels
        Classes of the model, and the labels that it lacks.
    scores
        (L, scores) those of `COMPARED`.
    f1
        (L, labels) F1 of each class.
    """

    labels: tuple[str, ...]
    scores: Floats
    f1: Floats


class _Pair(NamedTuple):
    """The same of both runs."""

    first: _Side
    second: _Side


def _score(paths: Sequence[Path], common: pd.DataFrame, seed: Sequence[int], config: EvaluationConfig) -> _Side:
    scores, f1 = [], []
    for path in paths:
        cells = to_scored(_calibrated(path, common), path, HELDOUT)
        blocks = tally_blocks(cells.truth, cells.proba, cells.block, blocks=cells.blocks, bins=config.bins, labels=len(cells.labels))
        tally = blocks.resample(draw_weights(cells.blocks, config.bootstrap, seed))
        scores.append(np.column_stack([OVERALL[name](tally) for name in COMPARED]))
        f1.append(score_classes(tally)[:, 0])
    return _Side(cells.labels, np.mean(scores, axis=0), np.mean(f1, axis=0))


def _calibrated(path: Path, common: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of the common cells, with calibrated probabilities, and the blocks of the first run for both."""
    frame = read_table(path, PREDICTIONS).set_index("cell_id")
    if len(missing := common.index.difference(frame.index)):
        raise UserError(path, "cell_id", f"{len(missing)} cells of another seed are missing", "Remove the file and run again.")
    frame = frame.loc[common.index].drop(columns=[name for name in frame if str(name).startswith(PREFIX)])
    frame.columns = [re.sub(f"^{_CALIBRATED}", PREFIX, str(name)) for name in frame]
    return frame.assign(block=common["block"]).reset_index()


def _differences(first: Floats, second: Floats, names: Sequence[str], kind: str) -> pd.DataFrame:
    difference = second - first
    low, high = interval(difference)
    values = {"first": first[0], "second": second[0], "difference": difference[0], "difference_low": low, "difference_high": high}
    return pd.DataFrame({kind: list(names), **values})


def _compare_scores(scored: Mapping[tuple[str, str], _Pair], cells: pd.DataFrame) -> pd.DataFrame:
    """Return the differences by slide, model and score, and those of the mean over slides where there are several."""
    sides = {name: (pair.first.scores, pair.second.scores) for name, pair in scored.items()}
    counts = dict(zip(cells["slide"], cells["common"], strict=True))
    for model in dict.fromkeys(model for _, model in scored):
        of_model = [pair for (_, name), pair in sides.items() if name == model]
        if len(of_model) > 1:
            sides[MEAN, model] = (np.mean([one for one, _ in of_model], axis=0), np.mean([other for _, other in of_model], axis=0))
    frames = [
        _differences(one, other, list(COMPARED), "metric").assign(slide=slide, model=model, cells=counts.get(slide, sum(counts.values())))
        for (slide, model), (one, other) in sides.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _compare_classes(pair: _Pair, labels: "pd.Series[str]") -> pd.DataFrame:
    counts = labels.value_counts()
    names = [name for name in pair.first.labels if name in counts.index]
    f1 = [side.f1[:, [side.labels.index(name) for name in names]] for side in pair]
    return _differences(f1[0], f1[1], names, "label").assign(cells=[int(counts[name]) for name in names])


def _agree(paths: Sequence[Path], common: pd.DataFrame) -> dict[str, float]:
    columns = ["cell_id", "predicted"]
    one, other = (read_table(path, PREDICTIONS, columns).set_index("cell_id")["predicted"].loc[common.index] for path in paths)
    right, right_other = one == common["label"], other == common["label"]
    groups = {"both": right & right_other, "only_first": right & ~right_other, "only_second": ~right & right_other}
    shares = {name: float(group.mean()) for name, group in groups.items()}
    return {"cells": len(common), "same": float((one == other).mean()), **shares, "neither": float((~right & ~right_other).mean())}


def _own(run: ScoredRun, slides: Sequence[str]) -> pd.DataFrame:
    """Return the scores of a run as it made them; those over all slides only where `slides` are all of its held-out slides."""
    shown = [*slides, MEAN] if set(slides) == set(run.slides) else slides
    rows = run.metrics[run.metrics["label"].eq(ALL) & run.metrics["label_set"].eq("open") & run.metrics["slide"].isin(shown)]
    rows = rows[rows["probabilities"] == rows["metric"].map(COMPARED)]
    return rows.groupby(["slide", "model", "metric"])[["value", "ci_low", "ci_high"]].mean()


def _with_own(frame: pd.DataFrame, first: ScoredRun, second: ScoredRun, slides: Sequence[str]) -> pd.DataFrame:
    frame = frame.set_index(["slide", "model", "metric"])
    for side, run in zip(SIDES, (first, second), strict=True):
        names = {"value": side, "ci_low": f"{side}_low", "ci_high": f"{side}_high"}
        frame = frame.drop(columns=side, errors="ignore").join(_own(run, slides).rename(columns=names))
    ends = [f"{name}{end}" for name in (*SIDES, "difference") for end in ("", "_low", "_high")]
    return frame[[*ends, "cells"]].reset_index()


def _notes(first: ScoredRun, second: ScoredRun, cells: pd.DataFrame) -> Iterator[str]:
    for run, other in ((first, second), (second, first)):
        if alone := [name for name in run.slides if name not in other.slides]:
            yield f"Held out in {run.name} only, so not compared: {', '.join(alone)}."
    if first.seeds != second.seeds or len(first.seeds) > 1:
        seeds = " and ".join(f"{', '.join(map(str, run.seeds))} of {run.name}" for run in (first, second))
        yield f"Scores are means over the seeds {seeds}; the agreement is that of the first seed of each."
        yield "Intervals are over spatial blocks only; seeds are not resampled."
    for row in cells.to_dict("records"):
        if row["only_first"] or row["only_second"]:
            both = row["common"] + row["other_label"] + row["other_place"]
            numbers = f"{row['only_first']:,} only in {first.name}, {row['only_second']:,} only in {second.name}"
            yield f"{row['slide']}: {both:,} labelled cells are scored in both runs, {numbers}."
    for slide in cells.loc[cells["common"] == 0, "slide"]:
        yield f"{slide}: no labelled cell is in both runs, so the slide is not compared, and a mean over slides leaves it out."
    for slide, relabelled, moved in zip(cells["slide"], cells["other_label"], cells["other_place"], strict=True):
        if relabelled:
            yield f"{slide}: {relabelled:,} cells have another label in {second.name} than in {first.name}, and are not compared."
        if moved:
            yield f"{slide}: {moved:,} cells lie elsewhere in {second.name}, so the slides may be different ones of one name."
