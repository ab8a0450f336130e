import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nuclass_pipeline import runtime
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.runtime import claim, job, paths, pick_device
from snakemake_logger_plugin_nuclass.tails import Tail


class Files(list):
    """A Snakemake list of files with names."""

    def items(self):
        return {"one": "a.txt", "many": ["b.txt", "c.txt"]}.items()


def test_names_of_a_rule_are_arguments_of_its_stage(tmp_path):
    found = paths(Files())
    assert (found["one"].name, [path.name for path in found["many"]]) == ("a.txt", ["b.txt", "c.txt"])


def test_hardware_comes_from_the_resources():
    resources = type("Resources", (), {"gpu": 1, "precision": "bf16-mixed", "workers": 3, "cache_gb": 7})
    assert Compute.of(resources, 6) == Compute(gpu=1, precision="bf16-mixed", workers=3, cache_gb=7, threads=6)
    several = type("Resources", (), {"gpu": 4, "devices": 4})
    assert Compute.of(several) == Compute(gpu=1, devices=4, threads=1)


def run_job(tmp_path, body, **options):
    imports = "import os, signal, sys\nfrom nuclass_pipeline.runtime import job\nfrom nuclass_pipeline.errors import UserError\n"
    # By default ignored in a process in the background, and then also in its children.
    imports += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code = f"{imports}with job(sys.argv[1], 1):\n    {body}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a/log")], capture_output=True, text=True, check=False, timeout=60, **options
    )
    return done, (tmp_path / "a/log").read_text()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise UserError('x.csv', 'col', 'is wrong', 'Correct it.')", "x.csv: col: is wrong. Correct it."),
        ("open('/dev/full', 'w').write('x' * 10**5)", "No space left on device. Free space on that disk"),
        ("raise MemoryError", "MB are not enough (MemoryError). Run fewer jobs at once"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "stopped from outside. Run again to continue."),
        ("os.kill(os.getpid(), signal.SIGINT)", "stopped from outside. Run again to continue."),
    ],
)
def test_the_last_line_of_a_log_says_why_in_one_line(tmp_path, body, line):
    done, log = run_job(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert " ERROR nuclass_pipeline.runtime: " in log.splitlines()[-1]
    assert line in log.splitlines()[-1]
    assert "Traceback" not in log


def test_a_bug_keeps_its_traceback_above_the_last_line(tmp_path):
    done, log = run_job(tmp_path, "1 / 0")
    assert (done.returncode, done.stderr) == (1, "")
    assert "Traceback" in log
    assert log.splitlines()[-1].endswith("unexpected ZeroDivisionError: division by zero. Please report it with this log.")


def test_a_crash_leaves_its_name(tmp_path):
    done, log = run_job(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in log


def test_where_no_log_can_be_written_the_line_is_on_the_terminal(tmp_path):
    (tmp_path / "a").touch()
    code = "from nuclass_pipeline.runtime import job\nwith job('/dev/full/log', 1):\n    pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    code = "from nuclass_pipeline.runtime import job\nwith job('/dev/full', 1):\n    raise MemoryError"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MB are not enough" in done.stderr


HOLD = """
import sys, time
from nuclass_pipeline.runtime import claim
claim('results/demo', 'logs/demo')
print('held', flush=True)
time.sleep(60)
"""


def test_a_run_is_held_until_its_process_ends_however_it_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to("disk")
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"results/demo: run: process {holder.pid} on .* works on it. Wait until it ends, or stop it."):
        claim("results/demo")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    claim("results/demo")


def test_children_of_a_run_do_not_hold_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    child = "import subprocess; subprocess.Popen(['sleep', '60'])"
    subprocess.run([sys.executable, "-c", HOLD.replace("time.sleep(60)", child)], check=True, stdout=subprocess.DEVNULL)
    claim("results/demo")


def test_folders_that_cannot_be_written_are_one_line(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(runtime.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"results: file: Permission denied\. Give yourself the right"):
        claim(tmp_path / "results")


def test_a_disk_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(runtime.fcntl, "flock", refuse)
    claim(tmp_path / "results")
    assert "this disk offers no locks" in caplog.text


def test_prints_go_to_the_log(tmp_path, capsys):
    with job(tmp_path / "log", 1):
        print("hello")
    first, last = (tmp_path / "log").read_text().splitlines()
    assert first == "hello"
    assert last.endswith("finished in 0.0 s")
    assert capsys.readouterr().out == ""


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(0) == "cpu"
    with pytest.raises(UserError, match=r"compute\.gpu: is 1, but torch finds no GPU"):
        pick_device(1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device(1, devices=2) == "cuda"
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=r"compute\.devices: is 3, but torch finds 2 GPUs\. Set it to 2\.$"):
        pick_device(1, devices=3)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with pytest.raises(UserError, match=r"Set it to 2\. On a cluster, .* `--resources gpu=3`"):
        pick_device(1, devices=3)


def test_a_folder_that_is_read_is_shared_and_one_that_is_written_is_not(tmp_path):
    claim(tmp_path / "slides", shared=True)
    claim(tmp_path / "slides", shared=True)
    with pytest.raises(UserError, match=r"slides: run: another process works on it\. Wait until it ends, or stop it\."):
        claim(tmp_path / "slides")
    claim(tmp_path / "others")
    with pytest.raises(UserError, match=r"others: run: process \d+ on \S+ works on it\. Wait until it ends, or stop it\."):
        claim(tmp_path / "others", shared=True)


@pytest.fixture
def read_only(monkeypatch):
    """Refuse to write files, as a folder of another user does; by hand, because a test may run as a user who may write anywhere."""
    real = os.open

    def refuse(path, flags, *mode, **options):
        if flags & (os.O_WRONLY | os.O_RDWR) or not Path(path).exists():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *mode, **options)

    def start():
        monkeypatch.setattr(runtime.os, "open", refuse)
        monkeypatch.setattr(runtime.os, "truncate", lambda path, _: refuse(path, os.O_WRONLY))

    return start


def test_a_read_only_folder_is_shared_and_its_lock_holds(tmp_path, read_only, monkeypatch, caplog):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides/.lock").touch()
    read_only()
    claim(tmp_path / "slides", shared=True)
    with pytest.raises(UserError, match=r"Permission denied\. Give yourself the right"):
        claim(tmp_path / "slides")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"slides: run: another process works on it\."):
        claim(tmp_path / "slides")
    assert caplog.messages == []


