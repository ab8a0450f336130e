import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_json, write_table
from nuclass_pipeline.report.build import build_report, summarize_benchmarks
from nuclass_pipeline.schemas import METRICS, WARNINGS
from nuclass_pipeline.tables.write import write_table_files
from tests import ROOT

CAPTIONS = ROOT / "workflow" / "report"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "img", "br", "link"}


def _heldout(path: Path) -> Path:
    rows = [
        {"run": "r", "model": model, "variant": variant, "seed": 0, "slide": slide, "organ": "all", "label": "all", "label_set": "open"}
        | {"metric": metric, "value": value, "ci_low": value - 0.05, "ci_high": value + 0.05, "n_cells": 4321}
        for slide in ("lung-2", "mean", "pooled")
        for model, value in {"local": 0.6, "global": 0.55, "gate": 0.712}.items()
        for metric in ("macro_f1", "accuracy", "weighted_f1", "ece", "brier")
        for variant in ("raw", "calibrated")
    ]
    write_table(pd.DataFrame(rows), path, METRICS)
    return path


def _inputs(root: Path) -> dict[str, Any]:
    for name in ("confusion", "gate_map"):
        noise = np.random.default_rng(0).integers(0, 255, (300, 900, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"{name}.png")
    heldout = _heldout(root / "metrics.parquet")
    write_table_files(name="heldout", inputs={"heldout": heldout}, outputs=[root / "heldout.tsv"])
    write_json({"run": "demo", "libraries": {"torch": "2.9"}, "note": "<script>alert(1)</script>"}, root / "manifest.json")
    (root / "config.yaml").write_text("run: demo  # a & b\n")
    for rule, seconds, memory in (("train_local", 60, 2048), ("train_local", 120, 1024), ("draw", 30, "-")):
        folder = root / "benchmarks" / rule
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number}.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:01:00\t{memory}\n")
    return {
        "heading": "Demo & results",
        "figures": [root / "confusion.png", root / "gate_map.png"],
        "tables": [root / "heldout.tsv"],
        "captions": sorted(CAPTIONS.glob("*.rst")),
        "heldout": heldout,
        "manifest": root / "manifest.json",
        "config": root / "config.yaml",
        "benchmarks": sorted((root / "benchmarks").rglob("*.tsv"), reverse=True),
        "report": root / "report.html",
    }


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def html(tmp_path: Path) -> str:
    build_report(**_inputs(tmp_path))
    return (tmp_path / "report.html").read_text()


def test_the_page_is_well_formed_and_needs_nothing_else(html: str) -> None:
    page = _Page()
    page.feed(html)
    assert page.open == []
    names = [tag for tag, _ in page.tags]
    assert "script" not in names
    assert "link" not in names
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import", html)
    assert Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))).size == (900, 300)


def test_links_have_targets_and_pictures_have_descriptions(html: str) -> None:
    page = _Page()
    page.feed(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"scores", "confusion", "gate_map", "heldout", "run"} <= set(ids)
    assert {(attributes["href"] or "").lstrip("#") for tag, attributes in page.tags if tag == "a"} <= set(ids)
    alts = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    assert alts[0].startswith("Confusion. Confusion of the three models")


def test_scores_come_first_and_the_best_is_strong(html: str) -> None:
    assert html.index('class="value">0.712<') < html.index("<h2>Figures</h2>")
    assert "95 % interval 0.662–0.762" in html
    assert "local 0.600, global 0.550" in html
    assert html.count("<strong>") == 3 * 5
    # The global path, because a low ECE and a low Brier score are good.
    row = next(line for line in html.splitlines() if "<td>global</td>" in line)
    assert row.count("<strong>0.550") == 2


def test_text_is_escaped(html: str) -> None:
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<h1>Demo &amp; results</h1>" in html
    assert "run: demo  # a &amp; b" in html
    assert "libraries.torch" in html
    assert "\0" not in html


def _with_warnings(root: Path, texts: list[str]) -> str:
    rows = [{"slide": "lung-1" if number % 2 else "", "stage": "split", "warning": text} for number, text in enumerate(texts)]
    write_table(pd.DataFrame(rows, columns=["slide", "stage", "warning"], dtype=object), root / "warnings.parquet", WARNINGS)
    build_report(**_inputs(root), warnings=root / "warnings.parquet")
    return (root / "report.html").read_text()


