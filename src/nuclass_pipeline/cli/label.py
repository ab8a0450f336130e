"""`nuclass label`: the labels of one Xenium bundle, without a run file, an H&E or a model."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from rich.console import Console

from nuclass_pipeline.cli.console import known_organ, shipped_table
from nuclass_pipeline.errors import UserError

SETTINGS, LOG, LOCK = "label.json", "label.log", ".lock"
"""Files in the folder of a call: its arguments, what the stages log, and what `claim` leaves."""
MADE = (
    *("cells", "counts", "clusters", "clustering", "markers", "gene_scores", "domains", "domain_scores", "labels", "proposals"),
    *("label_report", "label_report_png", "labels_csv", "labels_h5ad"),
)
"""Results, by their names in docs/outputs.md."""


def label(
    bundle: Annotated[Path, typer.Argument(help="folder of the Xenium output, or an archive of it")],
    organ: Annotated[str, typer.Option(help="organ of the tissue")],
    out: Annotated[Path, typer.Option(help="folder to write: a new or empty one, or that of an earlier call for this bundle")],
    markers: Annotated[Path | None, typer.Option(help="marker table, if not that of the pipeline")] = None,
    annotation: Annotated[Path | None, typer.Option(help="edits of clusters (.tsv), or labels of cells (.csv)")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of clusters, domains and simulated doublets")] = 0,
) -> None:
    """Label the cells of a Xenium bundle from their transcripts; no H&E is needed and no model is trained."""
    from nuclass_pipeline.io import require_file

    known_organ(organ)
    _check_bundle(bundle)
    table = require_file(markers or shipped_table("markers.tsv"))
    if annotation is not None and require_file(annotation).suffix not in {".tsv", ".csv"}:
        raise UserError(
            annotation, "name", "it ends with neither .tsv nor .csv", "Save edits of clusters as .tsv, labels of cells as .csv."
        )
    arguments = {"bundle": bundle, "organ": organ, "markers": table, "annotation": annotation, "seed": seed}
    # Of this stdout, because that of the stages goes to the log.
    screen = Console(file=sys.stdout, highlight=False)
    with _own_folder(out, bundle, arguments), _log(out / LOG):
        files = _run(screen, out, arguments)
    _report(screen, files)


def _check_bundle(bundle: Path) -> None:
    from nuclass_pipeline.config.slides import ARCHIVES

    if bundle.is_dir():
        problem = "" if (bundle / "experiment.xenium").is_file() else "holds no experiment.xenium"
    elif bundle.is_file():
        problem = "" if bundle.name.lower().endswith(ARCHIVES) else f"is a file, and not an archive ({', '.join(ARCHIVES)})"
    else:
        problem = "does not exist"
    if problem:
        raise UserError(bundle, "bundle", problem, "Name the folder that holds experiment.xenium, or an archive of it.")


@contextmanager
def _own_folder(out: Path, bundle: Path, arguments: dict[str, Any]) -> Iterator[None]:
    """Reserve the folder of the results; an error leaves nothing in it, unless an earlier call has filled it."""
    from nuclass_pipeline.io import read_json, write_json
    from nuclass_pipeline.runtime import claim

    existed, mark, source = out.exists(), out / SETTINGS, str(bundle.resolve())
    if existed and not out.is_dir():
        raise UserError(out, "--out", "it is a file", "Name a folder.")
    again = mark.is_file()
    if again and (earlier := read_json(mark).get("bundle")) != source:
        raise UserError(out, "--out", f"it holds the labels of another bundle, {earlier}", "Name another folder.")
    if existed and not again and any(path.name != LOCK for path in out.iterdir()):
        raise UserError(out, "--out", "it is not empty, and not from an earlier call of `nuclass label`", "Name another folder.")
    claim(out)
    kept = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    write_json(kept | {"bundle": source}, mark)
    try:
        yield
    except UserError:
        if not again:
            _empty(out)
            if not existed:
                out.rmdir()
        raise


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)


@contextmanager
def _log(path: Path) -> Iterator[None]:
    # Also what libraries print, because it would come between the steps on the screen.
    with path.open("w", buffering=1, encoding="utf-8") as stream, redirect_stdout(stream), redirect_stderr(stream):
        handler, root = logging.StreamHandler(stream), logging.getLogger()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger("fontTools").setLevel(logging.WARNING)  # It logs every glyph of every PDF.
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            yield
        finally:
            root.removeHandler(handler)


def _run(screen: Console, out: Path, arguments: dict[str, Any]) -> dict[str, Path]:
    from nuclass_pipeline.layout import RESULTS

    files = {name: out / PurePosixPath(RESULTS[name].path).name for name in MADE}
    begun = time.monotonic()
    with _step(screen, "loading the libraries"):
        from nuclass_pipeline.cli.label_steps import STEPS, Task
        from nuclass_pipeline.runtime import limit_threads

        # One thread, as the rules have, because sums over several differ in their last digits.
        limit_threads(1)
    task = Task(slide=out.resolve().name, files=files, **arguments)
    for text, step in STEPS:
        with _step(screen, text):
            step(task)
    screen.print(f"{'in all':<32} {time.monotonic() - begun:6.1f} s")
    return files


@contextmanager
def _step(screen: Console, text: str) -> Iterator[None]:
    begun = time.monotonic()
    with screen.status(text):
        yield
    screen.print(f"{text:<32} {time.monotonic() - begun:6.1f} s")


def _report(screen: Console, files: dict[str, Path]) -> None:
    from nuclass_pipeline.io import read_warnings
    from nuclass_pipeline.tables.summary import label_lines

    screen.print("", label_lines(files["labels"]))
    warnings = [f"warning: {name}: {text}" for name in ("cells", "labels") for text in read_warnings(files[name])]
    for line in warnings or ["No warnings."]:
        screen.print(line, soft_wrap=True, markup=False)
    shown = ", ".join(files[name].name for name in ("label_report_png", "labels_csv", "labels_h5ad", "proposals"))
    screen.print(f"files: {files['labels'].parent}: {shown}, …", soft_wrap=True)
    screen.print("next: look at label_report.png; docs/labels.md has what the columns mean, and how to correct labels", soft_wrap=True)
