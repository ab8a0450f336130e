"""One self-contained page: warnings, headline scores, figures, tables, and the provenance of the run."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, read_table, require, whole_file
from nuclass_pipeline.schemas import WARNINGS
from nuclass_pipeline.tables import heldout as scores
from nuclass_pipeline.tables.layout import lay_out, printed, title
from nuclass_pipeline.tables.summary import places

UNFOLDED = 4
"""Warnings on the first screen; further ones are folded."""
_HEADLINES = ("macro_f1", "accuracy", "ece", "brier")


def build_report(
    *,
    heading: str,
    figures: Sequence[Path],
    tables: Sequence[Path],
    captions: Sequence[Path],
    report: Path,
    heldout: Path | None = None,
    warnings: Path | None = None,
    manifest: Path | None = None,
    config: Path | None = None,
    benchmarks: Sequence[Path] = (),
    label_reports: Sequence[Path] = (),
) -> None:
    """Write the report, a page that needs no other file, no network and no scripts.

    Parameters
    ----------
    heading
        Title of the page.
    figures, tables
        PNG figures and TSV tables in the order of the page.
    captions
        Text files. The caption of `confusion.png` is `confusion.rst`, that of `cohort.tsv` is `cohort.rst`; `workflow.rst` opens the page.
    report
        HTML file to write.
    heldout
        Metrics of the held-out slides, for the headline scores.
    warnings
        Table `WARNINGS`, for the first screen.
    manifest
        JSON object with versions, commit, machine and hashes of the run.
    config
        Run file with all defaults.
    benchmarks
        Benchmark files of Snakemake, ``<rule>/<wildcards>.tsv``.
    label_reports
        PNG pages ``<slide>/label_report.png``, one per slide, with the caption `labels.rst`.

    Raises
    ------
    UserError
        If a figure or table has no caption, or a file is missing.
    """
    texts = {Path(path).stem: " ".join(require(path).read_text(encoding="utf-8").split()) for path in captions}
    page = _template().render(
        heading=heading,
        introduction=texts.get("workflow", ""),
        warnings=_warnings(warnings) if warnings else None,
        shown=UNFOLDED,
        headlines=_headlines(heldout) if heldout else [],
        figures=[{**_captioned(path, texts), "image": _data_uri(path)} for path in map(Path, figures)],
        tables=[{**_captioned(path, texts), **_table(path)} for path in map(Path, tables)],
        label_pages=[_label_page(path, texts) for path in map(Path, label_reports)],
        manifest=_flat(read_json(manifest)) if manifest else {},
        config=require(config).read_text(encoding="utf-8") if config else "",
        benchmarks=_grid(summarize_benchmarks(benchmarks)) if benchmarks else None,
    )
    with whole_file(report) as partial:
        partial.write_text(page, encoding="utf-8")


def _warnings(path: Path) -> list[dict[str, str]]:
    table = read_table(path, WARNINGS)
    return [{"about": about, "text": text} for about, text in zip(places(table), table["warning"], strict=True)]


def summarize_benchmarks(benchmarks: Sequence[Path]) -> pd.DataFrame:
    """Return the jobs, total time and peak memory of each rule.

    Parameters
    ----------
    benchmarks
        Benchmark files of Snakemake; the name of a file's folder is the rule.

    Returns
    -------
    DataFrame
        Columns rule, jobs, minutes and peak_gb, in the order in which the rules occur.
    """
    parts = [pd.read_csv(require(path), sep="\t", na_values="-").assign(rule=Path(path).parent.name) for path in benchmarks]
    rows = pd.concat(parts, ignore_index=True)
    sums = rows.groupby("rule", sort=False).agg(jobs=("s", "size"), minutes=("s", "sum"), peak_gb=("max_rss", "max")).reset_index()
    return sums.assign(minutes=sums["minutes"] / 60, peak_gb=sums["peak_gb"] / 1024)


def _template() -> Template:
    loader = PackageLoader("nuclass_pipeline.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html")


def _captioned(path: Path, texts: Mapping[str, str]) -> dict[str, str]:
    if path.stem not in texts:
        raise UserError(path, "caption", f"there is no {path.stem}.rst", "Add it to workflow/report.")
    name = title(path.stem)
    return {"id": path.stem, "name": name[0].upper() + name[1:], "caption": texts[path.stem]}


def _label_page(path: Path, texts: Mapping[str, str]) -> dict[str, str]:
    slide = path.parent.name
    return {"id": f"labels-{slide}", "name": slide, "caption": _captioned(Path("labels.png"), texts)["caption"], "image": _data_uri(path)}


def _data_uri(path: Path) -> str:
    # In the page itself, because it must be readable when it is sent or moved alone.
    return f"data:image/png;base64,{base64.b64encode(require(path).read_bytes()).decode('ascii')}"


def _headlines(heldout: Path) -> list[dict[str, str]]:
    table = scores.build(heldout=heldout)
    mean = table[table["slide"] == "mean"].set_index("model")
    return [_headline(mean, metric) for metric in _HEADLINES]


def _headline(mean: pd.DataFrame, metric: str) -> dict[str, str]:
    values = {model: row.tolist() for model, row in mean[[metric, f"{metric}_low", f"{metric}_high"]].iterrows()}
    value, _, interval = printed(*values["gate"]).partition(" ")
    rivals = ", ".join(f"{model} {printed(numbers[0])}" for model, numbers in values.items() if model != "gate")
    before = printed(mean.loc["gate", f"{metric}_raw"]) if f"{metric}_raw" in mean else ""
    return {"name": title(metric), "value": value, "interval": interval.strip("()"), "rivals": rivals, "before": before}


def _table(path: Path) -> dict[str, Any]:
    frame = pd.read_csv(require(path), sep="\t")
    grouped = scores.GROUPED_BY in frame and "model" in frame
    return {"grid": _grid(frame, scores.BEST if grouped else {}, scores.GROUPED_BY if grouped else None)}


def _grid(frame: pd.DataFrame, best: Any = None, group: str | None = None) -> dict[str, Any]:
    """Return the headings, each with whether its column holds numbers, and the rows, each field with whether it is the best."""
    # Marked with NUL, because no text of a table can contain it.
    text = lay_out(frame, lambda cell, lead: f"{cell}\0" if lead else cell, best or {}, group)
    rows = [[(cell.rstrip("\0"), cell.endswith("\0")) for cell in row] for row in text.itertuples(index=False)]
    numbers = {title(str(name)) for name in frame.select_dtypes("number")}
    return {"heads": [(name, name in numbers) for name in text], "rows": rows}


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return nested objects as one, with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: ", ".join(map(str, value)) if isinstance(value, list) else str(value)}
    flat: dict[str, str] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat
