"""Events of Snakemake in, lines out."""

import io
import logging
import re
import sys
import time
from types import SimpleNamespace

import pytest
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_nuclass as plugin
from snakemake_logger_plugin_nuclass import board
from snakemake_logger_plugin_nuclass.plan import Plan
from snakemake_logger_plugin_nuclass.times import PlannedJob

JOBS = {
    1: PlannedJob(1, "read_cells", "demo-lung-1", "new", seconds=120),
    2: PlannedJob(2, "train_local", "seed 0", "`local.dropout` changed (0.2 → 0.3)", after=(1,), seconds=600),
    0: PlannedJob(0, "all", after=(1, 2), seconds=0),
}
LOG = "logs/demo/train_local/seed-0.log"


class Screen:
    """A handler without a terminal, its clock, and what it prints."""

    def __init__(self, monkeypatch, tmp_path, **settings):
        self.now = 0.0
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(plugin.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(plugin.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        monkeypatch.setattr(sys, "argv", [".venv/bin/snakemake", "--cores", "2"])
        monkeypatch.setattr(plugin.Watched, "workflow", None)
        monkeypatch.setattr(plugin.Watched, "run", None)
        self.handler = plugin.LogHandler(OutputSettings(**settings), None)

    def __call__(self, event=None, msg="", level=logging.INFO, **values):
        self.handler.handle(
            logging.makeLogRecord({"event": event, "msg": msg, "levelno": level, "levelname": logging.getLevelName(level)} | values)
        )

    def plan(self, **values):
        self(LogEvent.RUN_INFO, "Job stats:\n", plan=Plan(JOBS, 1), **values)

    def start(self, number, message, log=None):
        job = JOBS[number]
        self(
            LogEvent.JOB_INFO, jobid=number, rule_msg=message, rule_name=job.rule, log=[log] if log else [], wildcards={}, resources=None,
            reason="Missing output files: x", local=True, is_checkpoint=False, input=["i"], output=["o"] * bool(log), benchmark=None,
            priority=0, threads=1,
        )  # fmt: skip

    def fail(self, number, log, message=None):
        self(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=number, rule_name=JOBS[number].rule, rule_msg=message, log=[log])

    def lines(self):
        """Return what was printed since the last call, without the time of day."""
        text = sys.stdout.getvalue() + sys.stderr.getvalue()
        for stream in (sys.stdout, sys.stderr):
            stream.seek(0)
            stream.truncate()
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]


@pytest.fixture
def screen(monkeypatch, tmp_path):
    return lambda **settings: Screen(monkeypatch, tmp_path, **settings)


def write_progress(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "2026-01-01 00:{:02d}:00,000 INFO nuclass_pipeline.runtime: progress {} %: {}\n"
    path.write_text("".join(head.format(*row) for row in rows))


def test_a_run_is_a_plan_and_two_lines_per_job(screen, tmp_path):
    shown = screen()
    shown(LogEvent.WORKFLOW_STARTED, "Workflow has started!")
    shown(msg="Building DAG of jobs...")
    shown.plan()
    assert shown.lines() == ["3 jobs, about 12 min:", "  new: read_cells", "  `local.dropout` changed (0.2 → 0.3): train_local"]
    shown(LogEvent.JOB_STARTED, "Execute 1 jobs...", jobs=[1])
    shown.start(1, "Reading the cells of demo-lung-1.", "logs/demo/read_cells/demo-lung-1.log")
    assert shown.lines() == ["[1 of 3] Reading the cells of demo-lung-1. Log: logs/demo/read_cells/demo-lung-1.log"]
    shown(LogEvent.SHELLCMD, shellcmd=None)
    shown.now = 150
    shown(LogEvent.JOB_FINISHED, job_id=1)
    shown(LogEvent.PROGRESS, done=1, total=3)
    assert shown.lines() == ["[1 of 3] Done in 2 min 30 s: Reading the cells of demo-lung-1. (20 %, about 10 min left)"]
    shown.start(2, "Training the local path, seed 0.", LOG)
    shown.lines()
    write_progress(tmp_path / LOG, (0, 0, "epoch 1 of 16: begins"), (1, 25, "epoch 4 of 16: train loss 0.61, val macro-F1 0.69, best 0.71"))
    shown.now = 150 + board.REPEAT_S - 1
    shown.handler._update(shown.now)
    assert shown.lines() == []
    shown.now += 1
    shown.handler._update(shown.now)
    status = "epoch 4 of 16: train loss 0.61, val macro-F1 0.69, best 0.71"
    assert shown.lines() == [f"[2 of 3] Training the local path, seed 0. about 3 min left: {status}"]
    shown.now += 300
    shown.handler._update(shown.now)
    assert shown.lines() == [], "a job that has come no further is not repeated"
    shown(LogEvent.JOB_FINISHED, job_id=2)
    assert shown.lines() == ["[2 of 3] Done in 5 min 30 s: Training the local path, seed 0. (99 %, less than a minute left)"]
    shown.start(0, None)
    shown(LogEvent.JOB_FINISHED, job_id=0)
    assert shown.lines() == ["[3 of 3] Target all: all that it needs is made."]


def test_a_job_that_fails_is_the_last_line_and_what_is_done_is_kept(screen, tmp_path):
    shown = screen()
    plugin.Watched.run, plugin.Watched.workflow = SimpleNamespace(folders={"results": "results/demo"}), SimpleNamespace(dag=1, rules=[])
    shown.plan()
    shown.start(1, "Reading.", LOG)
    (tmp_path / LOG).parent.mkdir(parents=True)
    (tmp_path / LOG).write_text("2026-01-01 00:00:00,000 ERROR nuclass_pipeline.runtime: x.csv: column: is wrong. Correct it.\n")
    shown.lines()
    shown.fail(1, LOG)
    why = f"read_cells: x.csv: column: is wrong. Correct it. Log: {LOG}"
    assert shown.lines() == [f"failed: {why}"]
    shown(level=logging.ERROR, msg="Exiting because a job execution failed. Look above for error message")
    shown(LogEvent.ERROR, "At least one job did not complete successfully.", logging.ERROR, exception="WorkflowError")
    shown.handler.close()
    assert shown.lines() == [
        "",
        "0 of 3 jobs are done and kept, 1 failed, 2 were not begun.",
        "To go on where it ended: .venv/bin/snakemake --cores 2",
        f"error: {why}",
    ]


def test_a_run_that_is_refused_before_its_first_job_names_no_results(screen):
    shown = screen()
    plugin.Watched.run, plugin.Watched.workflow = SimpleNamespace(folders={"results": "results/demo"}), SimpleNamespace(dag=1, rules=[])
    shown.plan()
    shown.lines()
    shown.handler.close()
    assert shown.lines() == []


def test_a_job_that_is_tried_again_says_so_until_its_last_attempt(screen, monkeypatch):
    monkeypatch.setitem(JOBS, 1, PlannedJob(1, "read_cells", attempts=3))
    shown = screen()
    shown.plan()
    shown.lines()
    starts = []
    for _ in range(3):
        shown.start(1, "Reading.", LOG)
        shown.fail(1, LOG, "OUT_OF_MEMORY")
        shown(msg="Trying to restart job 1.")
        starts += [line.split(" read_cells")[0] for line in shown.lines() if "OUT_OF_MEMORY" in line or "restart" in line]
    assert starts == ["failed (it is tried again):", "failed (it is tried again):", "failed:"]


def test_ctrl_c_is_one_line(screen):
    shown = screen()
    shown.plan()
    shown.start(1, "Reading.", LOG)
    shown.lines()
    shown(msg="Terminating processes on user request, this might take some time.")
    shown.fail(1, LOG)
    shown(LogEvent.ERROR, "At least one job did not complete successfully.", logging.ERROR, exception="WorkflowError")
    shown.handler.close()
    assert shown.lines() == ["stopped; the same command goes on where it stopped: .venv/bin/snakemake --cores 2"]


def test_a_dry_run_is_a_table(screen):
    shown = screen(dryrun=True, stdout=True)
    shown.plan()
    assert [line.split()[:2] for line in shown.lines()][3:7] == [["read_cells", "1"], ["train_local", "1"], ["all", "1"], ["total", "3"]]
    shown.start(1, "Reading.", LOG)
    shown.plan()
    shown(msg="Reasons:\n    (check individual jobs above for details)")
    shown(msg="This was a dry-run (flag -n). The order of jobs does not reflect the order of execution.")
    shown.handler.close()
    assert shown.lines() == []


@pytest.mark.parametrize(
    ("quiet", "plan", "start", "finish"),
    [
        ({Quietness.RULES}, 3, 0, 1),
        ({Quietness.PROGRESS}, 0, 1, 0),
        ({Quietness.RULES, Quietness.PROGRESS}, 0, 0, 0),
        ({Quietness.ALL}, 0, 0, 0),
        ({Quietness.HOST}, 3, 1, 1),
    ],
)
def test_quiet_leaves_out_what_it_says(screen, quiet, plan, start, finish):
    shown = screen(quiet=quiet)
    shown.plan()
    counts = [len(shown.lines())]
    shown.start(1, "Reading.", LOG)
    counts.append(len(shown.lines()))
    shown(LogEvent.JOB_FINISHED, job_id=1, msg="Finished")
    counts.append(len(shown.lines()))
    assert counts == [plan, start, finish]


@pytest.mark.parametrize("settings", [{"verbose": True}, {"printshellcmds": True}])
def test_verbose_shows_what_snakemake_shows(screen, settings):
    shown = screen(**settings)
    shown.plan()
    assert shown.lines() == ["Job stats:", ""]
    shown.start(1, "Reading.", LOG)
    printed = shown.lines()
    assert printed[-2:] == ["Job 1: Reading.", "Reason: Missing output files: x"]
    shown(msg="Building DAG of jobs...")
    assert shown.lines() == ["Building DAG of jobs..."]


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("Unlocked working directory.", logging.INFO),
        ("Would delete x", logging.INFO),
        ("Careful.", logging.WARNING),
        ("Nothing to be done", logging.INFO),
    ],
)
def test_messages_of_other_commands_are_shown(screen, message, level):
    shown = screen()
    shown(msg=message, level=level)
    assert shown.lines() == [message]


