"""Snakemake on the screen: the plan, a line when a job begins and ends, how far it is, a summary, and errors last.

`profiles/default` chooses it by its name; Snakemake's own log below `.snakemake/log` stays complete. With `--verbose` or
`--printshellcmds` the screen shows what Snakemake itself shows.
"""

import logging
import re
import sys
import threading
import time
from contextlib import suppress
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake.logging import DefaultFilter, DefaultFormatter, logger
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_nuclass.board import Board
from snakemake_logger_plugin_nuclass.ending import requested_files, same_command, summarize
from snakemake_logger_plugin_nuclass.explain import explain_error, explain_job, wrong_run_file
from snakemake_logger_plugin_nuclass.plan import Plan, make_plan
from snakemake_logger_plugin_nuclass.processes import Output, begin_jobs, end_jobs
from snakemake_logger_plugin_nuclass.screen import Screen, error
from snakemake_logger_plugin_nuclass.times import duration

TICK_S = 1.0
HIDDEN = re.compile(
    r"Building DAG|Assuming unrestricted|Using (shell|workflow specific|profile)|Singularity containers|Conda environments|Group jobs"
    r"|Select jobs|Complete log|Elapsed time|Reasons:|The code used|At least one job|Removing output files|Shutting down|Exiting because"
    r"|The order of jobs|This was a dry-run|Terminating processes|Provided |Rules claiming|SLURM run ID|Job \d+ has been submitted"
    r"|\d+ jobs have (missing|outdated) provenance|Rules with (missing|outdated|provenance)|Some jobs were triggered|Trying to restart job"
)
"""Messages of Snakemake that its log keeps and the screen leaves out."""
HIDDEN_EVENTS = {
    LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.JOB_STARTED, LogEvent.PROGRESS, LogEvent.RULEGRAPH, LogEvent.SHELLCMD,
}  # fmt: skip
NOTHING = "Nothing to be done"
STOPPED = "Terminating processes on user request"


class Watched:
    """The workflow that this process runs, for the plan and the summary.

    Attributes
    ----------
    workflow, run
        Snakemake's workflow, and its run file.
    warned
        Whether a warning has said that there is no plan.
    shown
        Whether this plugin is the screen.
    """

    workflow: Any = None
    run: Any = None
    warned: bool = False
    shown: bool = False

    @classmethod
    def targets(cls) -> list[str]:
        """Return what can be typed as a target, for the line about a name that cannot."""
        return ["all", *(rule.name for rule in cls.workflow.rules)] if cls.workflow else []

    @classmethod
    def has_plan(cls) -> bool:
        """Return whether the workflow has come as far as its graph of jobs."""
        return cls.workflow is not None and cls.workflow.dag is not None


def watch(workflow: Any, run: Any) -> None:
    """Name the workflow that the screen is about."""
    Watched.workflow, Watched.run = workflow, run
    logger.addFilter(_add_plan)


def _add_plan(record: LogRecord) -> bool:
    """Give the record about the number of jobs the whole plan, in the thread that made it."""
    if getattr(record, "event", None) == LogEvent.RUN_INFO and not hasattr(record, "plan"):
        try:
            record.plan = make_plan(Watched.workflow, Watched.run.config.model_dump(mode="json"))
        except Exception as error:  # Snakemake's own table is shown instead; the run itself does not depend on the screen.
            logging.getLogger(__name__).debug("no plan", exc_info=True)
            _warn(error)
        if Watched.shown and not getattr(Watched.workflow, "dryrun", True):  # Else nothing would end the jobs at Ctrl-C.
            begin_jobs(Path(".snakemake/log").absolute())
    return True


def _warn(error: Exception) -> None:
    """Log that there is no plan, once, because a dry run gives the number of jobs twice."""
    from nuclass_pipeline.errors import first_line

    if not Watched.warned:
        what = f"{type(error).__name__}: {first_line(error)}"
        logger.warning(f"The plan cannot be shown ({what}), so the screen is Snakemake's own. Please report it. The run is the same.")
    Watched.warned = True


