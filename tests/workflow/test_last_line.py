"""What is last on the screen when something fails: one line for each error, and nothing after it."""

import logging
import os

import pytest
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_nuclass as plugin
from snakemake_logger_plugin_nuclass.explain import explain_error

FAILING = """\
import os, signal
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.runtime import job

with job(snakemake.log[0], snakemake.threads):
    if snakemake.wildcards.slide == "demo-lung-1":
        os.kill(os.getpid(), signal.SIGKILL)
    if snakemake.wildcards.slide == "demo-lung-2":
        1 / 0
    raise UserError("x.csv", "column", "is wrong", "Correct it.")
"""


@pytest.mark.long
def test_the_errors_of_all_jobs_are_last_and_alone(project):
    (project.folder / "workflow/scripts/make_slide.py").write_text(FAILING)
    slides = ("demo-lung-1", "demo-lung-2", "demo-pancreas-1")
    done = project.snakemake(*(f"resources/synthetic/{slide}/truth.parquet" for slide in slides))
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert "CalledProcessError" not in printed
    assert done.stderr.splitlines()[-4] == "3 errors:"
    killed, unexpected, mistake = sorted(done.stderr.splitlines()[-3:])
    assert killed.startswith("error: make_slide, demo-lung-1: killed, probably out of memory: requested 1000 MB, limit ")
    assert unexpected.startswith("error: make_slide, demo-lung-2: unexpected ZeroDivisionError: division by zero.")
    assert mistake.startswith("error: make_slide, demo-pancreas-1: x.csv: column: is wrong. Correct it. Log: logs/demo/make_slide/demo-pan")
    log = project.folder / unexpected.split(" Log: ")[1]
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("figure_confusionn",), "error: figure_confusionn: target: no rule makes it, did you mean 'figure_confusion'? "),
        (("read_cells",), "error: read_cells: target: the rule works on one slide at a time. `--until read_cells` runs it for all"),
    ],
)
def test_a_target_that_cannot_be_made_is_one_line(project, arguments, line):
    done = project.snakemake("-n", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(line)
    assert "Exception" not in done.stdout + done.stderr


MISSING = """MissingInputException in rule a in file "/x/rules/slides.smk", line 9:
Missing input files for rule a:
    output: out.txt
    affected files:
        missing.txt"""
AMBIGUOUS = "AmbiguousRuleException:\nRules b and c are ambiguous for the file z.\nWildcards:\n\tb: y=1"
DENIED = (
    "Traceback (most recent call last):\n\n  File \"x.py\", line 1, in f\n\nPermissionError: [Errno 13] Permission denied: '.snakemake'\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MISSING, "Missing input files for rule a: output: out.txt affected files: missing.txt"),
        (AMBIGUOUS, "Rules b and c are ambiguous for the file z. b: y=1"),
        (DENIED, ".snakemake: file: Permission denied. Give yourself the right to read and write there"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'x'", "unexpected KeyError: 'x'. Add --verbose for its place."),
        ("WorkflowError:\nAt least one job did not complete successfully.", None),
    ],
)
def test_errors_of_snakemake_are_one_line(text, expected):
    found = explain_error(text, "WorkflowError", [])
    assert found == expected or found.startswith(expected)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "error: config/mine.yaml: file: it does not exist"),
        ("a: [1\nb: 2\n", "error: config/mine.yaml: line 2: "),
        ("pipe", "error: config/mine.yaml: file: it is a pipe or a device, not a regular file"),
        ("#" * 2_000_000, "error: config/mine.yaml: file: it is larger than 1 MB"),
        ("__use_yte__: true\n?f'{1/0}': 1\n", "error: config/mine.yaml: "),
    ],
)
def test_a_run_file_that_snakemake_cannot_read_is_one_line(project, content, line):
    if content == "pipe":
        os.mkfifo(project.folder / "config/mine.yaml")
    elif content:
        (project.folder / "config/mine.yaml").write_text(content)
    done = project.snakemake("-n", "--configfile", "config/mine.yaml")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in done.stderr


def test_a_job_that_fails_once_and_then_succeeds_is_no_error(capsys):
    handler = plugin.LogHandler(OutputSettings(), None)
    values = {"jobid": 1, "rule_name": "a", "rule_msg": None, "log": [], "wildcards": {"slide": "mine"}}
    for event, more in ((LogEvent.JOB_ERROR, values), (LogEvent.JOB_FINISHED, {"job_id": 1})):
        handler.handle(logging.makeLogRecord({"event": event, "msg": "x", **more}))
    handler.close()
    assert "failed: a: " in capsys.readouterr().err
    handler.handle(logging.makeLogRecord({"event": LogEvent.JOB_ERROR, "msg": "x", **values}))
    handler.close()
    assert "error: a: killed" in capsys.readouterr().err
