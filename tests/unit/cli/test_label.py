"""`nuclass label`: one bundle to labels, and what it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import typer

from nuclass_pipeline.cli.label import label
from nuclass_pipeline.cli.label_steps import STEPS, Task, read
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.schemas import LABELS, TRUTH
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests.unit.planted_types import draw

FILES = [
    *("cells.parquet", "clustering.json", "clusters.parquet", "counts.h5ad", "domain_scores.parquet", "domains.parquet"),
    *("gene_scores.parquet", "label.json", "label.log", "label_report.pdf", "label_report.png", "labels.csv", "labels.h5ad"),
    *("labels.parquet", "markers.parquet", "proposals.tsv"),
]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """The folder of a phantom of 300 cells; its bundle is `outs`."""
    folder = tmp_path_factory.mktemp("slide")
    config, names = SyntheticConfig(cells=300), {"image": "he.ome.tif", "alignment": "m.csv", "truth": "truth.parquet"}
    paths = {name: folder / file for name, file in names.items()}
    make_slide(organ="lung", seed=5, config=config, manifest=folder / "outs/experiment.xenium", **paths)
    return folder


def run_here(work, received):
    """Run the work in this process, because a copy of one that has used several threads may hang."""
    texts = []
    work(texts.append)
    yield from texts


@pytest.fixture
def one_process(monkeypatch):
    """Calls do not change the threads of this process, nor hold their folder until it ends."""
    monkeypatch.setattr("nuclass_pipeline.runtime.limit_threads", lambda threads: None)
    monkeypatch.setattr("nuclass_pipeline.cli.label.run_apart", run_here)
    monkeypatch.setattr("nuclass_pipeline.runtime.claim", lambda out: out.mkdir(parents=True, exist_ok=True))


@pytest.mark.long
def test_a_bundle_is_labelled_and_a_person_corrects_it(slide, tmp_path, capsys, one_process):
    out = tmp_path / "new/mine"
    label(slide / "outs", organ="lung", out=out)
    assert sorted(path.name for path in out.iterdir()) == FILES
    found = read_table(out / "labels.parquet", LABELS)
    truth = read_table(slide / "truth.parquet", TRUTH)["label"]
    labelled = found["label"] != UNRESOLVED
    assert labelled.mean() >= 0.9
    assert (found["label"] == truth)[labelled].mean() >= 0.95
    screen = capsys.readouterr().out
    assert all(text in screen for text, _ in STEPS)
    assert f"300 cells, {found['cluster'].nunique()} clusters" in screen
    assert re.search(rf"^ T_Cell +{(found['label'] == 'T_Cell').sum()} ", screen, re.MULTILINE)
    assert screen.splitlines()[-3:-1] == ["No warnings.", f"files: {out}: label_report.png, labels.csv, labels.h5ad, proposals.tsv, …"]
    assert "confidence calibrated on" in (out / "label.log").read_text()

    before = (out / "clusters.parquet").read_bytes()
    proposed = pd.read_csv(out / "proposals.tsv", sep="\t", dtype=str).iloc[[0]]
    edits = proposed[["cluster", "digest"]].assign(label="NK_Cell", note="a test")
    edits.to_csv(tmp_path / "edits.tsv", sep="\t", index=False)
    label(slide / "outs", organ="lung", out=out, annotation=tmp_path / "edits.tsv")
    edited = read_table(out / "labels.parquet", LABELS)
    # NK_Cell is none of the paper's classes; a study that trains nothing has them all.
    assert set(edited.loc[edited["cluster"] == proposed["cluster"].iloc[0], "label"]) == {"NK_Cell"}
    assert (out / "clusters.parquet").read_bytes() == before
    assert json.loads((out / "label.json").read_text())["annotation"] == str(tmp_path / "edits.tsv")


def test_an_archive_is_read_as_its_folder(slide, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "mine"), "gztar", slide, "outs")
    for name, bundle in (("folder", slide / "outs"), ("archive", archive)):
        (tmp_path / name).mkdir()
        files = {"cells": tmp_path / name / "cells.parquet", "counts": tmp_path / name / "counts.h5ad"}
        read(Task(Path(bundle), "mine", "lung", Path("config/markers.tsv"), None, 0, files))
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["cells.parquet", "counts.h5ad"]
    assert all((tmp_path / "folder" / path.name).read_bytes() == path.read_bytes() for path in (tmp_path / "archive").iterdir())


LOOKS = "the gene names look like those of a mouse"
REFUSED = f"of {{}} cell types of the {{}} have a marker on the panel; {LOOKS}. "
REMEDY = "Name a marker table with the genes of the panel: --markers FILE, or labeling.markers in the run file."


@pytest.fixture(scope="module")
def mouse(slide, tmp_path_factory):
    """The bundle of the phantom with names of genes as a mouse has them; some, such as C7, are the same."""
    bundle = tmp_path_factory.mktemp("mouse") / "outs"
    shutil.copytree(slide / "outs", bundle)
    with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
        features = file["matrix/features"]
        genes = [name.decode() for name, kind in zip(features["name"], features["feature_type"], strict=True) if kind == b"Gene Expression"]
        names = [name.decode().capitalize() if name.decode() in genes else name.decode() for name in features["name"]]
        del features["name"]
        features["name"] = np.array(names, "S")
    transcripts = pd.read_parquet(bundle / "transcripts.parquet")
    transcripts["feature_name"] = transcripts["feature_name"].map(lambda name: name.capitalize() if name in genes else name)
    transcripts.to_parquet(bundle / "transcripts.parquet")
    return bundle


def contents(folder):
    """Relative path → bytes of all files and folders below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def earlier_results(folder, bundle):
    folder.mkdir()
    (folder / "label.json").write_text(json.dumps({"source": str(bundle.resolve()), "organ": "lung"}))
    for name in ("labels.csv", "label.log", "my note.txt"):
        (folder / name).write_text(f"earlier {name}")


