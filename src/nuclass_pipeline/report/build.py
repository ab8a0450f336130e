"""One self-contained page: warnings, scores, quality of every slide, training, figures, tables, labels, cost, and the record of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, read_table, require, whole_file
from nuclass_pipeline.report.curves import draw_curves, list_choices, read_histories
from nuclass_pipeline.report.pictures import embed_picture, embed_svg
from nuclass_pipeline.report.quality import preview, summarize_cost, tabulate_quality
from nuclass_pipeline.report.scores import make_headlines, score_table
from nuclass_pipeline.report.template import render
from nuclass_pipeline.report.warnings import group_warnings
from nuclass_pipeline.schemas import JOINED, MEAN, RUNTIME
from nuclass_pipeline.tables import heldout as scores
from nuclass_pipeline.tables.layout import lay_out, title

UNFOLDED = 6
"""Warnings on the first screen; the slides after those are folded."""
# In the section of the scores, because it is the first thing a reader looks for.
_SCORES = "heldout"


@dataclass(frozen=True)
class Material:
    """What the page is made of. What is not given has no section.

    Attributes
    ----------
    heading
        Title of the page.
    captions
        Text files. The caption of `confusion.png` is `confusion.rst`, that of `cohort.tsv` is `cohort.rst`; `workflow.rst` is the method.
    docs
        Folder of the documentation as seen from the report, for links; without it they are plain text.
    figures, tables
        PNG figures and TSV tables in the order of the page.
    label_reports
        PNG pages ``<slide>/label_report.png``, one per slide, with the caption `labels.rst`.
    tissue
        PNG pictures ``<slide>/tissue.png``.
    histories
        Validations of every training, ``<model>/seed-<seed>/history.parquet``.
    heldout, cohort
        Metrics of the held-out slides, and the cells by slide, subset and class; F1 per class needs both.
    quality, runtime, warnings
        Tables `QUALITY`, `RUNTIME` and `WARNINGS`.
    manifest
        JSON object with versions, commit, machine and hashes of the run.
    config
        Run file with all defaults.
    """

    heading: str
    captions: Sequence[Path]
    docs: str = ""
    figures: Sequence[Path] = ()
    tables: Sequence[Path] = ()
    label_reports: Sequence[Path] = ()
    tissue: Sequence[Path] = ()
    histories: Sequence[Path] = ()
    heldout: Path | None = None
    cohort: Path | None = None
    quality: Path | None = None
    runtime: Path | None = None
    warnings: Path | None = None
    manifest: Path | None = None
    config: Path | None = None


def build_report(*, report: Path, **material: Any) -> None:
    """Write the report, a page that needs no other file and no network.

    Parameters
    ----------
    report
        HTML file to write.
    **material
        Fields of `Material`.

    Raises
    ------
    UserError
        If a figure or table has no caption, or a file is missing.
    """
    given = Material(**material)
    values = _values(given)
    page = render("page.html", heading=given.heading, docs=given.docs, contents=list_contents(values), **values)
    with whole_file(report) as partial:
        partial.write_text(page, encoding="utf-8")


def _values(given: Material) -> dict[str, Any]:
    """Return the variables of the page."""
    texts = {Path(path).stem: " ".join(require(path).read_text(encoding="utf-8").split()) for path in given.captions}
    slides = tabulate_quality(given.quality) if given.quality else []
    tables = [path for path in map(Path, given.tables) if not given.heldout or path.stem != _SCORES]
    training = _training(given.histories)
    trained = list(dict.fromkeys(choice["model"] for choice in training["choices"]))
    return {
        "introduction": texts.get("workflow", ""),
        "warnings": group_warnings(given.warnings, [row["slide"] for row in slides]) if given.warnings else None,
        "unfolded": UNFOLDED,
        "slides": slides,
        "tissue": preview(given.tissue),
        "label_previews": preview(given.label_reports),
        "classes": score_table(given.heldout, given.cohort) if given.heldout and given.cohort else None,
        "figures": [{**_captioned("figure", path, texts), "image": embed_picture(path)} for path in map(Path, given.figures)],
        "tables": [{**_captioned("table", path, texts), "grid": _read_grid(path)} for path in tables],
        "label_pages": [_label_page(path) for path in map(Path, given.label_reports)],
        "label_caption": texts.get("labels", ""),
        "manifest": read_json(given.manifest) if given.manifest else {},
        "config": require(given.config).read_text(encoding="utf-8") if given.config else "",
        **_scores(given.heldout, texts),
        **training,
        **_cost(given.runtime, trained),
    }


def list_contents(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sections that a page with these values has, in its order."""
    labels = [{"id": item["id"], "name": item["name"]} for item in values["label_pages"]]
    sections: list[tuple[str, str, Any, Sequence[Mapping[str, Any]]]] = [
        ("warnings", "Warnings", values["warnings"] is not None, ()),
        ("scores", "Scores", values["headlines"], ()),
        ("quality", "Quality of the slides", values["slides"], ()),
        ("classes", "F1 per class", values["classes"], ()),
        ("training", "Training", values["choices"], ()),
        ("figures", "Figures", values["figures"], values["figures"]),
        ("tables", "Tables", values["tables"], values["tables"]),
        ("labels", "Label reports", labels, labels),
        ("cost", "Time and memory", values["runtime"] is not None, ()),
        ("run", "Run", values["manifest"] or values["config"], ()),
        ("method", "Method and citation", True, ()),
    ]
    return [{"id": name, "name": text, "parts": parts} for name, text, holds, parts in sections if holds]


