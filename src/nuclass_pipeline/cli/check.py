"""`nuclass check`: a Xenium bundle and its H&E before a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from nuclass_pipeline.cli.common import console, known_organ, shipped_table

VERDICT_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


def check(
    bundle: Annotated[Path, typer.Argument(help="folder of the Xenium output")],
    image: Annotated[Path | None, typer.Option(help="H&E: OME-TIFF, TIFF or SVS")] = None,
    alignment: Annotated[Path | None, typer.Option(help="*_he_imagealignment.csv; without it the H&E is in Xenium pixels")] = None,
    organ: Annotated[str | None, typer.Option(help="organ of the tissue, to count its markers on the panel")] = None,
    overlay: Annotated[Path | None, typer.Option(help="PNG of the cells on the H&E to write")] = None,
    markers: Annotated[Path | None, typer.Option(help="marker table, if not that of the pipeline")] = None,
) -> None:
    """Check a Xenium bundle and its H&E; exit code 1 if there is a problem."""
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.config.image import RegistrationConfig
    from nuclass_pipeline.data.check import check_bundle

    known = None if organ is None else _genes_for_types(known_organ(organ), markers or shipped_table("markers.tsv"))
    findings = check_bundle(
        bundle=bundle,
        image=image,
        alignment=alignment,
        markers=known,
        overlay=overlay,
        config=RegistrationConfig(),
        min_transcripts=ClusteringConfig().min_transcripts,
    )
    table = Table("what", "found", "verdict", box=None)
    for finding in findings:
        table.add_row(finding.what, Text(finding.found), Text(finding.verdict, VERDICT_STYLES[finding.verdict]))
    console.print(table)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


def _genes_for_types(organ: str, path: Path) -> dict[str, set[str]]:
    from nuclass_pipeline.knowledge.markers import admissible, read_markers

    weighted = [marker for marker in read_markers(path) if marker.weight > 0 and organ in marker.organs]
    return {name: {marker.gene for marker in weighted if marker.type == name} for name in admissible(organ)}
