"""`nuclass compare`: two runs on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from nuclass_pipeline.cli.common import console
from nuclass_pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_HASH = 12
"""Letters of a hash that are printed."""
_ABSENT = "–"
_LISTED = 5
"""Keys that are listed on the screen."""


def compare(
    first: Annotated[Path, typer.Argument(help="results folder of a run, such as results/demo")],
    second: Annotated[Path, typer.Argument(help="results folder of another run with the same held-out slides")],
    out: Annotated[Path, typer.Option(help="page to write", dir_okay=False)] = Path("compare.html"),
) -> None:
    """Compare the held-out scores of two runs, cell by cell, and their run files, both without their variants."""
    from nuclass_pipeline.evaluate.score_check import check_scores
    from nuclass_pipeline.evaluate.two_runs import compare_runs, read_scores
    from nuclass_pipeline.records import read_recorded
    from nuclass_pipeline.report.compare import build_comparison
    from nuclass_pipeline.results import open_run

    if first.resolve() == second.resolve():
        raise UserError(second, "folder", "both are one run", "Name two runs. The table `variants` of a run compares its variants.")
    folders = (first, second)
    names = [folder.name if first.name != second.name else str(folder) for folder in folders]
    for folder in folders:
        run = open_run(folder)
        if not ((read_recorded(folder) or {}).get("study") or {}).get("heldout", True):
            raise UserError(folder, "run", "it has no held-out slides, so it has no scores", "Compare runs with held-out slides.")
        run.path("heldout_metrics")
    runs = [read_scores(folder, name) for folder, name in zip(folders, names, strict=True)]
    for scored in runs:
        check_scores(scored)
    found = compare_runs(runs[0], runs[1], _bootstrap(first))
    settings = [row for read in (read_recorded, _made_by) for row in _differing(*map(read, folders))]
    found.notes.extend(f"{run.name} keeps no run file, so the run files are not compared." for run in runs if not read_recorded(run.folder))
    warnings = [_warnings(folder, run.slides) for folder, run in zip(folders, runs, strict=True)]
    build_comparison(names=(names[0], names[1]), settings=settings, warnings=warnings, page=out, **vars(found))
    console.print(_table(names, found.scores))
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    keys = ", ".join([row["key"] for row in settings[:_LISTED]] + ["…"] * (len(settings) > _LISTED))
    console.print(f"keys that differ: {keys or 'none'}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"classes, agreement and warnings: {out}", soft_wrap=True, highlight=False, markup=False)


def _bootstrap(folder: Path) -> Any:
    """Return the resamples, bins and seed of a run, or the defaults where it keeps no run file."""
    from pydantic import ValidationError

    from nuclass_pipeline.config.evaluation import EvaluationConfig
    from nuclass_pipeline.records import read_recorded

    try:
        return EvaluationConfig.model_validate((read_recorded(folder) or {}).get("evaluation", {}))
    except ValidationError:
        raise UserError(folder, "evaluation", "the section of its run file cannot be read", "Start the run again.") from None


def _differing(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return the keys of nested objects whose values differ; none where one of the two is missing."""
    from nuclass_pipeline.config.base import flatten

    if first is None or second is None:
        return []
    one, other = ({key: _text(value) for key, value in flatten(section)} for section in (first, second))
    # Without the variants, because the scores compared are those of the runs as written.
    keys = [
        key for key in dict.fromkeys((*one, *other)) if key != "run" and not key.startswith("variants.") and one.get(key) != other.get(key)
    ]
    return [{"key": key, "first": one.get(key, _ABSENT), "second": other.get(key, _ABSENT)} for key in keys]


def _made_by(folder: Path) -> dict[str, Any] | None:
    """Return what the manifest of a run holds about code, libraries and inputs."""
    from nuclass_pipeline.io import read_json
    from nuclass_pipeline.layout import RESULTS

    if not (path := folder / RESULTS["manifest"].path).is_file():
        return None
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("inputs", {}), dict):
        raise UserError(path, "file", "it is not the record of a run", "Start the run again, which writes it.")
    kept = {key: manifest[key] for key in ("nuclass_pipeline", "commit", "python", "platform", "libraries") if key in manifest}
    return kept | {f"content of {name}": str(digest)[:_SHOWN_HASH] for name, digest in manifest.get("inputs", {}).items()}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else _ABSENT if value is None else str(value)


def _warnings(folder: Path, slides: Sequence[str]) -> list[dict[str, Any]] | None:
    from nuclass_pipeline.layout import RESULTS
    from nuclass_pipeline.report.warnings import group_warnings

    path = folder / RESULTS["warnings"].path
    return group_warnings(path, slides) if path.is_file() else None


def _table(names: Sequence[str], scores: "pd.DataFrame") -> Table:
    from nuclass_pipeline.report.compare import count_differing, differs, signed
    from nuclass_pipeline.tables.layout import printed

    title = f"{names[1]} minus {names[0]} on the cells of both"
    caption = f"* its 95 % interval leaves out zero. {count_differing(scores)}"
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("slide", "model", f"macro-F1 {names[0]}", names[1], "difference", "of accuracy", "of ECE"):
        table.add_column(column, justify="left" if column in ("slide", "model") else "right", no_wrap=column == "slide")
    for (slide, model), part in scores.groupby(["slide", "model"], sort=False):
        rows: dict[str, Any] = {str(row.metric): row for row in part.itertuples()}
        changes = [f"{signed(row.difference)}{' *' if differs(row) else '  '}" for row in rows.values()]
        table.add_row(str(slide), str(model), printed(rows["macro_f1"].first), printed(rows["macro_f1"].second), *changes)
    return table
