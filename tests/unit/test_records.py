"""Which of Snakemake's records are kept with results, and which are restored from there."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from nuclass_pipeline import records
from nuclass_pipeline.records import MAX_HASHED_BYTES, RECORDS, restore_records

RUN = "results/demo"
FILES = {"config.yaml": "a: 1", "metrics/labels.tsv": "label", "images/slide.h5": "x" * (MAX_HASHED_BYTES + 1)}


@pytest.fixture(autouse=True)
def ended(tmp_path, monkeypatch):
    """What a run does when it ends; no run is started, so no folder is reserved."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "claim", lambda *folders: calls.append(folders))
    monkeypatch.setattr(records.atexit, "register", lambda *call: calls.append(call))
    return calls


def run(calls, made, code):
    """Write the files of a run and Snakemake's records of them, made by `code`, and end it."""
    for name, text in made.items():
        path = Path(RUN, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        FilePersistence()._write_record(str(path), MetadataRecord(rule=name, params=["1", "'x'"], code=code))
    records.begin(results=RUN, logs="logs/demo", benchmarks="benchmarks/demo")
    call, *arguments = calls[-1]
    call(*arguments)


def found(names=FILES):
    """Return the code that Snakemake's records name as what made each file."""
    kept = FilePersistence()
    return [record.code if (record := kept._read_record(f"{RUN}/{name}")) else None for name in names]


@pytest.fixture
def two_runs(ended):
    """The results of run A at another place, and run B of other contents and equal sizes at its own."""
    run(ended, FILES, "A")
    shutil.copytree("results", "away")
    run(ended, {name: text.upper() for name, text in FILES.items()}, "B")
    restore_records(RUN)
    assert found() == ["B", "B", "B"]


def lay_over(name="demo", times=True):
    copy = shutil.copy2 if times else shutil.copyfile
    for path in [path for path in Path("away", name).rglob("*") if path.is_file()]:
        copy(path, Path("results", path.relative_to("away")))
    restore_records(RUN)


def test_a_run_reserves_its_folders_and_leaves_copies_in_each_folder_of_its_results(ended):
    run(ended, FILES, "A")
    assert ended[0] == (RUN, "logs/demo", "benchmarks/demo")
    copies = [json.loads(Path(RUN, folder, RECORDS).read_text()) for folder in ("", "metrics", "images")]
    assert copies[0] == copies[1] == copies[2]
    assert sorted(copies[0]) == sorted(FILES)
    assert (copies[0]["config.yaml"]["size"], copies[0]["config.yaml"]["record"]["code"]) == (4, "A")
    assert {name for name, copy in copies[0].items() if copy["content"] is None} == {"images/slide.h5"}


def test_copies_of_a_run_that_is_killed_are_gone(ended):
    run(ended, FILES, "A")
    records.begin(results=RUN, logs="logs/demo", benchmarks="benchmarks/demo")
    assert not list(Path(RUN).rglob(RECORDS))


@pytest.mark.parametrize("times", [True, False])
def test_moved_results_get_their_records_back(ended, times):
    run(ended, FILES, "A")
    shutil.rmtree(".snakemake")
    if not times:
        for name in FILES:
            os.utime(Path(RUN, name), (1, 1))
    restore_records(RUN)
    assert found() == ["A", "A", "A"]


def test_a_file_that_did_not_move_along_has_its_record_too(ended):
    run(ended, FILES, "A")
    shutil.rmtree(".snakemake")
    Path(RUN, "config.yaml").unlink()
    restore_records(RUN)
    assert found() == ["A", "A", "A"]


@pytest.mark.parametrize("times", [True, False])
def test_results_laid_over_others_get_their_own_records(two_runs, times):
    lay_over(times=times)
    assert found() == ["A", "A", "A"]


@pytest.mark.parametrize("times", [True, False])
def test_one_folder_laid_over_another_leaves_the_records_of_the_other_files(two_runs, times):
    lay_over("demo/metrics", times)
    assert found() == ["B", "A", "B"]


def test_records_laid_over_other_files_are_not_used(two_runs):
    for name in FILES:
        Path(RUN, name).write_text("another size")
    shutil.copy2(f"away/demo/{RECORDS}", f"{RUN}/{RECORDS}")
    restore_records(RUN)
    assert found() == ["B", "B", "B"]


@pytest.mark.parametrize(
    "text",
    ["[]", "3", "null", '{"a": 3}', '{"a": {"rule": "a", "code": "A"}}', "{", "", "\x00"]
    + [json.dumps({"a": {"size": 1, "mtime_ns": 1, "content": None, "record": record}}) for record in (3, {"rule": [1]})],
)
def test_a_damaged_file_is_named_with_its_remedy_and_not_used(ended, caplog, text):
    run(ended, FILES, "A")
    copies = sorted(Path(RUN).rglob(RECORDS))
    for copy in copies:
        copy.write_text(text)
    shutil.rmtree(".snakemake")
    with caplog.at_level(logging.WARNING):
        restore_records(RUN)
    line = "file: it holds no records that can be read, so times decide which jobs run. Remove it."
    assert sorted(caplog.messages) == [f"{copy}: {line}" for copy in copies]
    assert found() == [None, None, None]


def test_one_damaged_file_leaves_the_others_and_its_remedy_works(ended, caplog):
    run(ended, FILES, "A")
    Path(RUN, RECORDS).write_bytes(b"\xff\xfe")
    shutil.rmtree(".snakemake")
    restore_records(RUN)
    assert (found(), len(caplog.messages)) == (["A", "A", "A"], 1)
    Path(RUN, RECORDS).unlink()
    restore_records(RUN)
    assert len(caplog.messages) == 1
