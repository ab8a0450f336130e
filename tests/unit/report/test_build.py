import base64
import hashlib
import html as text
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_json
from nuclass_pipeline.report.build import build_report
from tests import ROOT
from tests.unit.report.reading import Page
from tests.unit.report.study import CAPTIONS, inputs_of_labels, inputs_of_models, write_quality, write_runtime, write_warnings

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECTIONS = ["warnings", "scores", "quality", "classes", "training", "figures", "tables", "labels", "cost", "run", "method"]


def build(inputs: dict[str, Any]) -> str:
    build_report(**inputs)
    return str(inputs["report"].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(inputs_of_models(tmp_path_factory.mktemp("report")))


def test_the_page_is_well_formed_and_needs_nothing_else(html: str) -> None:
    page = Page(html)
    names = [tag for tag, _ in page.tags]
    assert "link" not in names
    assert names.count("script") == 1
    kinds = {source.partition(";")[0] for source in page.sources()}
    assert kinds == {"data:image/png", "data:image/webp", "data:image/svg+xml"}
    assert not re.search(r"url\(|@import", html)
    assert set(re.findall(r'https?://[^\s"<]+', html)) == {"https://arxiv.org/abs/2511.13586"}


def test_the_browser_may_run_the_script_of_the_page_and_no_other_and_load_nothing(html: str) -> None:
    policy = next(found["content"] for tag, found in Page(html).tags if found.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_sections_are_in_the_order_in_which_they_are_read(html: str) -> None:
    places = [html.index(f'<section id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    page = Page(html)
    links = [found["href"] for tag, found in page.tags if tag == "a" and found["href"].startswith("#")]
    assert [link.lstrip("#") for link in links if link.lstrip("#") in SECTIONS] == SECTIONS


def test_links_have_targets_and_pictures_have_descriptions(html: str) -> None:
    page = Page(html)
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    assert {found["href"][1:] for tag, found in page.tags if tag == "a" and found["href"].startswith("#")} <= set(ids)
    alts = [found["alt"] for tag, found in page.tags if tag == "img"]
    assert all(alts)
    assert any(alt.startswith("Confusion. Confusion of the three models") for alt in alts)


def test_every_picture_is_there_once_with_all_its_pixels(html: str) -> None:
    sizes = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size for uri in Page(html).sources() if "svg" not in uri[:20]]
    assert sizes.count((900, 300)) == 2
    # Label reports as previews and in full, and the tissue of each slide as a preview.
    assert sizes.count((90, 60)) == 3 + 3 + 4


def test_the_head_names_version_commit_and_date(html: str) -> None:
    head = html[html.index("<header>") : html.index("</header>")]
    assert all(part in head for part in ("Results of 2026-11-20 10:00 UTC", "nuclass-pipeline 0.1.0", "<code>0123456789</code>"))
    assert "uncommitted" not in html


def test_uncommitted_changes_and_an_unknown_commit_are_said(tmp_path: Path) -> None:
    inputs = inputs_of_labels(tmp_path)
    write_json({"run": "r", "nuclass_pipeline": "0.1.0", "commit": None, "dirty": True}, inputs["manifest"])
    html = build(inputs)
    assert "no commit recorded" in html
    assert "with uncommitted changes" in html
    assert "Results of" not in html


def test_encoders_are_read_as_text(tmp_path: Path) -> None:
    inputs = inputs_of_labels(tmp_path)
    made = {"use": "global.context", "name": "tiny-vit", "licence": "none needed", "source": "random weights", "files": [], "sha256": []}
    read = {"use": "local.backbone", "name": "uni", "licence": "MIT", "source": "a hub", "files": ["w"], "sha256": ["cd" * 32]}
    write_json({"run": "r", "nuclass_pipeline": "0.1.0", "commit": "ab", "dirty": False, "encoders": [read, made]}, inputs["manifest"])
    assert Page(build(inputs)).row("run", "encoders") == [
        "encoders",
        f"local.backbone: uni, a hub; licence: MIT; SHA-256 {'cd' * 32} global.context: tiny-vit, random weights; licence: none needed",
    ]
    write_json({"run": "r", "nuclass_pipeline": "0.1.0", "commit": "ab", "dirty": False, "encoders": []}, inputs["manifest"])
    assert Page(build(inputs)).row("run", "encoders") == ["encoders", "none"]


def test_scores_are_those_of_the_table_and_the_best_is_strong(html: str) -> None:
    assert html.index('class="value">0.712<') < html.index('id="figures"')
    assert '95 % interval <span class="whole">0.662–0.762</span>' in html
    assert "local 0.600, global 0.550" in html
    assert "4,321 cells with a label" in html
    assert html.count("<strong>0.") == 4 * 5
    page = Page(html)
    assert page.row("scores", "mean", "gate") == ["mean", "gate", *["0.712 0.662–0.762"] * 6, "4,321", "3"]
    assert page.row("scores", "lung-2", "gate")[-2:] == ["4,000", "3"]
    # The global path, because a low ECE and a low Brier score are good.
    assert re.search(r"<td>mean</td><td>global</td>.*", html)[0].count("<strong>0.550") == 2  # type: ignore[index]


def test_the_headline_shows_the_ece_before_calibration(tmp_path: Path) -> None:
    inputs = inputs_of_models(tmp_path) | {"histories": []}
    frame = pd.read_parquet(inputs["heldout"])
    frame.loc[(frame["metric"] == "ece") & (frame["probabilities"] == "raw"), "value"] = 0.042
    frame.to_parquet(inputs["heldout"])
    html = build(inputs)
    assert html.count("before calibration 0.042") == 1
    assert html.index("ECE, gate") < html.index("before calibration 0.042") < html.index("Brier, gate")


def test_quality_is_that_of_the_table(html: str) -> None:
    row = Page(html).row("quality", "lung-2 lung, held out")
    numbers = ["1,001 990 with nucleus", "151.5", "71", "17 of 18 377 genes", "90.0 % 901", "12", "71.7 %"]
    assert row[1:] == [*numbers, "good 0.21 µm off", "0.59 0.08 by chance"]
    assert Page(html).row("quality", "lung-he lung, classified only")[1:] == [
        "1,003 990 with nucleus", "–", "–", "–", "–", "12", "71.7 %", "–", "–"]  # fmt: skip
    card = text.unescape(re.search(r'id="slide-lung-2".*?</article>', html, re.DOTALL)[0])  # type: ignore[index]
    assert "100 (10.0 %): poor quality 99; weak support 1" in card
    assert "12: outside the H&E 12" in card
    assert "98.8 % of the cells" in card
    assert 'href="#labels-lung-2"' in card


def test_f1_of_each_class_is_that_of_the_metrics(html: str) -> None:
    page = Page(html)
    assert page.tables["classes"][0] == ["class", "trained on", "pooled", "lung-2", "lung-3"]
    assert page.row("classes", "T_Cell") == ["T_Cell", "40", "0", "–", "17", "0.600", "0", "–"]
    assert page.row("classes", "Monocyte") == ["Monocyte", "never", "0", "–", "3", "0.000", "0", "–"]
    assert page.row("classes", "B_Cell")[:2] == ["B_Cell", "8"]


def test_training_shows_the_chosen_epoch(html: str) -> None:
    assert Page(html).row("training", "gate") == ["gate", "0", "3", "6", "0.831", "1.250", "1.600"]
    assert html.count("data:image/svg+xml") == 3


def test_time_and_memory_are_those_of_the_table(html: str) -> None:
    page = Page(html)
    # 720 s · (1 + 1/2 + 1/3 + 1/4) = 1500 s.
    assert "8 jobs took 0.42 hours in sum, and 0.10 hours of CPU time. The largest job needed 2.00 GB" in page.texts["cost"]
    assert page.row("cost", "train_local") == ["train_local", "2", "12.00", "1.50", "2.00"]
    assert page.row("cost", "read_cells") == ["read_cells", "2", "3.00", "1.50", "–"]


def test_a_training_without_a_benchmark_file_is_said(tmp_path: Path) -> None:
    inputs = inputs_of_models(tmp_path) | {"runtime": write_runtime(tmp_path / "part.parquet", ("train_gate", "read_cells"))}
    assert "The sums lack the training of local, global:" in build(inputs)


def test_a_run_without_benchmark_files_is_said(tmp_path: Path) -> None:
    inputs = inputs_of_labels(tmp_path) | {"runtime": write_runtime(tmp_path / "none.parquet", ())}
    html = build(inputs)
    assert "There are no benchmark files of this run" in html
    assert "hours in sum" not in html


def test_a_study_that_only_labels_has_labels_warnings_and_quality(tmp_path: Path) -> None:
    html = build(inputs_of_labels(tmp_path))
    page = Page(html)
    found = [found["id"] for tag, found in page.tags if tag == "section" and found.get("id") in SECTIONS]
    assert found == ["warnings", "quality", "labels", "cost", "run", "method"]
    assert "gate" not in html[html.index("<main>") : html.index('id="cost"')]
    assert "gate" not in page.texts["method"]


def test_warnings_stand_first_by_slide_with_what_to_do(tmp_path: Path) -> None:
    rows = [("lung-2", "split", f"warning number {number}") for number in range(8)]
    rows += [("", "manifest", "code that no commit holds"), ("", "heldout_metrics", "lung-1: 3 of 9 are of classes that the model lacks")]
    rows += [("lung-1", "labels", "<img src=x onerror=alert(1)> & more")]
    inputs = inputs_of_models(tmp_path) | {"histories": []}
    write_warnings(inputs["warnings"], rows)
    html = build(inputs)
    order = ["11 warnings</h2>", "the run: 1 · lung-1: 2 · lung-2: 8", "manifest: code that", "Commit the changes", "<h3>lung-1</h3>"]
    order += ["3 of 9 are of classes", "Read the scores per class", "<details><summary>lung-2: 8 warnings", "number 7", 'id="scores"']
    places = [html.index(part) for part in order]
    assert places == sorted(places)
    assert "labels: &lt;img src=x onerror=alert(1)&gt; &amp; more" in html
    assert "onerror=alert(1)>" not in html


def test_one_warning_and_none_are_said_so(tmp_path: Path) -> None:
    inputs = inputs_of_labels(tmp_path)
    assert "1 warning</h2>" in build(inputs)
    write_warnings(inputs["warnings"], [])
    html = build(inputs)
    assert html.index("No warnings.") < html.index('id="quality"')


HOSTILE = "<script>alert(1)</script>\" onload='x"


def test_names_from_elsewhere_are_escaped(tmp_path: Path) -> None:
    inputs = inputs_of_models(tmp_path) | {"histories": []}
    slides = (HOSTILE, "lung-2", "lung-3", "lung-he")
    write_quality(inputs["quality"], slides, organ=HOSTILE, unresolved=HOSTILE, exclusions=HOSTILE, verdict=HOSTILE)
    write_json({"run": HOSTILE, "commit": HOSTILE, "inputs": {HOSTILE: HOSTILE}, "libraries": {HOSTILE: HOSTILE}}, inputs["manifest"])
    inputs["config"].write_text(HOSTILE)
    write_warnings(inputs["warnings"], [(HOSTILE, "split", HOSTILE), ("", HOSTILE, HOSTILE)])
    frame = pd.read_parquet(inputs["heldout"])
    frame.assign(slide=frame["slide"].replace("lung-2", HOSTILE), label=frame["label"].replace("T_Cell", HOSTILE)).to_parquet(
        inputs["heldout"]
    )
    write_runtime(inputs["runtime"], ("train_local", HOSTILE))
    html = build(inputs | {"heading": HOSTILE})
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [found for _, found in page.tags if "onload" in found]
    assert html.count("&lt;script&gt;alert(1)") > 20
    assert "\0" not in html


def test_the_run_file_and_the_inputs_are_folded(html: str) -> None:
    assert html.index("<summary>Run file") < html.index("run: r  # a &amp; b")
    assert html.index("<summary>1 input files") < html.index("config/slides.tsv") < html.index("ab" * 32)
    assert "<title>Demo &amp; results</title>" in html


def test_a_citation_is_that_of_the_repository(html: str) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] in html
    assert citation["references"][0]["url"] in html


def test_links_to_docs_lead_to_files_and_are_left_out_elsewhere(tmp_path: Path) -> None:
    inputs = inputs_of_models(tmp_path) | {"histories": []}
    linked = build(inputs | {"docs": "../../docs"})
    targets = re.findall(r'href="\.\./\.\./docs/([^"]+)"', linked)
    assert len(targets) == 4
    assert all((ROOT / "docs" / name).is_file() for name in targets)
    assert "(docs/method.md)" in build(inputs)


def test_a_figure_without_a_caption_is_an_error(tmp_path: Path) -> None:
    inputs = inputs_of_models(tmp_path) | {"captions": []}
    with pytest.raises(UserError, match=r"there is no confusion\.rst"):
        build_report(**inputs)
    assert not inputs["report"].exists()


def test_every_figure_and_table_has_a_caption() -> None:
    package = ROOT / "src" / "nuclass_pipeline"
    shared = {"__init__", "style", "draw", "write", "layout", "summary"}
    modules = {path.stem for folder in ("figures", "tables") for path in (package / folder).glob("*.py")} - shared
    captions = {path.stem: path.read_text() for path in CAPTIONS}
    assert set(captions) == modules | {"workflow"}
    assert all(text.endswith(".\n") and len(text) < 500 for text in captions.values())


FRAME = """<!doctype html><iframe id="phone" style="width:390px;height:800px"></iframe><iframe id="desk" style="width:1400px;height:800px">
</iframe><script>const page = %s, found = {};
for (const frame of document.querySelectorAll("iframe")) { frame.srcdoc = page; frame.onload = () => {
  const inner = frame.contentDocument, width = inner.documentElement.clientWidth, clipped = [];
  for (const element of inner.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect(), scrolls = element.parentElement.closest(".scroll, .picture, pre, nav");
    if (box.width && box.right > width + 1 && !scrolls) clipped.push(element.tagName);
  }
  const heads = inner.querySelectorAll("#quality th[data-column]");
  heads[1].click();
  const first = inner.querySelector("#quality tbody th").dataset.value;
  const contents = getComputedStyle(inner.querySelector("nav ul")).display;
  found[frame.id] = [inner.documentElement.scrollWidth - width, clipped.join("+"), first, contents].join(",");
  if (Object.keys(found).length == 2) document.title = found.phone + " " + found.desk;
}; }</script>"""


@pytest.fixture(scope="module")
def seen(html: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What a browser finds about the page at the widths of a phone and of a desk."""
    folder = tmp_path_factory.mktemp("browser")
    quoted = "decodeURIComponent('" + "".join(f"%{byte:02x}" for byte in html.encode()) + "')"
    (folder / "frame.html").write_text(FRAME % quoted)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", f"--user-data-dir={folder / 'profile'}"]
    command = [str(CHROMIUM), *options, "--dump-dom", (folder / "frame.html").as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, timeout=50, text=True).stdout
    found = re.search(r"<title>(.*?)</title>", dom)
    assert found, dom[:300]
    yield found[1].split(" ")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_nothing_is_wider_than_the_window_and_headings_sort(seen: list[str]) -> None:
    # Beyond the window 0 px; no element outside a box that scrolls; the slide with most cells first; contents folded on a phone.
    assert seen == ["0,,lung-he,none", "0,,lung-he,block"]
