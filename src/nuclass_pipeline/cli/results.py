"""`nuclass summary` and `nuclass export-trio`: what a run made."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nuclass_pipeline.cli.common import console


def summary(results: Annotated[Path, typer.Argument(help="results folder of a run, such as results/demo")]) -> None:
    """Print the held-out scores of a run, or the labels where it only labels, its warnings, and the path of its report."""
    from nuclass_pipeline.io import read_yaml
    from nuclass_pipeline.layout import RESULTS
    from nuclass_pipeline.results import open_run
    from nuclass_pipeline.tables.summary import label_lines, summary_lines, warning_lines

    run, run_file = open_run(results), results / RESULTS["run_file"].path
    if run_file.is_file() and not read_yaml(run_file)["study"]["heldout"]:
        for slide in run.slides:
            console.print(slide, label_lines(run.path("labels", slide=slide)), "")
    else:
        console.print(summary_lines(run.path("heldout_metrics")))
    for line in warning_lines(run.warnings()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {results / 'report.html'}")


def export_trio(
    slide: Annotated[Path, typer.Argument(help="folder of a slide, such as results/demo/slides/demo-lung-1")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
) -> None:
    """Write a slide's annotations and patches as copies that need no other file, such as image.h5."""
    from rich.progress import track

    from nuclass_pipeline.data.trio.export import export_trio as export

    export(slide, out, lambda rows, name: track(rows, name, console=Console(stderr=True)))
    console.print(out)
