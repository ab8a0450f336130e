"""`nuclass label`: the labels of the cells of one slide, without a run file, an H&E or a model."""

import logging
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from rich.console import Console

from nuclass_pipeline.cli.common import REFERENCE_CSV, REFERENCE_JSON, is_bundle, known_organ, recorded_signals, run_apart, shipped_table
from nuclass_pipeline.errors import UserError

SETTINGS, LOG, LOCK, UNFINISHED = "label.json", "label.log", ".lock", ".unfinished"
"""In the folder of a call: its arguments, what the stages log, what `claim` leaves, and the folder of results until all are made."""
MADE = (
    *("cells", "counts", "clusters", "clustering", "markers", "gene_scores", "domains", "domain_scores", "labels", "proposals"),
    *("label_report", "label_report_png", "labels_csv", "labels_h5ad"),
)
"""Results, by their names in docs/outputs.md."""


SOURCE_HELP = "Xenium output (folder or archive), .h5ad, 10x matrix (folder or .h5), CSV of counts, or folder of CosMx or MERSCOPE tables"
ANNOTATION_HELP = "edits of clusters (.tsv), or labels of cells (.csv, .h5ad), maybe with a column: FILE::COLUMN"

REFERENCE_HELP = "labelled AnnData file to compare the labels with, maybe with a column: FILE::COLUMN; no label depends on it"


def label(
    source: Annotated[Path, typer.Argument(help=SOURCE_HELP)],
    organ: Annotated[str, typer.Option(help="organ of the tissue")],
    out: Annotated[Path, typer.Option(help="folder to write: a new or empty one, or that of an earlier call for this input")],
    markers: Annotated[Path | None, typer.Option(help="marker table, if not that of the pipeline")] = None,
    annotation: Annotated[str | None, typer.Option(help=ANNOTATION_HELP)] = None,
    names: Annotated[Path | None, typer.Option(help="what the names of these labels mean, if not the .names.tsv beside them")] = None,
    clusters: Annotated[str | None, typer.Option(help="clusters of your own: a table, maybe with a column: FILE::COLUMN")] = None,
    cells: Annotated[Path | None, typer.Option(help="table of cells with coordinates, for inputs without them")] = None,
    reference: Annotated[str | None, typer.Option(help=REFERENCE_HELP)] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of clusters, domains and simulated doublets")] = 0,
) -> None:
    """Label the cells of a slide from their transcripts; no H&E is needed and no model is trained."""
    # Of this stdout, because that of the stages goes to the log.
    screen = Console(file=sys.stdout, highlight=False, markup=False)
    with recorded_signals() as received:
        by_hand = _check_by_hand(annotation, names, clusters) | _check_reference(reference)
        arguments = _check_input(source, organ, markers, cells) | by_hand | {"seed": seed}
        try:
            with _own_folder(out, source, arguments) as unfinished:
                _run(screen, _work(unfinished, out.resolve().name, arguments), received)
        except KeyboardInterrupt as stopped:
            screen.print("stopped; what an earlier call has made is kept, and the same command begins again", soft_wrap=True)
            raise typer.Exit(128 + next(iter(stopped.args), signal.SIGINT)) from None
        _report(screen, _results(out))


def _check_input(source: Path, organ: str, markers: Path | None, places: Path | None) -> dict[str, Any]:
    from nuclass_pipeline.data.tables.stage import reader_of
    from nuclass_pipeline.io import require_file

    known_organ(organ)
    if not source.exists():
        raise UserError(source, "input", "does not exist", "Name a Xenium bundle, or a table of counts.")
    if not is_bundle(source):
        reader_of(source)
    elif places is not None:
        raise UserError(places, "--cells", "a Xenium bundle has coordinates of its own", "Leave this option out.")
    table = require_file(markers or shipped_table("markers.tsv"))
    return {"source": source, "organ": organ, "markers": table, "places": places and require_file(places)}


