import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import h5py
import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import (
    open_h5,
    read_json,
    read_table,
    read_warnings,
    require,
    whole_file,
    whole_files,
    write_json,
    write_json_object,
    write_table,
)
from nuclass_pipeline.schemas import SPLIT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), whole_files(tmp_path / "a.txt", tmp_path / "b.txt") as (a, b):
        a.write_text("new")
        b.write_text("new")
        raise RuntimeError
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("opened", ["whole_file(sys.argv[1]) as p", "whole_file(sys.argv[1]) as outer, whole_file(outer) as p"])
def test_a_killed_writer_leaves_no_target_and_the_next_one_sweeps(tmp_path, opened):
    code = (
        "import sys, time\nfrom nuclass_pipeline.io import whole_file\n"
        f"with {opened}:\n p.write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.h5")], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"ready\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    time.sleep(0.05)
    assert len(names(tmp_path)) == 1
    assert not (tmp_path / "a.h5").exists()
    with whole_file(tmp_path / "a.h5") as partial:
        partial.write_text("whole")
    assert names(tmp_path) == ["a.h5"]


def test_a_link_under_a_temporary_name_is_not_written_through(tmp_path):
    """The names that could be known beforehand are those without the random part; every writer has a new one."""
    (tmp_path / "victim").write_text("mine")
    owner = f"{os.getpid()}-{socket.gethostname()}"
    (tmp_path / f".a.{owner}.partial.txt").symlink_to(tmp_path / "victim")
    (tmp_path / "a.txt").symlink_to(tmp_path / "victim")
    found = set()
    for _ in range(2):
        with whole_file(tmp_path / "a.txt") as partial:
            found.add(partial.name)
            partial.write_text("new")
    assert len(found) == 2
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "a.txt").is_symlink()


FULL = """
import sys
import h5py, numpy as np, pandas as pd, torch
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file

def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["a"] = np.random.rand(10**5)

WRITERS = {
    "text": lambda path: path.write_text("x" * 10**6),
    "parquet": pd.DataFrame({"a": np.random.rand(10**5)}).to_parquet,
    "hdf5": write_hdf5,
    "torch": lambda path: torch.save(torch.rand(10**5), path),
}
for name, write in WRITERS.items():
    try:
        with whole_file(f"{sys.argv[1]}/{name}") as path:
            write(path)
    except UserError as error:
        print(error)
"""


def test_a_full_disk_is_one_line_with_the_file_in_every_writer(tmp_path):
    """The limit on the size of files stands for the disk, because it needs no rights; torch does not tell them apart."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))  # noqa: E731
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], preexec_fn=limit, capture_output=True, text=True, check=False)
    assert [line.split(" file: ")[0] for line in done.stdout.splitlines()] == [
        f"{tmp_path}/{name}:" for name in ("text", "parquet", "hdf5", "torch")
    ], done.stderr[-2000:]
    assert done.stdout.count("File too large. Raise the limit") == 3
    assert done.stdout.count("No space left on device. Free space") == 1
    assert names(tmp_path) == []


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError):
        write_json({"a": float("nan")}, tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "b.json")
    assert names(tmp_path) == ["b.json"]


FRAME = pd.DataFrame({"cell_id": ["a", "b"], "subset": ["train", "val"], "block": ["0-0", "0-1"], "reason": None})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop(columns="subset"), "subset: the column is missing; found cell_id, block, reason"),
        (FRAME.assign(subset=1.5), "subset: is float64, not text"),
        (FRAME.assign(cell_id="a"), "'cell_id': 'a'} occurs twice"),
        (FRAME.assign(block=["0-0", None]), "block: row 1 is empty"),
    ],
)
def test_a_table_off_its_schema_is_refused_before_and_after_writing(tmp_path, frame, message):
    with pytest.raises(UserError) as refusal:
        write_table(frame, tmp_path / "split.parquet", SPLIT)
    assert message in str(refusal.value)
    assert not names(tmp_path)
    frame.to_parquet(tmp_path / "split.parquet")
    with pytest.raises(UserError) as refusal:
        read_table(tmp_path / "split.parquet", SPLIT)
    assert message in str(refusal.value)


def test_a_truncated_table_is_one_line(tmp_path):
    write_table(FRAME, tmp_path / "split.parquet", SPLIT)
    (tmp_path / "split.parquet").write_bytes((tmp_path / "split.parquet").read_bytes()[:200])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_table(tmp_path / "split.parquet", SPLIT)


def test_a_missing_file_has_a_remedy_in_and_outside_a_run(tmp_path):
    remedy = r"it does not exist\. Check the path; a run's inputs are named in the slide sheet and the run file\.$"
    for read in (require, read_json, open_h5, lambda path: read_table(path, SPLIT)):
        with pytest.raises(UserError, match=remedy):
            read(tmp_path / "none")
    with pytest.raises(UserError, match=r"none: file: it does not exist\. Type it again\.$"):
        require(tmp_path / "none", "Type it again.")
    assert require(str(tmp_path)) == tmp_path


def test_warnings_travel_with_a_table(tmp_path):
    path = tmp_path / "split.parquet"
    frame = pd.DataFrame({"cell_id": ["a"], "subset": ["train"], "block": ["0"], "reason": None})
    write_table(frame, path, SPLIT)
    assert read_warnings(path) == []
    write_table(frame, path, SPLIT, warnings=["3 of 4 cells lie outside the H&E", "µm"])
    assert read_warnings(path) == ["3 of 4 cells lie outside the H&E", "µm"]
    pd.testing.assert_frame_equal(read_table(path, SPLIT), frame)


def test_warnings_travel_with_json_and_hdf5(tmp_path):
    write_json({"verdict": "unclear", "warnings": ["look"]}, tmp_path / "a.json")
    write_json({"verdict": "good"}, tmp_path / "b.json")
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file.attrs["warnings"] = json.dumps(["dark"])
    assert [read_warnings(tmp_path / name) for name in ("a.json", "b.json", "image.h5")] == [["look"], [], ["dark"]]


@pytest.mark.parametrize("value", [{}, {"a": {"x": [1, {"y": "line\nbreak"}], "é": None}, 'b"c': {}, "d": 1.5}])
def test_an_object_written_entry_by_entry_is_the_same_text(tmp_path, value):
    write_json(value, tmp_path / "whole.json")
    write_json_object(iter(value.items()), tmp_path / "parts.json")
    assert (tmp_path / "parts.json").read_text() == (tmp_path / "whole.json").read_text()
