"""Which of Snakemake's records are kept with results, and which are restored from there."""

import json
import logging
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from nuclass_pipeline import records
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.records import MAX_HASHED_BYTES, RECORDS, STARTED, read_recorded, read_started, restore_records
from nuclass_pipeline.runtime import claim

RUN = "results/demo"
FILES = {"config.yaml": "a: 1", "metrics/labels.tsv": "label", "images/slide.h5": "x" * (MAX_HASHED_BYTES + 1)}


@pytest.fixture(autouse=True)
def ended(tmp_path, monkeypatch):
    """What a run does when it ends; no run is started, so no folder is reserved."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "claim", lambda *folders, shared=False: calls.append((*folders, shared)))
    monkeypatch.setattr(records.atexit, "register", lambda *call: calls.append(call))
    return calls


def start(run="demo", slides_of="demo", outputs=("results/demo/slides/a/cells.parquet",)):
    """Start a run that is about to make `outputs`, with its own slides or those of another run."""
    folders = {name: f"{name}/{run}" for name in ("results", "logs", "benchmarks")}
    Path(folders["results"]).mkdir(parents=True, exist_ok=True)
    records.begin(**folders, slides=f"results/{slides_of}/slides", outputs=outputs, run_file={"run": run, "slides_from": None})


def run(calls, made, code):
    """Write the files of a run and Snakemake's records of them, made by `code`, and end it."""
    for name, text in made.items():
        path = Path(RUN, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        FilePersistence()._write_record(str(path), MetadataRecord(rule=name, params=["1", "'x'"], code=code))
    start()
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
    restore_records(RUN, f"{RUN}/slides")
    assert found() == ["B", "B", "B"]


def lay_over(name="demo", times=True):
    copy = shutil.copy2 if times else shutil.copyfile
    for path in [path for path in Path("away", name).rglob("*") if path.is_file()]:
        copy(path, Path("results", path.relative_to("away")))
    restore_records(RUN, f"{RUN}/slides")


def test_a_run_reserves_its_folders_and_leaves_copies_in_each_folder_of_its_results(ended):
    run(ended, FILES, "A")
    assert ended[:2] == [(RUN, "logs/demo", "benchmarks/demo", False), (f"{RUN}/slides", False)]
    copies = [json.loads(Path(RUN, folder, RECORDS).read_text()) for folder in ("", "metrics", "images")]
    assert copies[0] == copies[1] == copies[2]
    assert sorted(copies[0]) == sorted(FILES)
    assert (copies[0]["config.yaml"]["size"], copies[0]["config.yaml"]["record"]["code"]) == (4, "A")
    assert {name for name, copy in copies[0].items() if copy["content"] is None} == {"images/slide.h5"}


def test_copies_of_a_run_that_is_killed_are_gone(ended):
    run(ended, FILES, "A")
    start()
    assert not list(Path(RUN).rglob(RECORDS))


@pytest.mark.parametrize("times", [True, False])
def test_moved_results_get_their_records_back(ended, times):
    run(ended, FILES, "A")
    shutil.rmtree(".snakemake")
    if not times:
        for name in FILES:
            os.utime(Path(RUN, name), (1, 1))
    restore_records(RUN, f"{RUN}/slides")
    assert found() == ["A", "A", "A"]


def test_a_file_that_did_not_move_along_has_its_record_too(ended):
    run(ended, FILES, "A")
    shutil.rmtree(".snakemake")
    Path(RUN, "config.yaml").unlink()
    restore_records(RUN, f"{RUN}/slides")
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
    restore_records(RUN, f"{RUN}/slides")
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
        restore_records(RUN, f"{RUN}/slides")
    line = "file: it holds no records that can be read, so times decide which jobs run. Remove it."
    assert sorted(caplog.messages) == [f"{copy}: {line}" for copy in copies]
    assert found() == [None, None, None]


def test_one_damaged_file_leaves_the_others_and_its_remedy_works(ended, caplog):
    run(ended, FILES, "A")
    Path(RUN, RECORDS).write_bytes(b"\xff\xfe")
    shutil.rmtree(".snakemake")
    restore_records(RUN, f"{RUN}/slides")
    assert (found(), len(caplog.messages)) == (["A", "A", "A"], 1)
    Path(RUN, RECORDS).unlink()
    restore_records(RUN, f"{RUN}/slides")
    assert len(caplog.messages) == 1


def test_a_run_leaves_its_run_file_and_that_of_a_finished_run_serves_without_it(ended):
    start()
    assert read_started(Path(RUN)) == {"run": "demo", "slides_from": None}
    Path(RUN, STARTED).unlink()
    assert read_started(Path(RUN)) is read_recorded(Path(RUN)) is None
    Path(RUN, "config.yaml").write_text("run: older")
    assert read_started(Path(RUN)) == {"run": "older"}


def test_the_run_file_of_the_predictions_is_another_than_that_of_a_later_start():
    start()
    assert read_recorded(Path(RUN)) == {"run": "demo", "slides_from": None}
    Path(RUN, "config.yaml").write_text("run: older")
    assert (read_started(Path(RUN))["run"], read_recorded(Path(RUN))["run"]) == ("demo", "older")


@pytest.mark.parametrize(("outputs", "kept"), [(["results/demo/slides/a/cells.parquet"], False), (["results/other/report.html"], True)])
def test_a_run_that_makes_slides_of_another_leaves_the_records_of_both(ended, outputs, kept):
    run(ended, FILES, "A")
    before = Path(RUN, RECORDS).stat().st_mtime_ns
    start("other", "demo", outputs)
    assert ended[-2] == (f"{RUN}/slides", kept)
    assert Path(RUN, RECORDS).is_file() == kept
    FilePersistence()._write_record(f"{RUN}/config.yaml", MetadataRecord(rule="config.yaml", code="B"))
    Path("results/other/report.html").write_text("page")
    FilePersistence()._write_record("results/other/report.html", MetadataRecord(rule="build_report", code="B"))
    call, *arguments = ended[-1]
    call(*arguments)
    assert set(json.loads(Path("results/other", RECORDS).read_text())) == {"report.html"}
    copies = json.loads(Path(RUN, RECORDS).read_text())
    assert (copies["config.yaml"]["record"]["code"], sorted(copies)) == ("A" if kept else "B", sorted(FILES))
    assert (Path(RUN, RECORDS).stat().st_mtime_ns == before) == kept


def test_the_records_of_the_slides_of_another_run_are_restored(ended):
    run(ended, FILES, "A")
    shutil.rmtree(".snakemake")
    restore_records("results/other", "results/other/slides")
    assert found() == [None, None, None]
    restore_records("results/other", f"{RUN}/slides")
    assert found() == ["A", "A", "A"]


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("slides/a/cells.parquet", "report.html", True),
        ("report.html", "slides/a/cells.parquet", True),
        ("report.html", "report.html", False),
    ],
)
def test_two_runs_work_at_once_unless_one_makes_the_slides(ended, monkeypatch, first, second, refused):
    monkeypatch.setattr(records, "claim", claim)
    start("demo", "demo", [f"results/demo/{first}"])
    makes = f"results/demo/{second}" if "slides" in second else f"results/other/{second}"
    line = r"^results/demo/slides: run: .* works on it\. Wait until it ends, or stop it\.$"
    with pytest.raises(UserError, match=line) if refused else nullcontext():
        start("other", "demo", [makes])
    assert Path("results/other", STARTED).exists() == (not refused)