def _check_by_hand(annotation: str | None, names: Path | None, clusters: str | None) -> dict[str, Any]:
    from nuclass_pipeline.expression.given_clusters import CLUSTER_COLUMNS
    from nuclass_pipeline.io import require_file
    from nuclass_pipeline.io.cell_columns import columns_of, find_cell_columns

    labels, label_column = _check_annotation(annotation)
    own, cluster_column = _table_and_column(clusters)
    if names is not None and (labels is None or labels.suffix == ".tsv"):
        raise UserError(names, "--names", "there are no labels whose names it would explain", "Name them too: --annotation FILE.csv.")
    if own is not None:
        find_cell_columns(own, columns_of(own), CLUSTER_COLUMNS, cluster_column)
    by_hand = {"annotation": labels, "label_column": label_column, "names": names and require_file(names)}
    return by_hand | {"clusters": own, "cluster_column": cluster_column}


def _check_reference(reference: str | None) -> dict[str, Any]:
    from nuclass_pipeline.io.cell_columns import H5AD, columns_of
    from nuclass_pipeline.labeling.hand_made import find_label_columns

    path, column = _table_and_column(reference)
    if path is not None and path.suffix != H5AD:
        raise UserError(path, "--reference", "it is no .h5ad file", "Save counts and labels of the reference with AnnData.write_h5ad.")
    if path is not None:
        find_label_columns(path, columns_of(path), column)
    return {"reference": path, "reference_column": column}


def _table_and_column(given: str | Path | None) -> tuple[Path | None, str | None]:
    from nuclass_pipeline.io import require_file, split_column

    if given is None:
        return None, None
    path, column = split_column(str(given))
    return require_file(path), column


def _check_annotation(annotation: str | None) -> tuple[Path | None, str | None]:
    """Return the path and column of a person's labels; rows of text are read, of an AnnData file the columns."""
    from nuclass_pipeline.io.cell_columns import H5AD, columns_of
    from nuclass_pipeline.labeling.hand_made import find_label_columns, read_edit_rows, read_label_rows

    path, column = _table_and_column(annotation)
    if path is None:
        return None, None
    if path.suffix not in {".tsv", ".csv", H5AD}:
        remedy = "Save edits of clusters as .tsv, labels of cells as .csv."
        raise UserError(path, "name", "it ends with none of .tsv, .csv and .h5ad", remedy)
    if path.suffix == ".tsv":
        read_edit_rows(path)
    elif path.suffix == H5AD:
        find_label_columns(path, columns_of(path), column)
    else:
        read_label_rows(path, column)
    return path, column


@contextmanager
def _own_folder(out: Path, given: Path, arguments: dict[str, Any]) -> Iterator[Path]:
    """Reserve the folder of the results, and yield one inside it.

    Its files replace those of an earlier call when the block succeeds; otherwise the folder is as before.
    """
    from nuclass_pipeline.io import write_json
    from nuclass_pipeline.runtime import claim

    existed, source, unfinished = out.exists(), str(given.resolve()), out / UNFINISHED
    _check_folder(out, source)
    claim(out)
    if (unfinished / SETTINGS).is_file():
        _move(unfinished, out)
    _remove(unfinished)
    unfinished.mkdir()
    try:
        yield unfinished
        _remove_others(unfinished, out)
        kept = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
        write_json(kept | {"source": source}, unfinished / SETTINGS)
    except BaseException:  # Not Exception, because Ctrl-C is none.
        _remove(unfinished)
        if not (out / SETTINGS).exists():
            (out / LOCK).unlink(missing_ok=True)
            if not existed and not any(out.iterdir()):
                out.rmdir()
        raise
    _move(unfinished, out)


def _source_of(settings: Path) -> str:
    """Return the input of the call that wrote a folder."""
    from nuclass_pipeline.io import read_json

    try:
        return str(read_json(settings)["source"])
    except (UserError, KeyError, TypeError):
        raise UserError(
            settings, "file", "it does not name the input of an earlier call", "Name another folder, or empty this one."
        ) from None


