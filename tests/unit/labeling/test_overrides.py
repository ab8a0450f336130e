"""A person's word changes the cells it is about, and is refused when it no longer fits."""

import csv
import hashlib
import logging

import pandas as pd
import pytest
import yaml

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.overrides import cluster_digests
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED
from tests import ROOT

HEAD = "cluster\tdigest\tlabel\tnote\n"


@pytest.fixture(scope="module")
def labels(label, tmp_path_factory):
    return label(tmp_path_factory.mktemp("labels"))


@pytest.fixture
def someone_says(label, tmp_path):
    """Give a function that labels the cells with a person's file of edits, and one with provided labels."""

    def edits(text):
        (tmp_path / "s.tsv").write_text(text, encoding="utf-8")
        return label(tmp_path, edits=tmp_path / "s.tsv")

    def provided(frame):
        frame.to_csv(tmp_path / "s.csv", index=False)
        return label(tmp_path, provided=tmp_path / "s.csv", label_map=ROOT / "config/labels.tsv")

    return edits, provided


def test_a_digest_names_the_cells_of_a_cluster_in_any_order():
    clusters = pd.DataFrame({"cell_id": ["b", "a", "c", "d"], "cluster": ["0", "0", "1", None]})
    expected = {"0": hashlib.sha256(b"a\nb").hexdigest()[:12], "1": hashlib.sha256(b"c").hexdigest()[:12]}
    assert cluster_digests(clusters) == cluster_digests(clusters[::-1]) == expected


def test_without_a_person_labels_come_from_the_rules(labels):
    assert set(labels["source"]) == {"rules"}
    assert set(labels["reason"].dropna()) >= {"poor quality"}


@pytest.mark.parametrize(("name", "confidence", "reason"), [("Mast_Cell", 1.0, None), (UNRESOLVED, 0.0, "edited")])
def test_an_edit_changes_the_cells_of_its_cluster_and_nothing_else(labels, someone_says, name, confidence, reason):
    found = someone_says[0](f"{HEAD}2\t{cluster_digests(labels)['2']}\t{name}\tMS4A1\n")
    inside = labels["cluster"] == "2"
    assert 50 < inside.sum() < 70
    pd.testing.assert_frame_equal(found[~inside], labels[~inside])
    assert set(zip(*(found.loc[inside, column] for column in ("label", "confidence", "reason", "source")), strict=True)) == {
        (name, confidence, reason, "edit")
    }
    said = ["label", "confidence", "reason", "source"]
    pd.testing.assert_frame_equal(found.drop(columns=said), labels.drop(columns=said))


def test_edits_may_have_more_columns_and_a_byte_order_mark(labels, someone_says):
    lines = ["\ufeffnote\tcluster\tproposal\tdigest\tlabel"]
    given = dict(zip(sorted(digests := cluster_digests(labels)), CLASSES, strict=False))
    lines += [f"seen\t{name}\tx\t{digests[name]}\t{label}" for name, label in given.items()]
    found = someone_says[0]("\n".join(lines) + "\n")
    assert len(given) == 7
    assert (found["label"] == labels["cluster"].map(given).fillna(UNRESOLVED)).all()
    assert ((found["source"] == "edit") == labels["cluster"].notna()).all()


def test_an_edit_to_a_class_that_the_study_does_not_learn_is_not_learnt(label, labels, tmp_path):
    (tmp_path / "s.tsv").write_text(f"{HEAD}2\t{cluster_digests(labels)['2']}\tMast_Cell\tMS4A1\n")
    found = label(tmp_path, edits=tmp_path / "s.tsv", classes=("T_Cell", "B_Cell"))
    inside = found[found["cluster"] == "2"]
    assert set(zip(inside["label"], inside["reason"], inside["source"], strict=True)) == {(UNRESOLVED, "not a class of the study", "edit")}


def test_no_edit_is_no_change(labels, someone_says):
    pd.testing.assert_frame_equal(someone_says[0](HEAD), labels)


@pytest.mark.parametrize(
    ("rows", "field", "problem"),
    [
        (["99\tabcdefabcdef\tT_Cell\tx"], "cluster 99", "the slide has no such cluster any more; it has 0, 1, 2"),
        (["0\tabcdefabcdef\tT_Cell\tx"], "cluster 0", "its cells have changed: the digest was abcdefabcdef and is {0}"),
        (["0\t\tT_Cell\tx"], "cluster 0", "its cells have changed: the digest was not given and is {0}"),
        (["0\t{1}\tT_Cell\tx"], "cluster 0", "the cells with digest {1} are now cluster 1"),
        (["99\t{1}\tT_Cell\tx"], "cluster 99", "the cells with digest {1} are now cluster 1"),
        (["0\t{0}\tT cell\tx"], "cluster 0", "'T cell' is no class"),
        (["0\t{0}\t\tx"], "cluster 0", "'' is no class"),
        (["0\t{0}\tT_Cell\t "], "cluster 0", "the note is empty"),
        (["0\t{0}\tT_Cell"], "cluster 0", "the note is empty"),
        (["0\t{0}\tT_Cell\tx", "0\t{0}\tB_Cell\tx"], "cluster 0", "occurs twice"),
        (["0\t{0}\tT_Cell\tx\ty"], "line 2", "has more fields than the header"),
        (['0\t{0}\tT_Cell\t"x'], "file", "not a readable table"),
    ],
)
def test_an_edit_is_refused_in_one_line_that_says_why(labels, someone_says, tmp_path, rows, field, problem):
    digests = cluster_digests(labels)
    today = [digests[name] for name in sorted(digests)]
    with pytest.raises(UserError) as refused:
        someone_says[0](HEAD + "".join(f"{row}\n".format(*today) for row in rows))
    assert refused.value.file == str(tmp_path / "s.tsv")
    assert refused.value.field == field
    assert problem.format(*today) in refused.value.problem
    assert "\n" not in str(refused.value)
    assert refused.value.remedy
    assert not (tmp_path / "labels.parquet").exists()


