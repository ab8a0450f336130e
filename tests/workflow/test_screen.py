"""The screen of real runs of a small workflow: plan, lines, progress on a terminal, summary, Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

SNAKEFILE = """\
from types import SimpleNamespace
from snakemake_logger_plugin_nuclass import watch

watch(workflow, SimpleNamespace(config=SimpleNamespace(model_dump=lambda mode: config), folders={"results": "results/small"}))

rule all:
    input: expand("results/small/{n}.txt", n=["count", "a", "b", "c"])

rule read:
    output: "results/small/{slide}.cells"
    log: "logs/small/read/{slide}.log"
    benchmark: "benchmarks/small/read/{slide}.tsv"
    message: "Reading the cells of {wildcards.slide}."
    resources: gpu=1
    shell: "printf '2026-01-01 00:00:00,000 INFO a: progress 50.00 %%: 5 of 10 rows\\n' > {log}; sleep {config[seconds]}; touch {output}"

rule label:
    input: "results/small/{slide}.cells"
    output: "results/small/{slide}.txt"
    params: config=config["labeling"]
    message: "Labeling {wildcards.slide}."
    shell: "touch {output}"

rule count:
    input: expand("results/small/{slide}.txt", slide=["a", "b", "c"])
    output: "results/small/count.txt"
    message: "Counting."
    shell: "touch {output}"
"""


class Small:
    """A small workflow in a folder."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "Snakefile").write_text(SNAKEFILE)
        self.configure()

    def configure(self, seconds=0, least=0.5):
        (self.folder / "config.yaml").write_text(f"seconds: {seconds}\nlabeling: {{least: {least}, depth: 2}}\n")

    def start(self, *arguments, **options):
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--logger",
            "nuclass",
            "--cores",
            "2",
            "--nolock",
            *arguments,
            "--configfile=config.yaml",
        ]
        # Ctrl-C is heard, because a test suite in the background hands on that it is ignored.
        hearing = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}
        return subprocess.Popen(command, cwd=self.folder, text=True, start_new_session=True, **hearing, **options)

    def run(self, *arguments):
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        printed, _ = process.communicate()
        return process.returncode, [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in printed.splitlines()]


def plain(text):
    """Return what a terminal got, without its codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


@pytest.mark.long
def test_a_run_its_plan_and_its_reasons(small):
    code, printed = small.run()
    assert code == 0
    assert printed[:2] == ["8 jobs:", "  new: read ×3, label ×3, count"]
    assert len(printed) == 2 + 2 * 7 + 1 + 2
    assert "[1 of 8] Reading the cells of a. Log: logs/small/read/a.log" in [
        re.sub(r"\d of 8", "1 of 8", line).replace(" of b", " of a") for line in printed
    ]
    assert any(re.fullmatch(r"\[\d of 8\] Done in \d s: Reading the cells of a\. \(\d+ %.*\)", line) for line in printed)
    assert printed[-3] == "[8 of 8] Target all: all that it needs is made."
    assert re.fullmatch(r"Done: 8 jobs in \d+ s\.", printed[-2])
    assert printed[-1] == "Results: results/small"

    code, printed = small.run()
    assert printed == ["Nothing to be done (all requested files are present and up to date).", "Results: results/small"]

    small.configure(least=0.6)
    (small.folder / "results/small/c.cells").unlink()
    code, printed = small.run("-n")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in printed if line}
    assert rows["read"] == "1 c c.cells is missing"
    assert rows["label"] == "3 a, b +1 `labeling.least` changed (0.5 → 0.6)"
    assert rows["count"] == "1 a.txt and 2 other files are made again"
    assert rows["total"] == "6"
    assert not [line for line in printed if re.search("Reason|jobid|resources|input:", line)]

    code, printed = small.run("results/small/a.txt")
    assert printed[-1] == "Made: results/small/a.txt"


@pytest.mark.parametrize(("limit", "time"), [(["--resources", "gpu=1"], "about 60 min"), ([], "about 20 min")])
def test_the_time_of_a_plan_counts_the_gpus(small, limit, time):
    times = [small.folder / f"benchmarks/small/read/{slide}.tsv" for slide in "abc"]
    times[0].parent.mkdir(parents=True)
    for path in times:
        path.write_text("s\n1200\n")
    _, printed = small.run("-n", "--cores", "32", *(f"results/small/{slide}.cells" for slide in "abc"), *limit)
    assert [line.split(maxsplit=2) for line in printed if line.startswith("total")] == [["total", "3", time]]


@pytest.mark.long
def test_a_terminal_shows_what_runs_and_ctrl_c_is_the_last_line(small):
    small.configure(seconds=60)
    ours, theirs = pty.openpty()
    process = small.start(stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"})
    os.close(theirs)
    shown, end = "", time.monotonic() + 60
    board = r"\[\d of 8\] Reading the cells of [abc]\. \d+ s so far\s+5 of 10 rows\s+0 of 8 jobs done in \d+ s: 0 %"
    # The whole board, because a terminal may hand over a part of it.
    while not re.search(board, plain(shown)) and time.monotonic() < end:
        shown += os.read(ours, 65536).decode(errors="replace")
    assert re.search(board, plain(shown))
    os.killpg(process.pid, signal.SIGINT)
    try:
        while part := os.read(ours, 65536).decode(errors="replace"):
            shown += part
    except OSError:  # The terminal ends with the run.
        pass
    assert process.wait() == 1
    last = [line for line in plain(shown).splitlines() if line.strip()][-1]
    assert last.startswith("stopped; the same command goes on where it stopped: python -m snakemake --logger nuclass --cores 2")
    assert "Traceback" not in shown
