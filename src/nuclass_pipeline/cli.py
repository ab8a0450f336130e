"""`nuclass`: checks, lists and single steps outside the workflow."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import ORGANS

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
VERDICT_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@app.command()
def doctor() -> None:
    """Report what this machine has: Python, torch, device, threads, disk, weights."""
    table = Table("what", "found", box=None)
    for name, found in _findings():
        table.add_row(name, found)
    console.print(table)


def _findings() -> list[tuple[str, str]]:
    import torch

    from nuclass_pipeline.config.models import WEIGHTS, describe_backbones

    gated = [row["name"] for row in describe_backbones() if row["download"]]
    cuda = torch.cuda.is_available()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return [
        ("python", platform.python_version()),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"),
        ("torchvision", importlib.metadata.version("torchvision")),
        ("device", torch.cuda.get_device_name() if cuda else "CPU"),
        ("threads", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}, OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}"),
        ("disk", f"{free:.0f} GB free here"),
        ("snakemake", importlib.metadata.version("snakemake")),
        *((f"weights {name}", str(WEIGHTS / name) if (WEIGHTS / name).is_dir() else f"absent ({WEIGHTS / name})") for name in gated),
    ]


@app.command()
def check(
    bundle: Annotated[Path, typer.Argument(help="folder of the Xenium output")],
    image: Annotated[Path | None, typer.Option(help="H&E: OME-TIFF, TIFF or SVS")] = None,
    alignment: Annotated[Path | None, typer.Option(help="*_he_imagealignment.csv; without it the H&E is in Xenium pixels")] = None,
    organ: Annotated[str | None, typer.Option(help="organ of the tissue, to count its markers on the panel")] = None,
    overlay: Annotated[Path | None, typer.Option(help="PNG of the cells on the H&E to write")] = None,
    markers: Annotated[Path, typer.Option(help="marker table")] = Path("config/markers.tsv"),
) -> None:
    """Check a Xenium bundle and its H&E; exit code 1 if there is a problem."""
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.config.image import RegistrationConfig
    from nuclass_pipeline.data.check import check_bundle

    known = None if organ is None else _genes_for_types(_known_organ(organ), markers)
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


def _known_organ(organ: str) -> str:
    if organ not in ORGANS:
        raise UserError("nuclass", "--organ", f"{organ!r} is not a known organ", f"Use one of {', '.join(ORGANS)}.")
    return organ


def _genes_for_types(organ: str, path: Path) -> dict[str, set[str]]:
    from nuclass_pipeline.knowledge.markers import admissible, read_markers

    speaking = [marker for marker in read_markers(path) if marker.weight > 0 and organ in marker.organs]
    return {name: {marker.gene for marker in speaking if marker.type == name} for name in admissible(organ)}


@app.command()
def backbones() -> None:
    """List the image encoders in the registry."""
    from nuclass_pipeline.config.models import describe_backbones

    for row in describe_backbones():
        console.print(f"[bold]{row.pop('name')}[/bold]")
        for key, value in row.items():
            console.print(f"  {key:9} {value}", soft_wrap=True, highlight=False)


@app.command()
def summary(results: Annotated[Path, typer.Argument(help="results folder of a run, such as results/demo")]) -> None:
    """Print the held-out scores of a run, its warnings, and the path of its report."""
    from nuclass_pipeline.results import open_run
    from nuclass_pipeline.tables.summary import summary_lines, warning_lines

    run = open_run(results)
    console.print(summary_lines(run.path("heldout_metrics")))
    for line in warning_lines(run.warnings()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {results / 'report.html'}")


@app.command()
def score_labels(
    counts: Annotated[Path, typer.Option(help="CSV: cell_id, and a column of raw counts per gene")],
    cells: Annotated[Path, typer.Option(help="CSV: cell_id, label")],
    lineages: Annotated[Path, typer.Option(help="tab-separated: label, lineage; labels without lineage are not scored")],
    organ: Annotated[str, typer.Option(help="organ of the tissue")],
    json: Annotated[Path | None, typer.Option(help="where to write the scores")] = None,
    markers: Annotated[Path, typer.Option(help="marker table")] = Path("config/markers.tsv"),
    seed: Annotated[int, typer.Option(help="seed of the principal components and of the simulated doublets")] = 0,
) -> None:
    """Label published cells by the shipped defaults and compare with their labels, lineage by lineage."""
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.config.labeling import LabelingConfig
    from nuclass_pipeline.io import write_json
    from nuclass_pipeline.labeling.published import score_counts

    clustering, labeling = ClusteringConfig(seed=seed), LabelingConfig(seed=seed)
    scores = score_counts(
        counts=counts, cells=cells, lineages=lineages, organ=organ, knowledge=markers, clustering=clustering, labeling=labeling
    )
    table = Table("score", "value", box=None)
    for name, value in scores.items():
        for key, single in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(f"{name} {key}".strip(), f"{single:.3f}" if isinstance(single, float) else str(single))
    console.print(table)
    if json:
        write_json(scores, json)


@app.command()
def build_markers(
    organ: Annotated[str, typer.Option(help="organ of the tissue")],
    output: Annotated[Path, typer.Option(help="marker table to write, for labeling.markers of a run file")],
    panglao: Annotated[Path | None, typer.Option(help="PanglaoDB_markers_*.tsv.gz")] = None,
    cellmarker: Annotated[Path | None, typer.Option(help="Cell_marker_Human.xlsx, or the same as CSV")] = None,
    panel: Annotated[list[Path] | None, typer.Option(help="10x panel list with annotations; may be repeated")] = None,
    hgnc: Annotated[Path | None, typer.Option(help="hgnc_complete_set.txt: previous and alias symbols")] = None,
    own: Annotated[Path, typer.Option(help="marker table to start from")] = Path("config/markers.tsv"),
) -> None:
    """Join the marker table with sources that you have downloaded; their licences apply to the result."""
    from nuclass_pipeline.knowledge.sources.build import build_markers as build

    build(own=own, organ=_known_organ(organ), output=output, panglao=panglao, cellmarker=cellmarker, panels=panel or (), hgnc=hgnc)
    console.print(output)


@app.command()
def export_trio(
    slide: Annotated[Path, typer.Argument(help="folder of a slide, such as results/demo/slides/demo-lung-1")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
) -> None:
    """Write a slide's annotations and patches as copies that need no other file, such as image.h5."""
    from rich.progress import track

    from nuclass_pipeline.data.image.trio_export import export_trio as export

    export(slide, out, lambda rows, name: track(rows, name, console=Console(stderr=True)))
    console.print(out)


@app.command()
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


def main() -> None:
    """Run the command line; a `UserError` is printed as one line."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", soft_wrap=True, highlight=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