def test_without_a_plan_the_table_is_that_of_snakemake(screen):
    shown = screen()
    shown(LogEvent.RUN_INFO, "Job stats:\njob  count\n", stats={})
    shown.start(1, "Reading.", LOG)
    shown(LogEvent.JOB_FINISHED, job_id=1, msg="Finished jobid: 1")
    printed = shown.lines()
    assert printed[:2] == ["Job stats:", "job  count"]
    assert printed[-1] == "Finished jobid: 1"


def test_a_record_that_cannot_be_shown_does_not_end_the_screen(screen):
    shown = screen()
    shown(LogEvent.JOB_FINISHED, job_id="no number")
    shown.lines()
    shown(msg="Careful.", level=logging.WARNING)
    assert shown.lines() == ["Careful."]


def test_a_broken_workflow_does_not_stop_a_run_for_its_plan(screen, monkeypatch):
    shown, warned = screen(), []
    monkeypatch.setattr(plugin.Watched, "warned", False)
    monkeypatch.setattr(plugin.Watched, "run", SimpleNamespace(config=SimpleNamespace(model_dump=lambda mode: {})))
    monkeypatch.setattr(plugin, "logger", SimpleNamespace(warning=lambda line: warned.append(line)))
    for _ in range(2):
        record = logging.makeLogRecord({"event": LogEvent.RUN_INFO, "msg": "x"})
        assert plugin._add_plan(record)
        assert not hasattr(record, "plan")
    why = "AttributeError: 'NoneType' object has no attribute 'dag'"
    assert warned == [f"The plan cannot be shown ({why}), so the screen is Snakemake's own. Please report it. The run is the same."]
    shown(msg=warned[0], level=logging.WARNING)
    assert shown.lines() == warned


def test_the_tick_ends_with_the_run(monkeypatch):
    monkeypatch.setattr(plugin, "TICK_S", 0.01)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    handler = plugin.LogHandler(OutputSettings(), None)
    handler.handle(logging.makeLogRecord({"event": LogEvent.RUN_INFO, "msg": "", "plan": Plan(JOBS, 1)}))
    (ticking,) = [thread for thread in plugin.threading.enumerate() if thread.name.endswith("(_tick)")]
    time.sleep(0.05)
    assert ticking.is_alive()
    handler.close()
    ticking.join(2)
    assert not ticking.is_alive()
