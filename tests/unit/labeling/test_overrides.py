"""Edits and provided labels change the cells that they name, and are refused where they do not fit the slide."""

import csv
import hashlib
import logging
import re

import pandas as pd
import pytest
import yaml

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import cluster_digests
from nuclass_pipeline.labeling.hand_made import LABEL_COLUMNS
from nuclass_pipeline.labeling.overrides import Provided, apply_edits, apply_provided, dropped_labels, read_edits, read_provided
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED
from tests import ROOT

HEAD = "cluster\tdigest\tlabel\tnote\n"


@pytest.fixture
def edit(labels, tmp_path):
    """Return a function that applies a file of edits with the given text to the labels of the slide."""

    def run(text):
        (tmp_path / "s.tsv").write_text(text, encoding="utf-8")
        return apply_edits(labels, tmp_path / "s.tsv")

    return run


@pytest.fixture
def provide(labels, tmp_path):
    """Return a function that replaces the labels of the slide by those of a table."""

    def run(frame):
        frame.to_csv(tmp_path / "s.csv", index=False)
        return apply_provided(labels, Provided(tmp_path / "s.csv", ROOT / "config/labels.tsv"))

    return run


def test_a_digest_names_the_cells_of_a_cluster_in_any_order():
    clusters = pd.DataFrame({"cell_id": ["b", "a", "c", "d"], "cluster": ["0", "0", "1", None]})
    expected = {"0": hashlib.sha256(b"a\nb").hexdigest()[:12], "1": hashlib.sha256(b"c").hexdigest()[:12]}
    assert cluster_digests(clusters) == cluster_digests(clusters[::-1]) == expected


def test_without_overrides_labels_come_from_the_rules(labels):
    assert set(labels["source"]) == {"rules"}
    assert set(labels["reason"].dropna()) >= {"poor quality"}


@pytest.mark.parametrize(("name", "confidence", "reason"), [("Mast_Cell", 1.0, None), (UNRESOLVED, 0.0, "edited")])
def test_an_edit_changes_the_cells_of_its_cluster_and_nothing_else(labels, edit, name, confidence, reason):
    found = edit(f"{HEAD}2\t{cluster_digests(labels)['2']}\t{name}\tMS4A1\n")
    inside = labels["cluster"] == "2"
    assert 50 < inside.sum() < 70
    pd.testing.assert_frame_equal(found[~inside], labels[~inside])
    assert set(zip(*(found.loc[inside, column] for column in ("label", "confidence", "reason", "source")), strict=True)) == {
        (name, confidence, reason, "edit")
    }
    changed = ["label", "confidence", "reason", "source"]
    pd.testing.assert_frame_equal(found.drop(columns=changed), labels.drop(columns=changed))


def test_edits_may_have_more_columns_and_a_byte_order_mark(labels, edit):
    lines = ["\ufeffnote\tcluster\tproposal\tdigest\tlabel"]
    given = dict(zip(sorted(digests := cluster_digests(labels)), CLASSES, strict=False))
    lines += [f"seen\t{name}\tx\t{digests[name]}\t{label}" for name, label in given.items()]
    found = edit("\n".join(lines) + "\n")
    assert len(given) == 7
    assert (found["label"] == labels["cluster"].map(given).fillna(UNRESOLVED)).all()
    assert ((found["source"] == "edit") == labels["cluster"].notna()).all()


def test_the_stage_leaves_edited_cells_of_other_classes_unresolved(label, labels, tmp_path):
    (tmp_path / "s.tsv").write_text(f"{HEAD}2\t{cluster_digests(labels)['2']}\tMast_Cell\tMS4A1\n")
    found = label(tmp_path, edits=tmp_path / "s.tsv", classes=("T_Cell", "B_Cell"))
    inside = found[found["cluster"] == "2"]
    assert set(zip(inside["label"], inside["reason"], inside["source"], strict=True)) == {(UNRESOLVED, "not a class of the study", "edit")}


def test_the_stage_applies_edits(label, labels, edit, tmp_path):
    edited = edit(f"{HEAD}2\t{cluster_digests(labels)['2']}\tMast_Cell\tMS4A1\n")
    assert set(edited.loc[edited["cluster"] == "2", "label"]) == {"Mast_Cell"}
    pd.testing.assert_frame_equal(label(tmp_path, edits=tmp_path / "s.tsv"), edited)


