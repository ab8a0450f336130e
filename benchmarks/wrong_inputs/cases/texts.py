"""Hand-made text files, and names that a spreadsheet or a browser would run, through the jobs that read and write them."""
# ruff: noqa: E501 -- a case is a row of a table.

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.wrong_inputs.case import Case, Step, both, command, fifo, nothing, rows_of, stage, write
from benchmarks.wrong_inputs.cases.bundles import gene
from benchmarks.wrong_inputs.cases.patches import IMPORT, _config, first
from benchmarks.wrong_inputs.phantoms import ROOT

MAP, EDITS, GIVEN, KNOWLEDGE = "labels.tsv", "mine-1.tsv", "mine-1.csv", "markers.tsv"
IMPORT_MAP = stage(
    "data.trio.stage:import_trio",
    organ="lung",
    annotations=Path("trio/annotations.json"),
    local_source=Path("trio/patches_224x224.h5"),
    context_source=Path("trio/patches_1024x1024.h5"),
    label_map=Path(MAP),
    config=lambda: _config("image", "ImageConfig"),
    cells=Path("out/cells.parquet"),
    labels=Path("out/labels.parquet"),
    local=Path("out/patches_224x224.h5"),
    context=Path("out/patches_1024x1024.h5"),
)
CHECK = command("check", "outs", "--organ", "lung", "--markers", KNOWLEDGE)
EVIL = {"=cmd|' /C calc'!A0": "=", "<img src=x onerror=alert(1)>": "<img", "@SUM(1)": "@"}


def overrule(function: str, *more: Path) -> Step:
    """Return the job that overrides labels by a file, as `label_cells` does."""

    def run() -> None:
        import importlib

        from nuclass_pipeline.io import write_table
        from nuclass_pipeline.runtime import job
        from nuclass_pipeline.schemas import LABELS

        Path("out").mkdir()
        labels = rows_of("imported/labels.parquet").assign(cluster=["0", "1", "2"] * 4)
        with job("job.log", 1):
            overrides = importlib.import_module("nuclass_pipeline.labeling.overrides")
            if function == "apply_provided":
                changed, warnings = overrides.apply_provided(labels, overrides.Provided(*more))
            else:
                changed, warnings = overrides.apply_edits(labels, *more), []
            write_table(changed, Path("out/labels.parquet"), LABELS, warnings)

    return run


EDIT = overrule("apply_edits", Path(EDITS))
PROVIDE = overrule("apply_provided", Path(GIVEN), ROOT / "config/labels.tsv")


def edits(change: Callable[[str], str | bytes] = str) -> Step:
    """Return the step that writes an edit of cluster 1."""

    def run() -> None:
        from nuclass_pipeline.expression.counts import cluster_digests

        labels = rows_of("imported/labels.parquet").assign(cluster=["0", "1", "2"] * 4)
        text = f"cluster\tdigest\tlabel\tnote\n1\t{cluster_digests(labels)['1']}\tB_Cell\tMS4A1\n"
        write(EDITS, change(text))()

    return run


def given(change: Callable[[str], str | bytes] = str) -> Step:
    """Return the step that writes provided labels of all 12 cells."""
    return write(GIVEN, change("cell_id,group\n" + "".join(f"cell{n:03d}-1,{('Macrophage', 'T_Cell')[n % 2]}\n" for n in range(12))))


def text_of(source: str, target: str, change: Callable[[str], str | bytes]) -> Step:
    """Return the step that writes a changed copy of a shipped table."""
    return lambda: write(target, change((ROOT / source).read_text()))()


def label_map(change: Callable[[str], str | bytes]) -> Step:
    """Return the step that writes a changed label map."""
    return text_of("config/labels.tsv", MAP, change)


def markers(change: Callable[[str], str | bytes]) -> Step:
    """Return the step that writes a changed marker table."""
    return text_of("config/markers.tsv", KNOWLEDGE, change)


