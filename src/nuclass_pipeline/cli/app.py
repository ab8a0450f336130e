"""`nuclass`: checks, lists and single steps outside the workflow."""

from typing import Annotated

import typer

from nuclass_pipeline.cli.check import check
from nuclass_pipeline.cli.compare import compare
from nuclass_pipeline.cli.doctor import doctor
from nuclass_pipeline.cli.imports import import_holdouts, import_points
from nuclass_pipeline.cli.label import label
from nuclass_pipeline.cli.labels import build_markers, score_labels
from nuclass_pipeline.cli.lists import backbones, docs
from nuclass_pipeline.cli.plan.command import plan
from nuclass_pipeline.cli.results import export_trio, summary

COMMANDS = (
    doctor,
    check,
    plan,
    label,
    backbones,
    summary,
    compare,
    score_labels,
    build_markers,
    import_points,
    import_holdouts,
    export_trio,
    docs,
)

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    from nuclass_pipeline.provenance import describe_version

    if wanted:
        print(f"nuclass {describe_version()}")
        raise typer.Exit


@app.callback(help=__doc__)
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print version and commit")] = False,
) -> None:
    """Read the options that stand before a command."""