def test_the_stage_writes_nothing_where_an_edit_is_refused(label, tmp_path):
    (tmp_path / "s.tsv").write_text(f"{HEAD}99\tabcdefabcdef\tT_Cell\tx\n")
    with pytest.raises(UserError, match="cluster 99"):
        label(tmp_path, edits=tmp_path / "s.tsv")
    assert not (tmp_path / "labels.parquet").exists()


def test_the_stage_applies_provided_labels(label, provide, tmp_path):
    found, _ = provide(pd.DataFrame({"cell_id": ["cell0", "cell1"], "label": ["Macrophage", "Myeloid"]}))
    stage = label(tmp_path, provided=tmp_path / "s.csv", label_map=ROOT / "config/labels.tsv")
    pd.testing.assert_frame_equal(stage, found)


@pytest.mark.parametrize("text", [HEAD, HEAD.rstrip(), f"{HEAD}\n\t\t\t\n", "", "\n"])
def test_edits_without_a_row_are_refused(edit, text):
    with pytest.raises(UserError, match=r"(rows: the table has none|header: the file is empty)\."):
        edit(text)


@pytest.mark.parametrize(
    ("digest", "spoilt"),
    [
        ("001234567890", "1234567890"),
        ("001234567890", "1.23E+09"),
        ("0012345e0012", "1.23E+16"),
        ("12345e678901", "1.23E+682"),
        ("7", "7.0"),
    ],
)
def test_a_digest_that_a_spreadsheet_changed_is_named(tmp_path, digest, spoilt):
    (tmp_path / "s.tsv").write_text(f"{HEAD}0\t{spoilt}\tT_Cell\tx\n")
    with pytest.raises(UserError, match=f"'{re.escape(spoilt)}' was '{digest}' before a spreadsheet read it"):
        read_edits(tmp_path / "s.tsv", {"0": digest, "1": "abcdefabcdef"})


@pytest.mark.parametrize(
    ("cells", "given", "hint"),
    [
        (["000123", "7"], "123", "which was '000123' before a spreadsheet"),
        (["100000", "7"], "1E+05", "which was '100000' before a spreadsheet"),
        (["123456", "7"], "1.23E+05", "which was '123456' before a spreadsheet"),
        (["42", "7"], "42.0", "which was '42' before a spreadsheet"),
        (["123456", "7"], "123457", "; the file seems to be of another slide"),
        (["aaaa-1"], "bbbb-1", "; the file seems to be of another slide"),
    ],
)
def test_ids_that_a_spreadsheet_changed_or_of_another_slide_are_named(tmp_path, cells, given, hint):
    (tmp_path / "s.csv").write_text(f"cell_id,label\n{given},T_Cell\n")
    with pytest.raises(UserError, match=f"1 of 1 cells are not on the slide, such as '{re.escape(given)}'") as refused:
        read_provided(tmp_path / "s.csv", cells)
    assert hint in str(refused.value)


