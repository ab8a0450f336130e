"""Snakemake on the screen, with its errors last: one line each.

`profiles/default` chooses it by its name; Snakemake's own log below `.snakemake/log` stays complete.
"""

import sys
from collections.abc import Iterable
from logging import LogRecord
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_nuclass.explain import explain_error, explain_job, wrong_run_file

TARGETS: list[str] = []
"""What can be typed as a target, for the line about a name that cannot."""


def name_targets(names: Iterable[str]) -> None:
    """Keep the names that can be typed as a target."""
    TARGETS[:] = names


class LogHandler(LogHandlerBase):
    """The screen of a run: errors of jobs at once and again at the end, other errors only at the end."""

    writes_to_stream, writes_to_file = True, False
    has_filter, has_formatter, needs_rulegraph = True, True, False

    def __post_init__(self) -> None:
        # Here, because Snakemake would open a pipe for ever, run the code of a template, and read a huge file for minutes.
        if line := wrong_run_file(sys.argv):
            raise SystemExit(f"error: {line}")
        shown = self.common_settings
        self.screen = ColorizingTextHandler(shown.nocolor, sys.stdout if shown.stdout else sys.stderr)
        self.screen.setFormatter(DefaultFormatter(shown.quiet))
        self.screen.addFilter(DefaultFilter(shown.quiet, shown.debug_dag, shown.verbose, shown.dryrun, shown.printshellcmds))
        self.jobs: dict[int, Any] = {}
        self.failed: dict[int, str] = {}
        self.errors: list[str] = []

    def emit(self, record: LogRecord) -> None:
        """Show a record, or keep it for the end if it is an error."""
        event, job = getattr(record, "event", None), int(getattr(record, "jobid", getattr(record, "job_id", -1)))
        if event == LogEvent.JOB_INFO:
            self.jobs[job] = record
        elif event == LogEvent.JOB_FINISHED:
            self.failed.pop(job, None)  # An earlier attempt may have failed.
        if event == LogEvent.JOB_ERROR:
            self.failed[job] = explain_job(record, self.jobs.get(job))
            self._show(f"failed: {self.failed[job]}")
        elif event == LogEvent.ERROR:
            self._keep(record)
        elif self.screen.filter(record):
            self.screen.emit(record)

    def _keep(self, record: LogRecord) -> None:
        text = record.getMessage()
        if self.common_settings.verbose:
            self._show(text)
        if (line := explain_error(text, getattr(record, "exception", ""), TARGETS)) and line not in self.errors:
            self.errors.append(line)

    def _show(self, text: str) -> None:
        print(text, file=self.screen.stream, flush=True)

    def close(self) -> None:
        """Print the errors, after all else."""
        lines = [*self.failed.values(), *self.errors]
        if len(lines) > 1:
            print(f"\n{len(lines)} errors:", file=sys.stderr)
        for line in lines:
            print(f"error: {line}", file=sys.stderr, flush=True)
        self.failed, self.errors = {}, []  # Closed twice, because Python closes what Snakemake has closed.
        super().close()
