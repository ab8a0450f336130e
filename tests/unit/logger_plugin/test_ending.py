"""The last lines of a run."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import WARNINGS
from snakemake_logger_plugin_nuclass.ending import requested_files, same_command, summarize


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A run with a report, five warnings and scores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    folder = tmp_path / "results/demo"
    (folder / "metrics/base").mkdir(parents=True)
    rows = [("demo-lung-1", "split", f"few cells {number}" + " and more" * 30) for number in range(4)] + [("", "manifest", "changed")]
    write_table(pd.DataFrame(rows, columns=["slide", "stage", "warning"], dtype=object), folder / "metrics/warnings.parquet", WARNINGS)
    (folder / "metrics/base/heldout.parquet").touch()
    (folder / "report.html").touch()
    return folder.relative_to(tmp_path)


FILES = ["results/demo/report.html", *(f"results/demo/figures/{name}.pdf" for name in "abcd")]


def test_a_whole_run_names_folder_report_warnings_and_the_next_command(results):
    lines = summarize(FILES, results, "Done: 89 jobs in 32 min 10 s.")
    assert lines[:4] == [
        "Done: 89 jobs in 32 min 10 s.",
        "Results: results/demo",
        "Report: results/demo/report.html",
        "5 warnings, of which 3 are below:",
    ]
    assert lines[4].startswith("  demo-lung-1, split: few cells 0 and more")
    assert all(len(line) <= 140 for line in lines)
    assert lines[-1] == ("Next: `.venv/bin/nuclass summary results/demo` prints the scores; open results/demo/report.html in a browser.")
    assert len(lines) <= 12


@pytest.mark.parametrize("argv", [[".venv/bin/snakemake"], ["/lib/site-packages/snakemake/__main__.py"]])
@pytest.mark.parametrize(
    ("python", "program"), [("here/my env/bin/python", "'my env/bin/nuclass'"), ("env/bin/python3.11", "{}/env/bin/nuclass")]
)
def test_the_next_command_is_beside_the_python_that_runs(results, tmp_path, monkeypatch, argv, python, program):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "executable", str(tmp_path / python))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    last = summarize(["../results/demo/report.html"], Path("../results/demo"), "")[-1]
    assert last.startswith(f"Next: `{program.format(tmp_path)} summary ../results/demo` prints the scores")


def test_without_scores_or_warnings_there_are_fewer_lines(results):
    (results / "metrics/base/heldout.parquet").unlink()
    (results / "metrics/warnings.parquet").write_bytes(b"broken")
    lines = summarize(FILES, results, "")
    assert lines[1] == "Report: results/demo/report.html"
    assert lines[2] == "Next: `.venv/bin/nuclass summary results/demo` prints the labels; open results/demo/report.html in a browser."


@pytest.mark.parametrize(("made", "word"), [("Done: 1 job in 5 s.", "Made"), ("", "Up to date")])
def test_a_single_figure_is_named(results, made, word):
    lines = summarize(FILES[1:3], results, made)
    assert lines == [*([made] if made else []), f"{word}: {FILES[1]}", f"{word}: {FILES[2]}"]


def test_requested_files_are_those_of_the_command():
    def job(inputs, outputs):
        return SimpleNamespace(input=inputs, output=outputs)

    assert requested_files(SimpleNamespace(targetfiles=set(), targetjobs=[job(["a", "b"], [])])) == {"a", "b"}
    assert requested_files(SimpleNamespace(targetfiles={"c"}, targetjobs=[job(["a"], ["c", "d"])])) == {"c"}
    assert requested_files(SimpleNamespace(targetfiles=set(), targetjobs=[job(["a"], ["c", "d"])])) == {"c", "d"}


@pytest.mark.parametrize(
    ("words", "found", "command"),
    [
        ([".venv/bin/snakemake", "--cores", "2"], None, ".venv/bin/snakemake --cores 2"),
        (["/env/bin/snakemake", "-c2", "my target"], "/env/bin/snakemake", "snakemake -c2 'my target'"),
        (["/my env/bin/snakemake", "-n"], None, "'/my env/bin/snakemake' -n"),
        (["/lib/snakemake/__main__.py", "-n"], None, "python -m snakemake -n"),
    ],
)
def test_the_command_is_as_it_was_typed(monkeypatch, words, found, command):
    monkeypatch.setattr("shutil.which", lambda name: found)
    assert same_command(words) == command