def test_a_missing_column_of_edits_is_named(someone_says):
    with pytest.raises(UserError, match="digest: the column is missing"):
        someone_says[0]("cluster\tlabel\tnote\n")


@pytest.mark.parametrize("columns", [("cell_id", "group"), ("barcode", "label"), ("Barcode", "Cluster"), ("cell_id", "cell_type")])
def test_provided_labels_pass_through_the_one_map(labels, someone_says, caplog, columns):
    said = {
        "cell0": "CD8+ αβ Memory T Cell",
        "cell1": "Macrophage",
        "cell2": "Fallopian Tube Epithelium",
        "cell3": "no such label",
        "cell4": "",
        "cell5": UNRESOLVED,
    }
    with (ROOT / "config/labels.tsv").open() as stream:
        known = {row["raw"]: row for row in csv.DictReader(stream, delimiter="\t")}
    mapped, dropped = known["CD8+ αβ Memory T Cell"]["class"], known["Fallopian Tube Epithelium"]["reason"]
    with caplog.at_level(logging.WARNING):
        found = someone_says[1](pd.DataFrame(said.items(), columns=columns).assign(color="#fff"))
    first = found.set_index("cell_id").loc[[f"cell{i}" for i in range(6)]]
    assert list(first["label"]) == [mapped, "Macrophage", *[UNRESOLVED] * 4]
    assert list(first["confidence"]) == [1, 1, 0, 0, 0, 0]
    assert list(first["reason"]) == [None, None, dropped, "not in the label map", "not provided", "provided as Unresolved"]
    rest = found[~found["cell_id"].isin(said)]
    assert (len(rest), set(rest["label"]), set(rest["reason"])) == (len(labels) - 6, {UNRESOLVED}, {"not provided"})
    assert set(found["source"]) == {"provided"}
    assert f"1 cells of 'Fallopian Tube Epithelium' are Unresolved: {dropped}" in caplog.text
    assert "1 cells of 'no such label' are Unresolved: not in the label map" in caplog.text
    pd.testing.assert_series_equal(found["candidate"], labels["candidate"])


@pytest.mark.parametrize(
    ("table", "field", "problem"),
    [
        ({"cell": ["cell0"], "group": ["x"]}, "cell_id | barcode | Barcode", "no such column; found cell, group"),
        ({"cell_id": ["cell0"], "type": ["x"]}, "label | group | Cluster | cluster | cell_type", "no such column; found cell_id, type"),
        (
            {"cell_id": ["cell0"], "label": ["x"], "cluster": ["1"]},
            "label | group | Cluster | cluster | cell_type",
            "label and cluster mean",
        ),
        ({"cell_id": ["cell0", "other"], "label": ["x", "x"]}, "cell_id", "1 of 2 cells are not on the slide, such as 'other'"),
        ({"cell_id": ["cell0", "cell0"], "label": ["x", "x"]}, "cell_id", "'cell0' occurs twice"),
    ],
)
def test_provided_labels_are_refused(someone_says, table, field, problem):
    with pytest.raises(UserError) as refused:
        someone_says[1](pd.DataFrame(table))
    assert refused.value.field == field
    assert problem in refused.value.problem


@pytest.fixture
def demo(tmp_path):
    """Give a run file, and a project folder with an empty folder of annotations."""
    (tmp_path / "config/annotation").mkdir(parents=True)
    (tmp_path / "config/slides.tsv").write_bytes((ROOT / "config/slides.tsv").read_bytes())
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text()), tmp_path


def test_a_run_finds_what_a_person_wrote(demo):
    raw, folder = demo
    assert load_run(raw, root=folder).annotation("demo-lung-1", "tsv") == []
    (folder / "config/annotation/demo-lung-1.tsv").write_text(HEAD)
    run = load_run(raw, root=folder)
    assert run.annotation("demo-lung-1", "tsv") == "config/annotation/demo-lung-1.tsv"
    assert run.annotation("demo-lung-1", "csv") == run.annotation("demo-lung-2", "tsv") == []
    (folder / "config/annotation/demo-lung-1.csv").write_text("cell_id,label\n")
    with pytest.raises(UserError, match=r"demo-lung-1 also has config/annotation/demo-lung-1\.tsv"):
        load_run(raw, root=folder)
