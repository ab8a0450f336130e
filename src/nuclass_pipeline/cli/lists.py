"""`nuclass backbones` and `nuclass docs`: what the code knows about itself."""

from pathlib import Path
from typing import Annotated

import typer

from nuclass_pipeline.cli.common import console


def backbones() -> None:
    """List the image encoders in the registry."""
    from nuclass_pipeline.config.backbones.section import describe_backbones

    for row in describe_backbones():
        console.print(row.pop("name"), style="bold")
        for key, value in row.items():
            console.print(f"  {key:9} {value}".rstrip(), soft_wrap=True, highlight=False)


def docs(
    root: Annotated[Path, typer.Option(help="folder of the project")] = Path(),
) -> None:
    """Write the pages that are generated from the code: configuration, outputs, backbones, and the schema for editors."""
    from nuclass_pipeline.generated_docs import pages
    from nuclass_pipeline.io import require

    for needed in ("config", "docs/backbones.md", "docs/data.md", "tests/expected"):
        require(root / needed, "Name the folder of the project, which holds config, docs and tests.")
    for path, text in pages(root).items():
        (root / path).write_text(text)
        console.print(path)
