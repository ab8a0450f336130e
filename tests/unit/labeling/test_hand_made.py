"""The marker table and the files of a person's labels are checked when the run file is read."""

import time

import pytest
import yaml

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.hand_made import MAX_READ_EARLY_MB, check_hand_made
from tests import ROOT

EDITS, LABELS = "cluster\tdigest\tlabel\tnote\n", "cell_id,label\n"
MARKERS = "class\tgene\tweight\torgans\tsource\n"
ROW = "0\tabcdefabcdef\tT_Cell\tCD3E\n"


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a file below `config` of a project, and reads the run file of the demo there."""
    (tmp_path / "config/annotation").mkdir(parents=True)
    for name in ("slides.tsv", "labels.tsv", "markers.tsv"):
        (tmp_path / "config" / name).write_bytes((ROOT / "config" / name).read_bytes())
    raw = yaml.safe_load((ROOT / "config/demo.yaml").read_text())

    def run(name, content, **options):
        path = tmp_path / "config" / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_run(raw, root=tmp_path, checks=(check_hand_made,), **options)

    return run


CASES = {
    "edits without column": ("annotation/demo-lung-1.tsv", "cluster\tlabel\tnote\n", "digest: the column is missing"),
    "edits without row": ("annotation/demo-lung-1.tsv", EDITS, "rows: the table has none"),
    "edits of one cluster twice": ("annotation/demo-lung-1.tsv", EDITS + 2 * ROW, "line 3, cluster 0: the cluster occurs twice"),
    "edit to an unknown class": (
        "annotation/demo-lung-2.tsv",
        EDITS + ROW.replace("T_Cell", "T cell"),
        "line 2, cluster 0: 'T cell' is not a class, did you mean 'T_Cell'?",
    ),
    "edit without note": ("annotation/demo-lung-1.tsv", EDITS + ROW.replace("CD3E", ""), "line 2, cluster 0: the note is empty"),
    "edits as a workbook": ("annotation/demo-lung-1.tsv", b"PK\x03\x04", "file: it is a workbook"),
    "labels without column": ("annotation/demo-lung-1.csv", "cell,label\na,b\n", "cell_id | barcode: no such column; found cell, label"),
    "labels of one cell twice": ("annotation/demo-lung-1.csv", LABELS + 2 * "a,T_Cell\n", "cell_id: 'a' occurs twice"),
    "labels, empty": ("annotation/demo-lung-1.csv", "", "header: the file is empty"),
    "markers without column": ("markers.tsv", "class\tgene\tweight\n", "organs: the column is missing"),
    "markers of an unknown type": (
        "markers.tsv",
        MARKERS + "T cell\tCD3E\t1\tall\town\n",
        "class, line 2: 'T cell' is not a known cell type",
    ),
    "marker without weight": ("markers.tsv", MARKERS + "T_Cell\tCD3E\thigh\tall\town\n", "weight, line 2: 'high' is not a weight"),
    "marker twice": ("markers.tsv", MARKERS + 2 * "T_Cell\tCD3E\t1\tall\town\n", "gene: CD3E occurs twice for T_Cell"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_form_stops_before_the_first_job(load, tmp_path, case):
    """Also beside finished results; jobs leave it to the first reader, because a person may be writing the file."""
    name, content, message = CASES[case]
    with pytest.raises(UserError) as refusal:
        load(name, content)
    assert str(refusal.value).startswith(f"{tmp_path}/config/{name}: {message}")
    assert load(name, content, is_job=True)


def test_clusters_and_cells_are_left_to_the_job(load):
    """Whether they are on the slide is not known before it is clustered."""
    assert load("annotation/demo-lung-1.tsv", EDITS + ROW)
    assert load("annotation/demo-lung-2.csv", f"{LABELS}no such cell,no such label\n")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("start", ["", "sep=;\r\n"])
def test_of_large_files_the_header_is_read(load, encoding, start):
    rows = "".join(f"cell-{i};Zürich\r\n" for i in range(MAX_READ_EARLY_MB * 10**6 // 12))
    started = time.perf_counter()
    assert load("annotation/demo-lung-1.csv", f"{start}cell_id;label\r\n{rows}".encode(encoding))
    with pytest.raises(UserError, match=r"no such column; found cell, label\."):
        load("annotation/demo-lung-1.csv", f"{start}cell;label\r\n{rows}".encode(encoding))
    assert time.perf_counter() - started < 2