def _check_folder(out: Path, source: str) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(out, "--out", "it is a file", "Name a folder.")
    marks = [mark for mark in (out / SETTINGS, out / UNFINISHED / SETTINGS) if mark.is_file()]
    if marks and (earlier := _source_of(marks[0])) != source:
        raise UserError(out, "--out", f"it holds the labels of another input, {earlier}", "Name another folder.")
    if out.exists() and not marks and any(path.name not in {LOCK, UNFINISHED} for path in out.iterdir()):
        raise UserError(out, "--out", "it is not empty, and not from an earlier call of `nuclass label`", "Name another folder.")


def _move(unfinished: Path, out: Path) -> None:
    """Move the results of a whole call to their place; the next call goes on where this is interrupted."""
    # The settings last, because they mark a folder whose files are all of one call.
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == SETTINGS):
        path.replace(out / path.name)
    unfinished.rmdir()


def _remove_others(unfinished: Path, out: Path) -> None:
    """Remove results of an earlier call that this one has not made, such as those about a reference."""
    # Before the settings are written, because a move that goes on cannot distinguish them from files that it has moved.
    for path in [*_results(out).values(), out / REFERENCE_CSV, out / REFERENCE_JSON]:
        if not (unfinished / path.name).exists():
            path.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _log(path: Path) -> Iterator[None]:
    from nuclass_pipeline.runtime import printed_to

    # Also what libraries print, because it would come between the steps on the screen.
    with path.open("w", buffering=1, encoding="utf-8") as stream, printed_to(stream):
        handler, root = logging.StreamHandler(stream), logging.getLogger()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger("fontTools").setLevel(logging.WARNING)  # It logs every glyph of every PDF.
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            yield
        finally:
            root.removeHandler(handler)


def _results(folder: Path) -> dict[str, Path]:
    from nuclass_pipeline.layout import RESULTS

    return {name: folder / PurePosixPath(RESULTS[name].path).name for name in MADE}


def _work(unfinished: Path, slide: str, arguments: dict[str, Any]) -> Callable[[Callable[[str], None]], None]:
    """Return the whole work, which reports the name of each step as it begins."""

    def work(report: Callable[[str], None]) -> None:
        report("loading the libraries")
        with _log(unfinished / LOG):
            from nuclass_pipeline.cli.label_steps import STEPS, Task
            from nuclass_pipeline.runtime import limit_threads

            # One thread, as the rules have, because sums over several differ in their last digits.
            limit_threads(1)
            task = Task(slide=slide, files=_results(unfinished), **arguments)
            for text, step in STEPS:
                report(text)
                step(task)

    return work


def _run(screen: Console, work: Callable[[Callable[[str], None]], None], received: list[int]) -> None:
    begun, steps = time.monotonic(), run_apart(work, received)
    text = next(steps)
    while text:
        with _step(screen, text):
            text = next(steps, "")
    screen.print(f"{'in all':<32} {time.monotonic() - begun:6.1f} s")


@contextmanager
def _step(screen: Console, text: str) -> Iterator[None]:
    begun = time.monotonic()
    with screen.status(text):
        yield
    screen.print(f"{text:<32} {time.monotonic() - begun:6.1f} s")


def _report(screen: Console, files: dict[str, Path]) -> None:
    from nuclass_pipeline.io import read_json, read_warnings
    from nuclass_pipeline.tables.summary import label_lines

    screen.print("", label_lines(files["labels"]))
    warnings = [f"warning: {name}: {text}" for name in ("cells", "clusters", "labels") for text in read_warnings(files[name])]
    for line in warnings or ["No warnings."]:
        screen.print(line, soft_wrap=True)
    if (compared := files["labels"].with_name(REFERENCE_JSON)).is_file():
        record = read_json(compared)
        shares = f"{record['agree']:,} of {record['labelled']:,} labelled cells have its label"
        screen.print(f"reference: {shares}; {record['held_out_accuracy']:.3f} of its own held-out cells get theirs", soft_wrap=True)
    shown = ", ".join(files[name].name for name in ("label_report_png", "labels_csv", "labels_h5ad", "proposals"))
    screen.print(f"files: {files['labels'].parent}: {shown}, …", soft_wrap=True)
    screen.print("next: look at label_report.png; docs/labels.md has what the columns mean, and how to correct labels", soft_wrap=True)
