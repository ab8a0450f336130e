"""How far a job is, from the end of its log."""

import pytest

from snakemake_logger_plugin_nuclass.tails import Tail

HEAD = "2026-11-29 23:{:02d}:00,000 INFO nuclass_pipeline.runtime: "


def progress(minute, share, text):
    return f"{HEAD.format(minute)}progress {share:.2f} %: {text}\n"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "train.log"


def test_the_last_line_counts_and_the_speed_is_that_since_the_first(log):
    tail = Tail(log)
    assert not tail.look(0)
    assert tail.seconds_left(0) is None
    log.write_text(progress(0, 50, "epoch 5 of 8: begins") + "noise: progress 99 %: x\n")
    assert tail.look(10)
    assert (tail.last.text, tail.seconds_left(10)) == ("epoch 5 of 8: begins", None)
    with log.open("a") as stream:
        stream.write(progress(1, 62.5, "epoch 5 of 8: train loss 0.5") + progress(2, 75, "epoch 6 of 8: train loss 0.4"))
    assert tail.look(20)
    assert tail.last.text == "epoch 6 of 8: train loss 0.4"
    assert tail.seconds_left(20) == pytest.approx(120)
    assert tail.seconds_left(50) == pytest.approx(90)
    assert tail.seconds_left(500) == 0
    assert not tail.look(60)


def test_two_passes_of_one_job_are_one_progress(log):
    tail = Tail(log)
    log.write_text(progress(0, 0, "0 of 9 windows of 224 px") + progress(2, 50, "9 of 9 windows of 224 px"))
    tail.look(0)
    assert tail.seconds_left(0) == pytest.approx(120)
    with log.open("a") as stream:
        stream.write(progress(2, 50, "0 of 9 windows of 1024 px") + progress(3, 75, "5 of 9 windows of 1024 px"))
    tail.look(60)
    assert tail.seconds_left(60) == pytest.approx(60)


def test_the_log_of_an_earlier_run_does_not_count(log):
    log.write_text(progress(0, 100, "old"))
    tail = Tail(log)
    assert not tail.look(0)
    log.write_text(progress(9, 0, "new begins"))
    assert tail.look(1)
    assert tail.last.text == "new begins"


def test_a_second_attempt_starts_over(log):
    tail = Tail(log)
    log.write_text(progress(0, 0, "a") + progress(1, 40, "b") + "x" * 50 + "\n")
    tail.look(0)
    log.write_text(progress(5, 10, "again"))
    assert tail.look(1)
    assert (tail.last.text, tail.seconds_left(1)) == ("again", None)


def test_half_a_line_waits_for_its_end(log):
    tail, line = Tail(log), progress(0, 30, "row 3 of 10 µm")
    log.write_text(line[:-4])
    assert not tail.look(0)
    log.write_text(line)
    assert tail.look(1)
    assert tail.last.text == "row 3 of 10 µm"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00 no text\n", b"2026-99-99 99:99:99,000 INFO a: progress 5 %: x\n", b"progress 5 %: x\n", b""]
)
def test_what_is_no_progress_is_passed_over(log, content):
    tail = Tail(log)
    log.write_bytes(content)
    assert not tail.look(0)


def test_a_huge_log_is_read_from_its_end(log):
    tail = Tail(log)
    log.write_text("x" * 99 + "\n" + "noise\n" * 400_000 + progress(3, 80, "late"))
    assert tail.look(0)
    assert tail.last.text == "late"


def test_a_log_that_cannot_be_read_is_no_error(tmp_path):
    (tmp_path / "folder.log").mkdir()
    for path in (None, tmp_path / "missing/x.log", tmp_path / "folder.log"):
        tail = Tail(path)
        (tmp_path / "folder.log/file").touch()
        assert not tail.look(0)
        assert tail.seconds_left(0) is None