def test_a_mouse_panel_labels_nothing_and_leaves_nothing_behind(mouse, tmp_path, one_process):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "new", tmp_path / "empty"):
        with pytest.raises(UserError) as caught:
            label(mouse, organ="lung", out=out)
        assert str(caught.value) == f"{mouse}: panel: 3 {REFUSED.format(18, 'lung')}{REMEDY}"
    assert list(contents(tmp_path)) == ["empty"]


def test_a_real_mouse_panel_is_refused(real_data, tmp_path, one_process):
    with pytest.raises(UserError) as caught:
        label(real_data / "xoa3.0_mouse_ileum_tiny", organ="colon", out=tmp_path / "new")
    assert str(caught.value).endswith(f"xoa3.0_mouse_ileum_tiny: panel: 1 {REFUSED.format(17, 'colon')}{REMEDY}")
    assert not contents(tmp_path)


def test_labels_of_a_person_need_no_markers(mouse, tmp_path):
    files = {"cells": tmp_path / "cells.parquet", "counts": tmp_path / "counts.h5ad"}
    cell = pd.read_parquet(mouse / "cells.parquet")["cell_id"].iloc[0]
    (tmp_path / "mine.csv").write_text(f"cell_id,label\n{cell},T cells\n")
    read(Task(mouse, "mine", "lung", Path("config/markers.tsv"), tmp_path / "mine.csv", 0, files))
    assert files["counts"].is_file()


def fail_with(error):
    """Steps that write a file and fail."""

    def step(task):
        task.files["labels_csv"].write_text("new")
        raise error

    return (("failing", step),)


@pytest.mark.parametrize("error", [UserError("x", "y", "z", "Do it."), RuntimeError("a mistake"), KeyboardInterrupt()])
def test_an_error_keeps_the_results_of_an_earlier_call(slide, tmp_path, monkeypatch, one_process, error):
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", fail_with(error))
    earlier_results(tmp_path / "out", slide / "outs")
    before = contents(tmp_path)
    for out in (tmp_path / "out", tmp_path / "new"):
        with pytest.raises(typer.Exit if isinstance(error, KeyboardInterrupt) else type(error)):
            label(slide / "outs", organ="colon", out=out, seed=3)
        assert contents(tmp_path) == before


