"""`nuclass`: checks, lists and single steps outside the workflow."""

import typer
from rich.console import Console

from nuclass_pipeline.cli.check import check
from nuclass_pipeline.cli.doctor import doctor
from nuclass_pipeline.cli.labels import build_markers, score_labels
from nuclass_pipeline.cli.lists import backbones, docs
from nuclass_pipeline.cli.results import export_trio, summary
from nuclass_pipeline.errors import UserError

COMMANDS = (doctor, check, backbones, summary, score_labels, build_markers, export_trio, docs)

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; a `UserError` is printed as one line."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", soft_wrap=True, highlight=False)
        raise SystemExit(1) from None