def test_warnings_stand_before_scores_and_figures(tmp_path: Path) -> None:
    html = _with_warnings(tmp_path, ["<img src=x onerror=alert(1)> & more", *(f"warning number {number}" for number in range(1, 9))])
    places = [
        html.index(text) for text in ("9 warnings</h2>", "warning number 3", "<details><summary>5 more", "warning number 8", 'id="scores"')
    ]
    assert places == sorted(places)
    assert html.index('id="scores"') < html.index("<h2>Figures</h2>")
    assert "<strong>split:</strong> &lt;img src=x onerror=alert(1)&gt; &amp; more" in html
    assert "<strong>lung-1, split:</strong> warning number 1" in html
    assert "onerror=alert(1)>" not in html


def test_one_warning_and_none_are_said_so(tmp_path: Path) -> None:
    html = _with_warnings(tmp_path, ["only this"])
    assert "1 warning</h2>" in html
    assert "<details><summary>-" not in html
    (tmp_path / "other").mkdir()
    html = _with_warnings(tmp_path / "other", [])
    assert html.index("No warnings.") < html.index('id="scores"')


def test_the_headline_shows_the_ece_before_calibration(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    frame = pd.read_parquet(inputs["heldout"])
    frame.loc[(frame["metric"] == "ece") & (frame["variant"] == "raw"), "value"] = 0.042
    write_table(frame, inputs["heldout"], METRICS)
    build_report(**inputs)
    html = (tmp_path / "report.html").read_text()
    assert html.count("before calibration 0.042") == 1
    assert html.index("ECE, gate") < html.index("before calibration 0.042") < html.index("Brier, gate")


def test_benchmarks_are_summed_by_rule(tmp_path: Path) -> None:
    table = summarize_benchmarks(_inputs(tmp_path)["benchmarks"]).set_index("rule")
    assert table.loc["train_local"].tolist() == [2, 3.0, 2.0]
    assert table.loc["draw", "minutes"] == 0.5


def test_a_report_of_figures_alone(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    wanted = {name: inputs[name] for name in ("heading", "figures", "captions", "report")}
    build_report(**wanted, tables=[])
    html = (tmp_path / "report.html").read_text()
    assert "Tables" not in html
    assert 'id="run"' not in html


def test_a_figure_without_a_caption_is_an_error(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path) | {"captions": []}
    with pytest.raises(UserError, match=r"there is no confusion\.rst"):
        build_report(**inputs)
    assert not inputs["report"].exists()


def test_every_figure_and_table_has_a_caption() -> None:
    package = ROOT / "src" / "nuclass_pipeline"
    shared = {"__init__", "style", "draw", "tiles", "tissue", "write", "layout", "summary"}
    modules = {path.stem for folder in ("figures", "tables") for path in (package / folder).glob("*.py")} - shared
    captions = {path.stem: path.read_text() for path in CAPTIONS.glob("*.rst")}
    assert set(captions) == modules | {"workflow"}
    assert all(text.endswith(".\n") and len(text) < 500 for text in captions.values())


def test_the_report_shows_the_page_of_each_slide_under_one_heading(tmp_path: Path) -> None:
    pages = [tmp_path / slide / "label_report.png" for slide in ("lung-1", "lung-2")]
    for page in pages:
        page.parent.mkdir()
        Image.new("RGB", (8, 8)).save(page)
    captions = sorted((ROOT / "workflow/report").glob("*.rst"))
    for name, shown in (("with", pages), ("without", [])):
        build_report(heading="x", figures=[], tables=[], captions=captions, report=tmp_path / f"{name}.html", label_reports=shown)
    html = (tmp_path / "with.html").read_text()
    places = [html.index(text) for text in ('<h2 id="labels">', '<figure id="labels-lung-1">', '<figure id="labels-lung-2">')]
    assert places == sorted(places)
    assert html.count('href="#labels"') == 1
    assert html.count("Unresolved cells are drawn below the others") == 1
    assert "labels-" not in (tmp_path / "without.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 420])
def test_a_browser_renders_the_page(tmp_path: Path, width: int) -> None:
    build_report(**_inputs(tmp_path))
    shot = tmp_path / "shot.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},1600"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [str(CHROMIUM), *options, profile, f"--screenshot={shot}", (tmp_path / "report.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    pixels = np.asarray(Image.open(shot).convert("L"), float)
    assert pixels.shape[1] >= width
    # Below the navigation and the scores, because the noise of the pictures is there.
    assert pixels[200:].std() > 20
