"""Failures of the machine, as libraries report them, in one line with the file and a remedy."""

import errno
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from nuclass_pipeline import errors
from nuclass_pipeline.errors import explain_full_disk, explain_machine, explain_memory, memory_limit_mb
from nuclass_pipeline.expression.partitions import worker_pool

HDF5 = "Unable to create file (unable to open file: name = '/x/y.h5', errno = 13, error message = 'Permission denied')"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "a/b: file: No space left on device. Free space on that disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x/cells.parquet"), "x/cells.parquet: file: Disk quota exceeded. Free space"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: file: Read-only file system. Work on a disk that can be written"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: file: Permission denied. Give yourself the right"),
        (
            OSError(errno.EMFILE, "Too many open files", "x"),
            "x: file: Too many open files. Raise the limit on open files: `ulimit -n 8192`",
        ),
        (OSError(HDF5), "/x/y.h5: file: Permission denied. "),
        (
            OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
            "a/b: file: No space left on device",
        ),
        (RuntimeError("file write failed: time = now, errno = 28, error message = 'No space left on device'"), "a/b: file: No space left"),
        (OSError(errno.ENOSPC, "No space", "x/.a.b.12-0f-host.org.partial.h5"), "x/a.b.h5: file: No space left on device"),
        (OSError(errno.ENOSPC, "No space", "x/..a.12-0f-h.partial.12-1f-h.partial.h5"), "x/a.h5: file: No space left on device"),
    ],
)
def test_a_failure_of_the_machine_names_the_file_and_a_remedy(error, expected):
    assert str(explain_machine(error, "a/b")).startswith(expected)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file", "x"), ValueError("x"), RuntimeError("errno = 2")])
def test_other_errors_are_left_alone(error):
    assert explain_machine(error, "a/b") is None
    assert explain_memory(error) is None


def allocate(make):
    with pytest.raises((MemoryError, RuntimeError)) as refusal:
        make()
    return refusal.value


def test_too_little_memory_has_its_limit():
    torch = pytest.importorskip("torch")
    for error in (allocate(lambda: np.zeros(10**14)), allocate(lambda: torch.zeros(10**14)), MemoryError()):
        assert str(explain_memory(error)).startswith(f"memory: limit: {memory_limit_mb()} MB are not enough")
    gpu = RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …")
    assert "Reduce `batch_size`" in str(explain_memory(gpu))


def test_a_worker_that_the_system_kills_was_out_of_memory():
    with worker_pool(2) as submit, pytest.raises(RuntimeError) as end:
        submit(os.kill, submit(os.getpid)(), signal.SIGKILL)()
    assert "MB are not enough" in str(explain_memory(end.value))


def test_the_limit_is_the_least_that_holds():
    code = "from nuclass_pipeline.errors import memory_limit_mb; print(memory_limit_mb())"
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (900 * 10**6, 900 * 10**6))  # noqa: E731
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 900
    assert memory_limit_mb() > 900


def test_a_disk_without_room_for_a_log_is_full(tmp_path, monkeypatch):
    assert explain_full_disk([tmp_path, tmp_path / "none"]) is None
    monkeypatch.setattr(errors, "_ROOM_BYTES", 10**18)
    assert "No space left on device" in str(explain_full_disk([tmp_path]))
