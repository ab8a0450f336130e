"""Lines that stay, and on a terminal lines that change."""

import io

from rich.console import Console

from snakemake_logger_plugin_nuclass.screen import Screen


def test_a_pipe_gets_whole_lines_and_no_codes():
    stream = io.StringIO()
    screen = Screen(stream, color=True)
    screen.show(["running"])
    screen.line("x" * 300, "red")
    screen.close()
    assert stream.getvalue() == "x" * 300 + "\n"


def test_a_terminal_shows_what_runs_below_what_stays():
    stream = io.StringIO()
    screen = Screen(stream, color=False)
    screen.console = Console(file=stream, force_terminal=True, width=40, height=5, no_color=True, _environ={"TERM": "xterm"})
    screen.show([f"job {number} {'x' * 60}" for number in range(9)] + ["9 of 12 jobs"])
    shown = stream.getvalue()
    assert "job 1 xxx" in shown
    assert "job 2" not in shown
    assert shown.rstrip().endswith("9 of 12 jobs")
    screen.line("[1 of 12] Done.")
    assert "[1 of 12] Done." in stream.getvalue()
    screen.close()
    screen.line("last")
    assert stream.getvalue().rstrip().endswith("last")