def _labelled(**counts: int) -> Callable[[], None]:
    def check() -> None:
        found = rows_of("out/labels.parquet")["label"].value_counts().to_dict()
        assert found == counts, f"{found}, not {counts}"

    return check


def _formulas(path: str) -> Callable[[], None]:
    def check() -> None:
        raw = Path(path).read_text()
        for field in re.split(r"[\t\n]", raw):
            assert not re.match(r'"?[=@+]|"?-(?![\d.])', field), f"a raw formula: {field[:40]!r}"

    return check


def _no_html() -> None:
    page = Path("out/report.html").read_text()
    assert "<img src=x" not in page and "<script>alert" not in page, "unescaped HTML in the report"
    assert "&lt;img src=x" in page, "the names are not in the report, so nothing was tested"


def _table_with(names: dict[str, str]) -> Step:
    def run() -> None:
        rows = "".join(f"{name}\t1\n" for name in names)
        write("t/heldout.tsv", f"model\tn_cells\n{rows}")()
        write("t/heldout.rst", "Scores of <script>alert(2)</script> slides.")()

    return run


def _report() -> Step:
    return stage(
        "report.build:build_report",
        heading="<script>alert(3)</script>",
        figures=[],
        tables=[Path("t/heldout.tsv")],
        captions=[Path("t/heldout.rst")],
        report=Path("out/report.html"),
    )


def _proposals() -> Step:
    """Return the jobs that rank markers and propose labels, on clusters that are the planted classes."""

    def run() -> None:
        import pandas as pd

        from nuclass_pipeline.config.expression import ClusteringConfig
        from nuclass_pipeline.config.labeling import ProposalsConfig
        from nuclass_pipeline.expression.markers import rank_markers
        from nuclass_pipeline.proposals.propose import propose_labels
        from nuclass_pipeline.runtime import job
        from nuclass_pipeline.schemas import empty_labels

        Path("out").mkdir()
        truth = rows_of("truth.parquet")
        codes = pd.factorize(truth["label"])[0].astype(str)
        frame = pd.DataFrame({"cell_id": truth["cell_id"], "cluster": codes, "umap_1": 0.0, "umap_2": 0.0})
        frame[[f"pc_{n}" for n in range(1, 4)]] = 0.0
        frame.to_parquet("clusters.parquet")
        empty_labels(truth["cell_id"], "weak support").assign(cluster=codes).to_parquet("labels.parquet")
        files = {"counts": Path("counts.h5ad"), "clusters": Path("clusters.parquet")}
        knowledge = ROOT / "config/markers.tsv"
        with job("job.log", 1):
            rank_markers(**files, markers=Path("markers.parquet"), config=ClusteringConfig())
            propose_labels(**files, markers=Path("markers.parquet"), labels=Path("labels.parquet"), knowledge=knowledge, organ="lung",
                           config=ProposalsConfig(), threads=1, proposals=Path("out/proposals.tsv"))  # fmt: skip

    return run


def _rename_in_counts() -> None:
    import anndata

    found = anndata.read_h5ad("counts.h5ad")
    names = list(found.var_names)
    order = found.X.sum(0).A1.argsort()[::-1]
    for position, name in zip(order[:30], list(EVIL) * 10, strict=True):
        names[position] = f"{name}{position}"
    found.var_names = names
    found.write_h5ad("counts.h5ad")


def _case(name: str, wrong: str, make: Step, says: str, door: Step, **named: Any) -> Case:
    needs = ("small",) if door is CHECK else ("trio",)
    return Case("texts", name, wrong, make, door, says=says, needs=named.pop("needs", needs), **named)