@pytest.mark.parametrize("text", ["", "cell_id,label\n", "cell_id,label\n,\n"])
def test_provided_labels_without_a_row_are_refused(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=r"header: the file is empty.* first line: cell_id, label\.|rows: the table has none"):
        read_provided(tmp_path / "s.csv", ["a"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize(("separator", "end"), [(",", "\n"), (";", "\r\n"), ("\t", "\r")])
def test_provided_labels_are_read_in_every_form(tmp_path, encoding, separator, end):
    rows = [("cell_id", "label"), ("a", "Zürich T"), ("b", "Macrophage")]
    (tmp_path / "s.csv").write_bytes(end.join(separator.join(row) for row in rows).encode(encoding))
    assert read_provided(tmp_path / "s.csv", ["a", "b"]) == (dict(rows[1:]), [])


@pytest.mark.parametrize(
    ("rows", "field", "problem"),
    [
        (["99\tabcdefabcdef\tT_Cell\tx"], "line 2, cluster 99", "the slide no longer has such a cluster; it has 0, 1, 2"),
        (["0\tabcdefabcdef\tT_Cell\tx"], "line 2, cluster 0", "its cells have changed: the digest was abcdefabcdef and is {0}"),
        (["0\t\tT_Cell\tx"], "line 2, cluster 0", "its cells have changed: the digest was not given and is {0}"),
        (["0\t{1}\tT_Cell\tx"], "line 2, cluster 0", "the cells with digest {1} are now cluster 1"),
        (["99\t{1}\tT_Cell\tx"], "line 2, cluster 99", "the cells with digest {1} are now cluster 1"),
        (["0\t{0}\tT cell\tx"], "line 2, cluster 0", "'T cell' is not a class, did you mean 'T_Cell'?"),
        (["0\t{0}\tunresolved\tx"], "line 2, cluster 0", "'unresolved' is not a class, did you mean 'Unresolved'?"),
        (["0\t{0}\t\tx"], "line 2, cluster 0", "'' is not a class"),
        (["0\t{0}\tT_Cell\t "], "line 2, cluster 0", "the note is empty"),
        (["0\t{0}\tT_Cell"], "line 2, cluster 0", "the note is empty"),
        (["0\t{0}\tT_Cell\tx", "0\t{0}\tB_Cell\tx"], "line 3, cluster 0", "occurs twice"),
        (["0\t{0}\tT_Cell\tx\ty"], "line 2, row", "has 5 values for 4 columns"),
        (['0\t{0}\tT_Cell\t"x'], "line 2", "cannot be read (unexpected end of data)"),
    ],
)
def test_an_edit_is_refused_in_one_line_with_the_reason(labels, edit, tmp_path, rows, field, problem):
    digests = cluster_digests(labels)
    today = [digests[name] for name in sorted(digests)]
    with pytest.raises(UserError) as refused:
        edit(HEAD + "".join(f"{row}\n".format(*today) for row in rows))
    assert refused.value.file == str(tmp_path / "s.tsv")
    assert refused.value.field == field
    assert problem.format(*today) in refused.value.problem
    assert "\n" not in str(refused.value)
    assert refused.value.remedy


def test_a_missing_column_of_edits_is_named(edit):
    with pytest.raises(UserError, match="digest: the column is missing"):
        edit("cluster\tlabel\tnote\n")


@pytest.mark.parametrize(
    "columns", [("cell_id", "group"), ("barcode", "label"), ("Barcode", "Cluster"), ("Cell ID", "Group"), ("cell_id", "cell_type")]
)
def test_provided_labels_are_mapped_to_classes(labels, provide, caplog, columns):
    given = {
        "cell0": "CD8+ αβ Memory T Cell",
        "cell1": "Macrophage",
        "cell2": "Fallopian Tube Epithelium",
        "cell3": "no such label",
        "cell4": "",
        "cell5": UNRESOLVED.lower(),
    } | {f"cell{i}": "T cells" for i in range(6, 20)}
    with (ROOT / "config/labels.tsv").open() as stream:
        known = {row["raw"]: row for row in csv.DictReader(stream, delimiter="\t")}
    mapped, dropped = known["CD8+ αβ Memory T Cell"]["class"], known["Fallopian Tube Epithelium"]["reason"]
    with caplog.at_level(logging.WARNING):
        found, warnings = provide(pd.DataFrame(given.items(), columns=columns).assign(color="#fff"))
    assert warnings == [
        "1 of 18 labelled cells have a name that is not known: 'no such label' (1); "
        "fill in the column label of s.names.tsv to give them a class"
    ]
    first = found.set_index("cell_id").loc[[f"cell{i}" for i in range(6)]]
    assert list(first["label"]) == [mapped, "Macrophage", *[UNRESOLVED] * 4]
    assert list(first["confidence"]) == [1, 1, 0, 0, 0, 0]
    assert list(first["reason"]) == [None, None, dropped, "not in the label map", "not provided", "provided as Unresolved"]
    rest = found[~found["cell_id"].isin(given)]
    assert (len(rest), set(rest["label"]), set(rest["reason"])) == (len(labels) - 20, {UNRESOLVED}, {"not provided"})
    assert set(found["source"]) == {"provided"}
    assert f"1 cells of 'Fallopian Tube Epithelium' are Unresolved: {dropped}" in caplog.text
    assert "1 cells of 'no such label' are Unresolved: not in the label map" in caplog.text
    counts = {reason: (found["reason"] == reason).sum() for reason in (dropped, "not in the label map", "not provided")}
    assert sorted(dropped_labels(found)) == sorted(
        f"{count} of {len(found)} cells have no provided label that is a class: {reason}" for reason, count in counts.items()
    )
    pd.testing.assert_series_equal(found["candidate"], labels["candidate"])


@pytest.mark.parametrize(
    ("table", "field", "problem"),
    [
        ({"cell": ["cell0"], "group": ["x"]}, "cell_id | barcode", "no such column; found cell, group"),
        ({"cell_id": ["cell0"], "type": ["x"]}, " | ".join(LABEL_COLUMNS), "no such column; found cell_id, type"),
        (
            {"cell_id": ["cell0"], "label": ["x"], "cluster": ["1"]},
            " | ".join(LABEL_COLUMNS),
            "the columns label and cluster may both be meant; found cell_id, label, cluster",
        ),
        ({"cell_id": ["a", "b"], "label": ["x", "x"]}, "cell_id", "2 of 2 cells are not on the slide, such as 'a'; the file seems to be"),
        ({"cell_id": ["cell0", "cell0"], "label": ["x", "x"]}, "cell_id", "'cell0' occurs twice"),
    ],
)
def test_provided_labels_are_refused(provide, table, field, problem):
    with pytest.raises(UserError) as refused:
        provide(pd.DataFrame(table))
    assert refused.value.field == field
    assert problem in refused.value.problem


@pytest.fixture
def demo(tmp_path):
    """Return a run file, and a project folder with an empty folder of annotations."""
    (tmp_path / "config/annotation").mkdir(parents=True)
    for name in ("slides.tsv", "labels.tsv", "markers.tsv"):
        (tmp_path / "config" / name).write_bytes((ROOT / "config" / name).read_bytes())
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text()), tmp_path


def test_a_run_finds_edits_and_provided_labels(demo):
    raw, folder = demo
    place = folder / "config/annotation"
    assert load_run(raw, root=folder).annotation("demo-lung-1", "tsv") == []
    (place / "demo-lung-1.tsv").write_text(HEAD)
    run = load_run(raw, root=folder)
    assert run.annotation("demo-lung-1", "tsv") == f"{place}/demo-lung-1.tsv"
    assert run.annotation("demo-lung-1", "csv") == run.annotation("demo-lung-2", "tsv") == []
    (place / "demo-lung-1.csv").write_text("cell_id,label\n")
    with pytest.raises(UserError, match=rf"demo-lung-1 also has {place}/demo-lung-1\.tsv"):
        load_run(raw, root=folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo_lung_1.tsv", "no slide has this name, did you mean 'demo-lung-1'?"),
        ("Demo-lung-1.csv", "no slide has this name, did you mean 'demo-lung-1'?"),
        ("demo-lung1.names.tsv", "no slide has this name, did you mean 'demo-lung-1'?"),
        ("demo-lung-1.xlsx", "only files that end with .tsv, .csv or .h5ad are read"),
        ("demo-lung-1.TSV", "only files that end with .tsv, .csv or .h5ad are read"),
        ("demo-lung-1.tsv.txt", "only files that end with .tsv, .csv or .h5ad are read"),
        ("demo-lung-he.csv", "a slide of kind image has no labels to replace"),
    ],
)
def test_a_file_of_labels_that_no_job_would_read_is_refused(demo, name, message):
    raw, folder = demo
    (folder / "config/annotation" / name).write_text(HEAD)
    with pytest.raises(UserError) as refused:
        load_run(raw, root=folder)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["README.md", "breast-1.tsv", ".demo-lung-1.tsv.swp"])
def test_other_files_beside_the_labels_are_none_of_them(demo, name):
    raw, folder = demo
    (folder / "config/annotation" / name).write_text(HEAD)
    assert load_run(raw, root=folder).annotation("demo-lung-1", "tsv") == []
