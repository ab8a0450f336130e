"""Whether a run may use the slides of another: both must agree in everything that the products of slides depend on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nuclass_pipeline.config.base import flatten
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.config.slides import read_slides
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.records import read_started

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

SHARED_KEYS = (
    "labels",
    "synthetic",
    "image",
    "registration",
    "segmentation",
    "clustering",
    "domains",
    "programs",
    "labeling",
    "proposals",
    "split",
)
"""Keys of a run file on which the products of slides depend; of `study` it is the classes, and the role of each slide."""
_NOTES = {"release", "cells", "label_source", "note"}
"""Columns of the slide sheet on which no result depends."""
_AGREE = "or remove slides_from"


def check_slides_from(run: "Run") -> None:
    """Check that the run under `slides_from` makes the slides of this one as this one would."""
    if run.config.slides_run == run.config.run:
        if run.config.slides_from:
            raise run.error("slides_from", f"{run.config.slides_run} is this run itself", "Name another run, or remove the key.")
        return
    if not Path("results", run.config.slides_run).is_dir() and Path("results", run.config.run, "metrics").is_dir():
        return  # An archive of a run redraws its figures from metrics/ and predictions/.
    other = _read_other(run)
    _compare_slides(run, other)
    _compare_keys(run, other)


def _read_other(run: "Run") -> "Run":
    name, folder = run.config.slides_run, Path("results", run.config.slides_run)
    if (raw := read_started(folder)) is None:
        beside = [path.name for path in Path("results").iterdir() if path.is_dir()] if Path("results").is_dir() else []
        found = similar(name, beside) if not folder.is_dir() else ""
        remedy = f"Start that run first (`snakemake --cores 2 slides --configfile` with its run file), {_AGREE}."
        raise run.error("slides_from", f"no run {name} has been started here{found}", remedy)
    try:
        config = Config.model_validate(raw)
    except ValidationError:
        problem = "this version of the program cannot read the run file with which it was started"
        raise UserError(folder, "run file", problem, f"Start run {name} again, {_AGREE} in run {run.config.run}.") from None
    if config.slides_from:
        problem = f"{name} itself uses the slides of run {config.slides_from}"
        raise run.error("slides_from", problem, f"Name {config.slides_from}, or remove the key.")
    if not Path(config.slides).is_file():
        problem = f"run {name} was started with the slide sheet {config.slides}, which does not exist"
        raise run.error("slides_from", problem, f"Put it back, start run {name} again with its sheet, {_AGREE}.")
    return type(run)(config, read_slides(Path(config.slides)), {f"run {name}": raw}, run.folder)


def _compare_slides(run: "Run", other: "Run") -> None:
    """Check that the other run has each slide of this one, in the same role and with the same files."""
    for name, slide in run.slides.items():
        field, there = f"study.{run.role(name)}", f"in run {other.config.run}"
        if name not in other.slides:
            raise run.error(field, f"slide {name} is not {there}, whose slides this run uses", f"List it there too, {_AGREE}.")
        if (role := other.role(name)) != run.role(name):
            raise run.error(field, f"slide {name} is listed here, and under study.{role} {there}", f"List it in one role, {_AGREE}.")
        rows = [each.model_dump(exclude=_NOTES) | each.shown_urls for each in (slide, other.slides[name])]
        if column := next((column for column in rows[0] if rows[0][column] != rows[1][column]), None):
            problem = f"{_shown(rows[0][column])} here, and {_shown(rows[1][column])} {there} ({other.config.slides})"
            raise UserError(run.config.slides, f"{name}, {column}", problem, f"Give both the same value, {_AGREE}.")


def _compare_keys(run: "Run", other: "Run") -> None:
    here, there = (dict(flatten(_settings(each, list(run.slides)))) for each in (run, other))
    for key in dict.fromkeys((*here, *there)):
        if here.get(key) != there.get(key):
            problem = f"{_shown(here.get(key))} here, and {_shown(there.get(key))} in run {other.config.run}, whose slides this run uses"
            raise run.error(key, problem, f"Give both the same value, {_AGREE}.")


def _settings(run: "Run", slides: list[str]) -> dict[str, Any]:
    """Return what the products of these slides depend on."""
    checked = run.checked
    kept = {"study": {"classes": checked["study"]["classes"]}, **{key: checked[key] for key in SHARED_KEYS}}
    seeds = {name: seed for name, seed in checked["synthetic"]["seeds"].items() if name in slides}
    accepted = [name for name in slides if name in checked["registration"]["accept_unclear"]]
    return kept | {
        "synthetic": checked["synthetic"] | {"seeds": seeds},
        "registration": checked["registration"] | {"accept_unclear": accepted},
    }


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "", []) else f"{', '.join(map(str, value)) if isinstance(value, list) else value}"
