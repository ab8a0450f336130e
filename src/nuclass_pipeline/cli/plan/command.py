"""`nuclass plan`: the command and its table."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from nuclass_pipeline.cli.common import console

if TYPE_CHECKING:
    from nuclass_pipeline.cli.plan.costs import JobCost
    from nuclass_pipeline.config.run import Run

_COLUMNS = ("rule", "jobs", "memory, GB", "CPU h", "GPU h", "disk, GB")
_SOURCES = {"results": "their results", "bundle": "their files", "sheet": "the slide sheet", "run file": "the run file"}
"""What says how many cells a slide has, in words."""
_SHOWN = 3
"""Slides that a line names."""


def plan(
    configfile: Annotated[list[Path], typer.Option(help="run file; several are merged, as Snakemake merges them")],
    target: Annotated[list[str] | None, typer.Argument(help="targets, as for Snakemake; all if left out")] = None,
) -> None:
    """Print the jobs that a run has left, with memory, hours and disk, before anything is downloaded or run."""
    from nuclass_pipeline.cli.plan.costs import cost_of
    from nuclass_pipeline.cli.plan.jobs import plan_jobs

    run, jobs = plan_jobs(configfile, target or [])
    if not jobs:
        console.print("nothing to be done")
        return
    costs: dict[str, list[JobCost]] = defaultdict(list)
    for job in jobs:
        costs[job.rule].append(cost_of(run, job))
    console.print(_table(run.config.run, costs))
    for line in _notes(run):
        console.print(line, soft_wrap=True, highlight=False)


def _table(name: str, costs: "dict[str, list[JobCost]]") -> Table:
    table = Table(title=f"run {name}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "rule" else "right", no_wrap=True)
    for rule, found in costs.items():
        table.add_row(rule, *_cells(found))
    table.add_section()
    everything = [cost for found in costs.values() for cost in found]
    table.add_row("total", *_cells(everything))
    return table


def _cells(costs: "list[JobCost]") -> Iterator[str]:
    yield str(len(costs))
    yield _number(max(cost.mem_mb for cost in costs) / 1000)
    for values in ([cost.cpu_hours for cost in costs], [cost.gpu_hours for cost in costs], [cost.disk_mb / 1000 for cost in costs]):
        yield _number(sum(values))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.05 else "<0.1" if value else ""


def _notes(run: "Run") -> Iterator[str]:
    from nuclass_pipeline.config.memory.formulas import REQUESTED_SHARE
    from nuclass_pipeline.config.memory.sizes import ASSUMED_CELLS

    sizes = {name: run.size(name) for name in run.slides}
    assumed = [name for name, size in sizes.items() if size.source == "assumed"]
    if assumed:
        rest = f" and {len(assumed) - _SHOWN} more" if len(assumed) > _SHOWN else ""
        named = ", ".join(assumed[:_SHOWN])
        yield f"unknown: {ASSUMED_CELLS:,} cells assumed for {named}{rest}; the column cells of {run.config.slides} can say how many"
    known = [name for name in sizes if name not in assumed]
    if known:
        plural = "s" if len(known) > 1 else ""
        yield f"cells: {sum(sizes[name].cells for name in known):,} on {len(known)} slide{plural}, by {_sources(run, known)}"
    yield f"memory: largest job, as requested: {REQUESTED_SHARE - 1:.0%} above the peak that the formulas of docs/sizes.md give"
    yield "hours: rough, of one core or one GPU; trainings with all epochs. disk: rough. Jobs that are done are left out."


def _sources(run: "Run", names: list[str]) -> str:
    return ", ".join(dict.fromkeys(_SOURCES[run.size(name).source] for name in names))