GOOD: dict[str, Any] = {"expects": "accepted", "check": _labelled(Fibroblast=4, Macrophage=4, T_Cell=4)}
EDITED: dict[str, Any] = {"expects": "accepted", "check": _labelled(Fibroblast=4, B_Cell=4, T_Cell=4)}
PROVIDED: dict[str, Any] = {"expects": "accepted", "check": _labelled(Macrophage=6, T_Cell=6)}
CASES = [
    _case("map: utf-16", "Excel's Unicode text", label_map(lambda t: t.encode("utf-16")), "", IMPORT_MAP, **GOOD),
    _case("map: utf-16 without mark", "no byte order mark", label_map(lambda t: t.encode("utf-16-le")), MAP, IMPORT_MAP, expects="refused or accepted", check=GOOD["check"]),
    _case("map: latin-1", "Latin-1 with an umlaut", label_map(lambda t: (t + "Müller\tT_Cell\t\n").encode("latin-1", "replace")), MAP, IMPORT_MAP, expects="refused or accepted"),
    _case("map: bom and CRLF", "Windows", label_map(lambda t: ("\ufeff" + t.replace("\n", "\r\n")).encode()), "", IMPORT_MAP, **GOOD),
    _case("map: commas", "saved as CSV", label_map(lambda t: t.replace("\t", ",")), MAP, IMPORT_MAP, expects="refused or accepted"),
    _case("map: class misspelt", "T-Cells", label_map(lambda t: t + "Foo\tT_Cel\t\n"), f"{MAP}.*T_Cell?", IMPORT_MAP),
    _case("map: name twice", "two classes for a name", label_map(lambda t: t + "Malignant\tT_Cell\t\n"), f"{MAP}.*Malignant", IMPORT_MAP),
    _case("map: neither class nor reason", "both empty", label_map(lambda t: t + "Foo\t\t\n"), MAP, IMPORT_MAP),
    _case("map: empty", "0 bytes", write(MAP, ""), MAP, IMPORT_MAP),
    _case("map: fifo", "a FIFO", fifo(MAP), MAP, IMPORT_MAP, cpu_s=10),
    _case("map: one long line", "100 MB without a line break", lambda: write(MAP, "raw\tclass\treason\n" + "x" * 10**8)(), MAP, IMPORT_MAP, cpu_s=10),
    _case("map: null bytes", "zeros", label_map(lambda t: t.encode() + bytes(100)), MAP, IMPORT_MAP),
    _case("map: open quote", "a quote never closed", label_map(lambda t: t + '"Foo\tT_Cell\t\n'), MAP, IMPORT_MAP, expects="refused or accepted"),
    _case("map: right", "nothing", label_map(str), "", IMPORT_MAP, **GOOD),
    _case("class formula", "class_id =1+1", first(class_id="=1+1"), "=1\\+1", IMPORT, expects="warned"),
    _case("edits: right", "nothing", edits(), "", EDIT, **EDITED),
    _case("edits: utf-16", "Excel", edits(lambda t: t.encode("utf-16")), "", EDIT, **EDITED),
    _case("edits: digest as number", "Excel made 1E+11 of it", edits(lambda t: re.sub(r"1\t\w+\t", "1\t6.58944E+11\t", t)), EDITS, EDIT),
    _case("edits: cluster as decimal", "1.0", edits(lambda t: t.replace("\n1\t", "\n1.0\t")), EDITS, EDIT, expects="refused or accepted"),
    _case("edits: label unknown", "B-cel", edits(lambda t: t.replace("B_Cell", "B_Cel")), f"{EDITS}.*B_Cell", EDIT),
    _case("edits: no note", "note empty", edits(lambda t: t.replace("MS4A1", "")), f"{EDITS}.*note", EDIT),
    _case("edits: cluster twice", "two rows", edits(lambda t: t + t.splitlines()[1] + "\n"), EDITS, EDIT),
    _case("edits: stale", "another digest", edits(lambda t: re.sub(r"1\t\w+\t", "1\t000000000000\t", t)), f"{EDITS}.*(cells|digest)", EDIT),
    _case("edits: header only", "no edit", edits(lambda t: t.splitlines()[0] + "\n"), EDITS, EDIT, expects="accepted or refused or warned"),
    _case("provided: right", "nothing", given(), "", PROVIDE, **PROVIDED),
    _case("provided: Explorer", "Cell ID and Group", given(lambda t: t.replace("cell_id,group", "Cell ID,Group")), "", PROVIDE, **PROVIDED),
    _case("provided: tabs", "a TSV named CSV", given(lambda t: t.replace(",", "\t")), "", PROVIDE, **PROVIDED),
    _case("provided: semicolons", "German Excel", given(lambda t: t.replace(",", ";")), "", PROVIDE, **PROVIDED),
    _case("provided: other ids", "another slide's labels", given(lambda t: t.replace("cell0", "zell0")), GIVEN, PROVIDE),
    _case("provided: id twice", "a cell twice, two labels", given(lambda t: t + "cell000-1,T_Cell\n"), GIVEN, PROVIDE),
    _case("provided: ids spoilt", "Excel made 1E+05 of ids", given(lambda t: re.sub(r"cell(\d+)-1", r"1.2\1E+05", t)), GIVEN, PROVIDE),
    _case("provided: no label column", "cell_id, kind", given(lambda t: t.replace("group", "kind")), GIVEN, PROVIDE),
    _case("provided: two label columns", "label and group", given(lambda t: t.replace("cell_id,group", "cell_id,group,label").replace("e\n", "e,x\n").replace("T_Cell\n", "T_Cell,x\n")),
          GIVEN, PROVIDE, expects="refused or accepted or warned"),
    _case("provided: names unknown", "no name is in the label map", given(lambda t: t.replace("Macrophage", "Foo").replace("T_Cell", "Bar")), "Foo|Bar", PROVIDE, expects="warned or refused"),
    _case("provided: empty", "0 bytes", write(GIVEN, ""), f"{GIVEN}.*cell_id", PROVIDE),
    _case("markers: right", "nothing", markers(str), "", CHECK, expects="accepted"),
    _case("markers: type misspelt", "T_Cells", markers(lambda t: t.replace("T_Cell\tCD3E", "T_Cel\tCD3E")), KNOWLEDGE, CHECK),
    _case("markers: weight text", "high", markers(lambda t: t.replace("PRSS1\t3", "PRSS1\thigh")), f"{KNOWLEDGE}.*weight", CHECK),
    _case("markers: weight nan", "nan", markers(lambda t: t.replace("PRSS1\t3", "PRSS1\tnan")), f"{KNOWLEDGE}.*weight", CHECK),
    _case("markers: decimal comma", "1,5", markers(lambda t: t.replace("PRSS1\t3", "PRSS1\t1,5")), f"{KNOWLEDGE}.*weight", CHECK, expects="refused or accepted"),
    _case("markers: organ misspelt", "lungs", markers(lambda t: t.replace("PRSS1\t3\tall", "PRSS1\t3\tlungs")), f"{KNOWLEDGE}.*lung", CHECK),
    _case("markers: date genes", "MARCH1 became 1-Mar", markers(lambda t: t.replace("\tPRSS1\t", "\t1-Mar\t")), "1-Mar", CHECK, expects="refused or warned"),
    _case("markers: a row twice", "repeated", markers(lambda t: t + t.splitlines()[1] + "\n"), KNOWLEDGE, CHECK),
    _case("markers: gene in small letters", "mouse names", markers(lambda t: re.sub(r"\t([A-Z0-9]+)\t", lambda m: f"\t{m[1].capitalize()}\t", t)), "marker|mouse", CHECK, expects="warned or refused"),
    _case("markers: utf-16", "Excel", markers(lambda t: t.encode("utf-16")), "", CHECK, expects="accepted"),
    _case("formula genes in proposals", "genes named as formulas and HTML", _rename_in_counts, "", _proposals(), needs=("small", "stages-small"),
          expects="accepted", check=_formulas("out/proposals.tsv")),
    _case("html names in the report", "names with tags in table, caption, heading", _table_with(EVIL), "", _report(), needs=(), expects="accepted", check=_no_html),
    _case("gene formula in check", "a gene named =cmd", both(gene(0, "=cmd|calc"), markers(str)), "", CHECK, expects="accepted or refused or warned"),
]  # fmt: skip
_ = nothing
