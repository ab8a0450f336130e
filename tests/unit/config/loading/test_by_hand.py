"""Files in which a person labels and clusters cells: from the folder of the run file, or from the slide sheet."""

import csv

import pytest
import yaml

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.hand_made import check_hand_made
from tests import ROOT

NAMES = "name\tcells\tlabel\nodd one\t3\t{}\n"


@pytest.fixture
def load(tmp_path):
    """Return a function that reads the run file of the demo, with columns of a slide of the sheet set."""
    (tmp_path / "config/annotation").mkdir(parents=True)
    for name in ("labels.tsv", "markers.tsv"):
        (tmp_path / "config" / name).write_bytes((ROOT / "config" / name).read_bytes())
    with (ROOT / "config/slides.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    raw = yaml.safe_load((ROOT / "config/demo.yaml").read_text())

    def run(slide="demo-lung-1", **columns):
        with (tmp_path / "config/slides.tsv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*rows[0], "annotation", "clusters"], delimiter="\t")
            writer.writeheader()
            writer.writerows(row | (columns if row["slide"] == slide else {}) for row in rows)
        return load_run(raw, root=tmp_path)

    return run


def write(folder, *names):
    for name in names:
        (folder / "config" / name).write_text("cell_id,label,cluster\na,T cells,1\n")


def test_the_sheet_names_labels_and_clusters_with_their_columns(load, tmp_path):
    write(tmp_path, "mine.h5ad", "edits.tsv", "own.csv")
    run = load(annotation="config/mine.h5ad::Cell type", clusters="config/own.csv")
    labels, own = (f"{tmp_path}/config/{name}" for name in ("mine.h5ad", "own.csv"))
    assert (run.annotation("demo-lung-1", "csv"), run.label_column("demo-lung-1")) == (labels, "Cell type")
    assert (run.own_clusters("demo-lung-1"), run.cluster_column("demo-lung-1")) == (own, None)
    assert run.annotation("demo-lung-1", "tsv") == run.annotation("demo-lung-2", "csv") == run.own_clusters("demo-lung-2") == []
    assert (run.label_map("demo-lung-1"), run.label_map("demo-lung-2")) == (f"{tmp_path}/config/labels.tsv", [])
    assert run.annotations == [labels, own]
    assert run.clustered_by_hand == ["demo-lung-1"]
    run = load(annotation="config/edits.tsv")
    assert (run.annotation("demo-lung-1", "tsv"), run.annotation("demo-lung-1", "csv")) == (f"{tmp_path}/config/edits.tsv", [])


def test_a_table_of_names_counts_once_it_is_filled_in(load, tmp_path):
    """Because a job writes it empty, and would otherwise run again by it."""
    write(tmp_path, "annotation/demo-lung-1.h5ad")
    table = tmp_path / "config/annotation/demo-lung-1.names.tsv"
    table.write_text(NAMES.format(""))
    assert load().names("demo-lung-1") == []
    table.write_text(NAMES.format("T_Cell"))
    run = load()
    assert run.names("demo-lung-1") == str(table)
    assert run.annotations == [str(table.with_name("demo-lung-1.h5ad")), str(table)]


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ("config/own.csv", "own.csv: cluster | clusters | leiden | louvain | seurat_clusters: no such column; found cell_id, kind."),
        ("config/own.csv::kin", "own.csv: kin: no such column; found cell_id, kind, did you mean 'kind'?"),
    ],
)
def test_the_form_of_clusters_is_checked_before_the_first_job(load, tmp_path, clusters, message):
    (tmp_path / "config/own.csv").write_text("cell_id,kind\na,1\n")
    assert check_hand_made(load(clusters="config/own.csv::kind")) is None
    with pytest.raises(UserError) as caught:
        check_hand_made(load(clusters=clusters))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"annotation": "gone.csv"},
            "slides.tsv: demo-lung-1, annotation: '{}/gone.csv' does not exist. Correct the path, or put the file",
        ),
        ({"clusters": "gone.csv::x"}, "slides.tsv: demo-lung-1, clusters: '{}/gone.csv' does not exist."),
        (
            {"annotation": "config/mine.txt"},
            "slides.tsv: demo-lung-1, annotation: '{}/config/mine.txt' ends with none of .tsv, .csv, .h5ad.",
        ),
        ({"annotation": "config/mine.csv"}, "demo-lung-1.tsv: file: slide demo-lung-1 also has {}/config/mine.csv. Remove one of them"),
        ({"slide": "demo-lung-he", "annotation": "config/mine.csv"}, "annotation does not apply to a slide of kind image"),
        ({"slide": "demo-lung-he", "clusters": "config/mine.csv"}, "clusters does not apply to a slide of kind image"),
    ],
)
def test_files_of_the_sheet_are_checked(load, tmp_path, columns, message):
    write(tmp_path, "mine.csv", "mine.txt", *(["annotation/demo-lung-1.tsv"] if "also" in message else []))
    with pytest.raises(UserError) as caught:
        load(**columns)
    assert message.format(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