def test_a_read_only_folder_without_a_lock_is_shared_with_a_warning(tmp_path, read_only, caplog):
    read_only()
    (tmp_path / "slides").mkdir()
    claim(tmp_path / "slides", shared=True)
    line = "slides: it is read-only and holds no .lock, so another run could change it while this one reads it"
    assert caplog.messages == [f"{tmp_path}/{line}"]
    assert list((tmp_path / "slides").iterdir()) == []


def test_a_read_only_folder_on_which_its_run_works_is_not_shared(tmp_path, read_only):
    claim(tmp_path / "slides")
    read_only()
    with pytest.raises(UserError, match=r"slides: run: process \d+ on \S+ works on it\."):
        claim(tmp_path / "slides", shared=True)


def test_progress_is_logged_at_the_start_at_the_end_and_every_ten_seconds(monkeypatch, caplog):
    clock = iter([0, 4, 9, 12, 12, 15, 21, 23, 23, 24])
    monkeypatch.setattr(runtime.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(runtime.track("abcdefg", 1300, "cells", 200)) == list("abcdefg")
    assert caplog.messages == [
        "progress 0.00 %: 0 of 1,300 cells",
        "progress 46.15 %: 600 of 1,300 cells",
        "progress 92.31 %: 1,200 of 1,300 cells",
        "progress 100.00 %: 1,300 of 1,300 cells",
    ]


def test_a_part_of_a_job_is_tracked_from_its_begin_to_its_end(caplog):
    with caplog.at_level(logging.INFO):
        assert list(runtime.track("ab", 2, "cells", part=(0.5, 0.75))) == ["a", "b"]
    assert caplog.messages == ["progress 50.00 %: 0 of 2 cells", "progress 75.00 %: 2 of 2 cells"]


def test_nothing_to_track_is_no_error(caplog):
    assert list(runtime.track([], 0, "cells")) == []


def test_what_is_logged_is_what_the_screen_reads(tmp_path):
    tail = Tail(tmp_path / "a/log")
    run_job(tmp_path, "from nuclass_pipeline.runtime import log_progress; log_progress(0.446, '4,096 of 9,188 µm')")
    assert tail.look(0)
    assert (tail.last.share, tail.last.text) == (0.446, "4,096 of 9,188 µm")