def test_what_an_earlier_call_made_and_this_one_did_not_is_removed(slide, tmp_path, monkeypatch, one_process):
    def write(*names):
        def step(task):
            for name in names:
                task.files["labels"].with_name(name).write_text("made")

        return (("writing", step),)

    monkeypatch.setattr("nuclass_pipeline.cli.label._report", lambda screen, files: None)
    out = tmp_path / "out"
    optional = ("domains.parquet", "domain_scores.parquet", "reference.csv", "reference.json")
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", write("labels.csv", *optional))
    label(slide / "outs", organ="lung", out=out)
    (out / "my note.txt").write_text("x")
    assert set(optional) < set(contents(out))
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", write("labels.csv"))
    label(slide / "outs", organ="lung", out=out)
    assert sorted(contents(out)) == ["label.json", "label.log", "labels.csv", "my note.txt"]


STEP = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from nuclass_pipeline.cli import label_steps, main

def deaf(task):
    import ctypes
    task.files["labels_csv"].write_text("half")
    ctypes.PyDLL(None).sleep(60)  # It holds Python's lock, so that no handler of a signal runs.

label_steps.STEPS = (("a step in C", lambda task: None), ("another", deaf))
main()
"""


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, ".unfinished/labels.csv"), (signal.SIGTERM, ".lock")])
def test_a_signal_stops_a_library_in_c_at_once(slide, tmp_path, number, moment):
    out, command = tmp_path / "out", [sys.executable, "-c", STEP, "label", str(slide / "outs"), "--organ=lung", f"--out={tmp_path / 'out'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    end = time.monotonic() + 60
    while not (out / moment).exists() and time.monotonic() < end:
        time.sleep(0.05)
    begun = time.monotonic()
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=50)
    assert time.monotonic() < begun + 10
    assert process.returncode == 128 + number
    assert printed.splitlines()[-1] == "stopped; what an earlier call has made is kept, and the same command begins again"
    assert "Traceback" not in printed
    assert "Exception ignored" not in printed
    assert not out.exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_record_of_an_earlier_call_is_one_line(slide, tmp_path, one_process, text):
    earlier_results(tmp_path / "out", slide / "outs")
    (tmp_path / "out/label.json").write_text(text)
    before = contents(tmp_path)
    with pytest.raises(
        UserError, match=r"label\.json: file: it does not name the input of an earlier call\. Name another folder, or empty"
    ):
        label(slide / "outs", organ="lung", out=tmp_path / "out")
    assert contents(tmp_path) == before


def test_what_a_killed_call_left_is_removed(slide, tmp_path, monkeypatch, one_process):
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", fail_with(UserError("x", "y", "z", "Do it.")))
    for out in (tmp_path / "again", tmp_path / "first"):
        if out.name == "again":
            earlier_results(out, slide / "outs")
        before = contents(tmp_path)
        (out / ".unfinished/unpacked").mkdir(parents=True)
        (out / ".unfinished/labels.csv").write_text("half")
        with pytest.raises(UserError, match="x: y: z"):
            label(slide / "outs", organ="lung", out=out)
        assert contents(tmp_path) == before | ({"first": b""} if out.name == "first" else {})


def test_a_call_that_was_killed_while_it_moved_its_results_is_completed(slide, tmp_path, monkeypatch, one_process):
    out = tmp_path / "out"
    earlier_results(out, slide / "outs")
    (out / ".unfinished").mkdir()
    made = {"label.json": json.dumps({"source": str((slide / "outs").resolve()), "organ": "breast"}), "labels.csv": "new"}
    for name, text in made.items():
        (out / ".unfinished" / name).write_text(text)
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", fail_with(UserError("x", "y", "z", "Do it.")))
    with pytest.raises(UserError, match="x: y: z"):
        label(slide / "outs", organ="lung", out=out)
    kept = {name: f"earlier {name}" for name in ("label.log", "my note.txt")}
    assert contents(out) == {name: text.encode() for name, text in sorted((made | kept).items())}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"organ": "toe"}, "nuclass: --organ: 'toe' is not a known organ. Use one of breast,"),
        ({"source": "gone"}, "gone: input: does not exist. Name a Xenium bundle, or a table of counts."),
        (
            {"source": "full"},
            "full: input: holds neither experiment.xenium nor one of matrix.mtx, *_exprMat_file.csv (CosMx),",
        ),
        (
            {"source": "odd/note.doc"},
            "note.doc: input: is a file of none of the kinds .h5ad, .h5, .csv, .csv.gz, and not",
        ),
        ({"markers": "gone.tsv"}, "gone.tsv: file: it does not exist."),
        ({"annotation": "gone.csv"}, "gone.csv: file: it does not exist."),
        ({"annotation": "labels/own.csv", "names": "gone.tsv"}, "gone.tsv: file: it does not exist."),
        ({"annotation": "full/note.txt"}, "note.txt: name: it ends with none of .tsv, .csv and .h5ad. Save edits of clusters as .tsv,"),
        ({"out": "full"}, "full: --out: it is not empty, and not from an earlier call of `nuclass label`. Name another folder."),
        ({"out": "full/note.txt"}, "note.txt: --out: it is a file. Name a folder."),
        ({"out": "other"}, "other: --out: it holds the labels of another input, elsewhere. Name another folder."),
    ],
)
def test_a_mistake_is_found_before_anything_is_read(tmp_path, monkeypatch, changes, message):
    for name, text in (
        ("outs/experiment.xenium", "{}"),
        ("full/note.txt", "x"),
        ("odd/note.doc", "x"),
        ("labels/own.csv", "cell_id,label\na,x\n"),
        ("other/label.json", '{"source": "elsewhere"}'),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    given = {"source": "outs", "out": "out"} | changes
    paths = {name: tmp_path / given.pop(name) for name in ("source", "out", "markers", "annotation", "names") if name in given}
    with pytest.raises(UserError) as caught:
        label(**paths, **({"organ": "lung"} | given))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mouse_panel_in_an_anndata_file_is_refused(tmp_path, one_process):
    cells = draw(per_type=5)
    cells.var_names = [name.capitalize() for name in cells.var_names]
    cells.write_h5ad(tmp_path / "mouse.h5ad")
    with pytest.raises(UserError) as caught:
        label(tmp_path / "mouse.h5ad", organ="lung", out=tmp_path / "new")
    assert f"mouse.h5ad: panel: 1 {REFUSED.format(18, 'lung')}{REMEDY}" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_genes_in_rows_are_refused(tmp_path, one_process):
    cells = draw(per_type=5)
    pd.DataFrame(cells.X.toarray().T.astype(int), cells.var_names, cells.obs_names).to_csv(tmp_path / "counts.csv")
    with pytest.raises(
        UserError, match=r"counts\.csv: genes: none of its 35 genes, such as cell0, is a marker of a cell type of the lung\. Use"
    ):
        label(tmp_path / "counts.csv", organ="lung", out=tmp_path / "new")


@pytest.mark.long
def test_a_table_without_coordinates_is_labelled_but_for_its_domains(tmp_path, capsys, one_process):
    """With clusters of one's own, and labels of one's own of which one name is unknown."""
    cells = draw()
    pd.DataFrame(cells.X.toarray().astype(int), cells.obs_names, cells.var_names).to_csv(tmp_path / "counts.csv.gz")
    obs = cells.obs.assign(truth=cells.obs["truth"].replace({"T_Cell": "CD8+ T cells"}).mask(cells.obs_names == "cell0", "odd one"))
    obs.to_csv(tmp_path / "own.csv")
    label(
        tmp_path / "counts.csv.gz",
        organ="lung",
        out=tmp_path / "out",
        annotation=f"{tmp_path}/own.csv::truth",
        clusters=f"{tmp_path}/own.csv::truth",
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [name for name in FILES if not name.startswith("domain")]
    found = read_table(tmp_path / "out/labels.parquet", LABELS).set_index("cell_id").loc[cells.obs_names]
    others = cells.obs_names != "cell0"
    assert (found["label"] == cells.obs["truth"])[others].all()
    assert found.loc["cell0", "label"] == UNRESOLVED
    assert set(found["cluster"].dropna()) >= {"CD8+ T cells", "odd one"}
    screen = capsys.readouterr().out
    assert "warning: cells: no coordinates: spatial domains and the map of the tissue are left out" in screen
    assert (
        "warning: labels: 1 of 420 labelled cells have a name that is not known: 'odd one' (1); fill in the column label of own.names"
        in screen
    )
    exported = ad.read_h5ad(tmp_path / "out/labels.h5ad")
    assert set(exported.obsm) == {"X_umap", "X_pca"}
    assert exported.obs["cl_id"].loc[found.index[found["label"] == "T_Cell"]].eq("CL:0000084").all()
    assert exported.obs["domain"].isna().all()


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        (
            "annotation",
            "cell_id,label\ncell0,odd one\n",
            "own.csv: labels: 1 of 1 labelled cells have a name that is not known: 'odd one' (1).",
        ),
        ("annotation", "cell_id,label\nother,T cells\n", "own.csv: cell_id: 1 of 1 cells are not on the slide, such as 'other'; the file"),
        ("annotation", "cell_id,type\ncell0,T cells\n", "no such column; found cell_id, type. Name the column, as "),
        (
            "clusters",
            "cell_id,cluster\nother,1\n",
            "own.csv: cell_id: none of its 1 cells is on the slide; cells such as 'other' are not, and",
        ),
        (
            "clusters",
            "cell_id,kind\ncell0,1\n",
            "cluster | clusters | leiden | louvain | seurat_clusters: no such column; found cell_id, kind.",
        ),
        ("names", "name\tlabel\n", "own.csv: --names: there are no labels whose names it would explain. Name them too: --annotation"),
    ],
)
def test_what_a_person_made_is_checked_before_the_clustering(tmp_path, monkeypatch, one_process, option, content, message):
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", (("reading", read),))
    draw(per_type=5).write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "own.csv").write_text(content)
    given = {option: tmp_path / "own.csv" if option == "names" else str(tmp_path / "own.csv")}
    with pytest.raises(UserError) as caught:
        label(tmp_path / "cells.h5ad", organ="lung", out=tmp_path / "out", **given)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_reference_without_labels_is_refused_before_the_clustering(tmp_path, monkeypatch, one_process):
    monkeypatch.setattr("nuclass_pipeline.cli.label_steps.STEPS", (("reading", read),))
    cells = draw(per_type=5)
    cells.obs["label"] = ["x"] * 20 + [None] * (cells.n_obs - 20)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(UserError, match=r"cells\.h5ad: labels: 1 labels have 10 cells or more, and two are needed"):
        label(tmp_path / "cells.h5ad", organ="lung", out=tmp_path / "out", reference=str(tmp_path / "cells.h5ad"))


@pytest.mark.parametrize(
    ("name", "obs", "message"),
    [
        ("atlas.csv", None, "atlas.csv: --reference: it is no .h5ad file. Save counts and labels of the reference with"),
        ("atlas.h5ad", {"kind": ["x"]}, "no such column; found cell_id, kind. Name the column, as "),
    ],
)
def test_a_reference_is_checked_before_anything_is_read(tmp_path, one_process, name, obs, message):
    draw(per_type=5).write_h5ad(tmp_path / "cells.h5ad")
    if obs:
        ad.AnnData(np.zeros((1, 1), np.float32), pd.DataFrame(obs, index=["a"])).write_h5ad(tmp_path / name)
    else:
        (tmp_path / name).write_text("cell_id,label\na,x\n")
    with pytest.raises(UserError) as caught:
        label(tmp_path / "cells.h5ad", organ="lung", out=tmp_path / "out", reference=str(tmp_path / name))
    assert message in str(caught.value)