def _scores(heldout: Path | None, texts: Mapping[str, str]) -> dict[str, Any]:
    if not heldout:
        return {"headlines": [], "scored": "", "scores": None, "scores_caption": ""}
    table = scores.build(heldout=heldout)
    # The scores before the counts, and the joined slides before the single ones, because a phone shows the first columns and rows.
    joined = table["slide"].isin(JOINED)
    counts = ["cells", scores.UNSEEN]
    ordered = pd.concat([table[joined], table[~joined]], ignore_index=True)
    grid = make_grid(ordered[[*table.columns.drop(counts), *counts]], scores.BEST, scores.GROUPED_BY)
    scored = f"{table.loc[table['slide'] == MEAN, 'cells'].max():,}"
    return {"headlines": make_headlines(table), "scored": scored, "scores": grid, "scores_caption": texts.get(_SCORES, "")}


def _training(histories: Sequence[Path]) -> dict[str, Any]:
    if not histories:
        return {"curves": [], "choices": []}
    rows = read_histories(histories)
    models = list(dict.fromkeys(rows["model"]))
    drawings = embed_svg([draw_curves(rows[rows["model"] == model], model) for model in models])
    return {"curves": [{"name": name, "image": image} for name, image in zip(models, drawings, strict=True)], "choices": list_choices(rows)}


def _cost(runtime: Path | None, trained: Sequence[str]) -> dict[str, Any]:
    table = read_table(runtime, RUNTIME) if runtime else pd.DataFrame()
    return {"runtime": table.to_dict("records") if runtime else None, "cost": summarize_cost(table, trained)}


def _captioned(kind: str, path: Path, texts: Mapping[str, str]) -> dict[str, str]:
    if path.stem not in texts:
        raise UserError(path, "caption", f"there is no {path.stem}.rst", "Add it to workflow/report.")
    name = title(path.stem)
    return {"id": f"{kind}-{path.stem}", "name": name[0].upper() + name[1:], "caption": texts[path.stem]}


def _label_page(path: Path) -> dict[str, str]:
    slide = path.parent.name
    return {"id": f"labels-{slide}", "name": slide, "image": embed_picture(path)}


def _read_grid(path: Path) -> dict[str, Any]:
    return make_grid(pd.read_csv(require(path), sep="\t"))


def make_grid(frame: pd.DataFrame, best: Any = None, group: str | None = None) -> dict[str, Any]:
    """Return a table for the macro `grid`: the headings, each with whether its column holds numbers, and rows of value, interval, best.

    Parameters
    ----------
    frame, best, group
        As for `tables.layout.lay_out`; the best of a group is printed bold.
    """
    # Marked with NUL, because no text of a table can contain it.
    text = lay_out(frame, lambda cell, lead: f"{cell}\0" if lead else cell, best or {}, group)
    numbers = {title(str(name)) for name in frame.select_dtypes("number")}
    heads = [(name, name in numbers) for name in text]
    rows = [[_field(cell, number) for cell, (_, number) in zip(row, heads, strict=True)] for row in text.itertuples(index=False)]
    return {"heads": heads, "rows": rows}


def _field(cell: str, is_number: bool) -> tuple[str, str, bool]:
    value, _, interval = cell.rstrip("\0").partition(" (") if is_number else (cell.rstrip("\0"), "", "")
    return value, interval.rstrip(")"), cell.endswith("\0")
