"""Why a job failed, from its log and from what it printed before."""

from types import SimpleNamespace

import pytest

from snakemake_logger_plugin_nuclass.failures import find_cause

JOB = "2026-01-01 00:00:00,000 ERROR nuclass_pipeline.runtime: memory: limit: 8000 MB are not enough ({}). Run fewer jobs.\n"
NUMPY = "Unable to allocate 745. GiB for an array with shape (100000000000,) and data type float64"
TORCH = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
ABORT = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nFatal Python error: Aborted\n\nStack\n"


def cause(tmp_path, text, printed="", **options):
    log = tmp_path / "logs/a.log"
    if text is not None:
        log.parent.mkdir()
        log.write_text(text)
    record = SimpleNamespace(rule_name="work", rule_msg=None, log=[str(log)])
    begun = SimpleNamespace(resources=SimpleNamespace(mem_mb=2000), **options)
    return find_cause(record, begun, printed), log.read_text()


@pytest.mark.parametrize(
    ("text", "printed", "expected"),
    [
        (JOB.format("MemoryError"), "", "out of memory (MemoryError): requested 2000 MB, limit 8000 MB. Run fewer jobs at once"),
        (JOB.format(NUMPY), "", f"out of memory ({NUMPY}): requested 2000 MB, limit 8000 MB. Run"),
        (JOB.format(TORCH), "", f"out of memory ({TORCH}): requested 2000 MB, limit 8000 MB. Run"),
        (ABORT, "", "out of memory (std::bad_alloc): requested 2000 MB, limit "),
        ("a line\n", "", "killed, probably out of memory: requested 2000 MB, limit "),
        ("", "", "killed, probably out of memory: requested 2000 MB, limit "),
        ("", "error: a: file: No space left on device. Free it.\n", "a: file: No space left on device. Free it."),
        (None, "", "ended before its log began, probably out of memory: requested 2000 MB, limit "),
        (None, "Traceback\nImportError: x.so: failed to map segment from shared object\n", "out of memory (ImportError: x.so: failed to"),
        (None, "error: a: file: Permission denied. Do it.\n", "a: file: Permission denied. Do it."),
        (None, "Traceback\nImportError: No module\n", "ended before its log began: ImportError: No module"),
        ("Fatal Python error: Segmentation fault\n", "", "crashed (Segmentation fault). Please report it with this log."),
    ],
)
def test_the_cause_is_one_line_and_the_last_of_the_log(tmp_path, text, printed, expected):
    found, log = cause(tmp_path, text, printed)
    assert found.startswith(expected)
    assert log.splitlines()[-1].endswith(f" ERROR snakemake_logger_plugin_nuclass.failures: work: {found}")


def test_the_log_of_an_earlier_run_is_not_that_of_the_job(tmp_path):
    found, log = cause(tmp_path, JOB.format("MemoryError"), created=4e9)
    assert found.startswith("ended before its log began, probably out of memory: requested 2000 MB")
    assert len(log.splitlines()) == 1