class LogHandler(LogHandlerBase):
    """The screen of a run."""

    writes_to_stream, writes_to_file = True, False
    has_filter, has_formatter, needs_rulegraph = True, True, False

    def __post_init__(self) -> None:
        # Here, because Snakemake would open a pipe for ever, run the code of a template, and read a huge file for minutes.
        if line := wrong_run_file(sys.argv):
            raise SystemExit(f"error: {line}")
        shown = self.common_settings
        self.screen = Screen(sys.stdout if shown.stdout else sys.stderr, not shown.nocolor)
        self.setFormatter(DefaultFormatter(shown.quiet))
        self.wanted = DefaultFilter(shown.quiet, shown.debug_dag, shown.verbose, shown.dryrun, shown.printshellcmds)
        self.full = shown.verbose or shown.printshellcmds or shown.debug_dag
        self.silent = bool({Quietness.ALL, Quietness.PROGRESS} & set(shown.quiet or ()))
        self.jobs: dict[int, Any] = {}
        self.failed: dict[int, str] = {}
        self.errors: list[str] = []
        self.board: Board | None = None
        self.output, Watched.shown = Output(), True
        self.stopped = self.nothing = False
        self.ended = threading.Event()
        self.begun = time.monotonic()

    def emit(self, record: LogRecord) -> None:
        """Show a record, or keep it for the end if it is an error."""
        try:
            self._take(record)
        except Exception:  # An error here would end the thread that shows all that follows.
            self.handleError(record)

    def _take(self, record: LogRecord) -> None:
        event, job = getattr(record, "event", None), int(getattr(record, "jobid", getattr(record, "job_id", -1)))
        if event == LogEvent.ERROR:
            self._keep(record)
        elif event == LogEvent.JOB_ERROR:
            self._fail(record, job)
        else:
            self._note(record, event)
            line = self._line(record, event, job)
            if line is not None and self.wanted.filter(record):
                self._show(line, {"WARNING": "yellow", "ERROR": "red"}.get(record.levelname, ""))

    def _note(self, record: LogRecord, event: Any) -> None:
        message = str(record.msg)
        if message.startswith(STOPPED) and not self.stopped:
            self.stopped = True
            threading.Thread(target=end_jobs, args=[self.ended], daemon=True).start()
        self.nothing |= message.startswith(NOTHING)
        if event == LogEvent.RUN_INFO and self.board is None:
            self._begin(getattr(record, "plan", None))

    def _begin(self, plan: Plan | None) -> None:
        if plan is None:
            self.full = True
            return
        self.board = Board(plan, time.monotonic())
        if not self.common_settings.dryrun and not self.silent:
            threading.Thread(target=self._tick, daemon=True).start()

    def _line(self, record: LogRecord, event: Any, job: int) -> str | None:
        """Return what the screen shows of a record, or nothing."""
        short = self._follow(record, event, job)
        return self.format(record) if self.full else short

    def _follow(self, record: LogRecord, event: Any, job: int) -> str | None:
        now, dryrun = time.monotonic(), self.common_settings.dryrun
        if event == LogEvent.JOB_INFO:
            self.jobs[job] = record
            return _at(self.board.start(record, now)) if self.board and not dryrun else None
        if event == LogEvent.JOB_FINISHED:
            self.failed.pop(job, None)  # An earlier attempt may have failed.
            line = self.board.finish(job, now) if self.board else None
            return _at(line) if line else None
        if event == LogEvent.RUN_INFO and self.board:
            # Once, because a dry run ends with the same table.
            plan: Plan = record.plan  # type: ignore[attr-defined]
            return None if self.jobs else "\n".join(plan.table() if dryrun else plan.summary())
        if event in HIDDEN_EVENTS or HIDDEN.match(str(record.msg)):
            return None
        return self.format(record)

    def _fail(self, record: LogRecord, job: int) -> None:
        again = self.board is not None and self.board.fail(job)
        if not self.stopped:
            self.failed[job] = explain_job(record, self.jobs.get(job), self.output.news())
            self._show(_at(f"failed{' (it is tried again)' if again else ''}: {self.failed[job]}"), "yellow" if again else "red")

    def _keep(self, record: LogRecord) -> None:
        text = record.getMessage()
        if self.common_settings.verbose:
            self._show(text)
        if (line := explain_error(text, getattr(record, "exception", ""), Watched.targets())) and line not in self.errors:
            self.errors.append(line)

    def _tick(self) -> None:
        """Show how far the running jobs are, until the end."""
        with suppress(OSError):  # The terminal may be closed before the run ends.
            while not self.ended.wait(TICK_S):
                with self.lock:  # type: ignore[union-attr]
                    self._update(time.monotonic())

    def _update(self, now: float) -> None:
        if self.board is None or self.ended.is_set():
            return
        self.board.look(now)
        if self.screen.is_live:
            self.screen.show(self.board.lines(now))
        else:
            for line in self.board.news(now):
                self._show(_at(line))

    def _show(self, text: str, style: str = "") -> None:
        self.screen.line(text, style)

    def close(self) -> None:
        """Print the summary and the errors, after all else."""
        # Locked, because an update that is under way would show its lines again.
        with self.lock:  # type: ignore[union-attr]
            self.ended.set()
            self.screen.close()
        self.output.close()
        lines = [*self.failed.values(), *self.errors]
        if self.stopped:
            error(f"stopped; the same command goes on where it stopped: {same_command(sys.argv)}")
        else:
            for line in self._ending(bool(lines)):
                self._show(line)
            if len(lines) > 1:
                error(f"\n{len(lines)} errors:")
            for line in lines:
                error(f"error: {line}")
        # Closed twice, because Python closes what Snakemake has closed.
        self.failed, self.errors, self.board, self.nothing, self.stopped = {}, [], None, False, False
        super().close()

    def _ending(self, failed: bool) -> list[str]:
        if self.silent or self.common_settings.dryrun or not (self.board or self.nothing) or not Watched.has_plan():
            return []
        done = len(self.board.rest.finished) if self.board else 0
        if failed:
            return self._kept(done) if self.board else []
        if self.board and not done and not self.nothing:  # It ended before its first job.
            return []
        made = f"Done: {done} job{'s' if done != 1 else ''} in {duration(time.monotonic() - self.begun)}." if done else ""
        return summarize(requested_files(Watched.workflow.dag), Path(Watched.run.folders["results"]), made)

    def _kept(self, done: int) -> list[str]:
        total = len(self.board.jobs) if self.board else 0
        kept = f"{done} of {total} jobs are done and kept, {len(self.failed)} failed, {total - done - len(self.failed)} were not begun."
        return ["", kept, f"To go on where it ended: {same_command(sys.argv)}"]


def _at(line: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {line}"
