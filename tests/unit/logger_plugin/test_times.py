"""Estimates of the time left, from earlier runs and from this one."""

import pytest

from snakemake_logger_plugin_nuclass import times
from snakemake_logger_plugin_nuclass.times import PlannedJob, Rest, about, duration, read_times


def jobs(*rows):
    return {row.number: row for row in rows}


def test_times_come_from_the_job_itself_and_from_its_rule_in_any_run(tmp_path):
    for name, seconds in {"demo/train/seed-0": 100, "demo/train/seed-1": 200, "mine/train/seed-0": 600, "demo/plot": 4}.items():
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:0:0\n")
    assert read_times(str(tmp_path / "demo/train/seed-1.tsv"), "train") == (200, 300)
    assert read_times(str(tmp_path / "demo/train/seed-7.tsv"), "train") == (None, 300)
    assert read_times(str(tmp_path / "other/plot.tsv"), "plot") == (None, 4)
    assert read_times(None, "all") == (None, None)


def test_the_files_of_a_rule_are_read_once_for_all_its_jobs(tmp_path, monkeypatch):
    read, mean = [], times._mean
    monkeypatch.setattr(times, "_mean", lambda paths: read.extend(paths) or mean(paths))
    paths = [tmp_path / f"demo/train/seed-{seed}.tsv" for seed in range(40)]
    paths[0].parent.mkdir(parents=True)
    for path in paths:
        path.write_text("s\n30\n")
    assert {read_times(str(path), "train") for path in paths} == {(30, 30)}
    assert len(read) == 2 * len(paths)


@pytest.mark.parametrize("text", ["", "s\n", "s\tx\nabc\t1\n", "x\n1\n"])
def test_a_broken_benchmark_is_no_time(tmp_path, text):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/plot.tsv").write_text(text)
    assert read_times(str(tmp_path / "demo/plot.tsv"), "plot") == (None, None)


def test_cores_share_the_work_and_a_chain_is_one_after_the_other():
    plan = jobs(*(PlannedJob(number, "a", seconds=100) for number in range(4)))
    assert Rest(plan, cores=2).estimate({}, {}) == (0, 200)
    chain = jobs(*(PlannedJob(number, "a", seconds=100, after=(number - 1,) if number else ()) for number in range(4)))
    assert Rest(chain, cores=2).estimate({}, {}) == (0, 400)
    assert Rest(chain, cores=None).estimate({}, {}) == (0, 400)
    wide = jobs(PlannedJob(0, "a", threads=8, seconds=100), PlannedJob(1, "a", threads=8, seconds=100))
    assert Rest(wide, cores=2).estimate({}, {}) == (0, 200)


@pytest.mark.parametrize(("gpus", "seconds"), [(1, 4 * 3600), (2, 2 * 3600), (None, 3600)])
def test_jobs_with_a_gpu_wait_for_each_other(gpus, seconds):
    plan = jobs(*(PlannedJob(number, "train", threads=2, gpus=1, seconds=3600) for number in range(4)))
    assert Rest(plan, cores=32, gpus=gpus).estimate({}, {}) == (0, seconds)
    assert Rest(plan, cores=32, gpus=gpus, finished={0: 3600, 1: 3600}).estimate({2: 1800}, {})[1] == max(seconds * 3 / 8, 3600)
    plain = jobs(*(PlannedJob(number, "plot", seconds=3600) for number in range(4)))
    assert Rest(plain, cores=32, gpus=gpus).estimate({}, {}) == (0, 3600)


def test_a_training_that_stopped_early_before_is_expected_to_stop_early():
    known = Rest(jobs(PlannedJob(0, "train", seconds=300)), cores=1)
    assert known.estimate({0: 100}, {0: 850})[1] == 200
    assert known.estimate({0: 100}, {0: 150})[1] == 150, "the log, where it says less"
    assert known.estimate({0: 310}, {0: 640})[1] == 640, "the log, once the job takes longer than before"
    other = Rest(jobs(PlannedJob(0, "train", rule_seconds=300)), cores=1)
    assert other.estimate({0: 100}, {0: 850})[1] == 850, "the log, where only other jobs of the rule are known"


def test_this_run_counts_before_earlier_ones_and_a_log_before_both():
    plan = jobs(PlannedJob(0, "a", seconds=10), PlannedJob(1, "a", rule_seconds=500), PlannedJob(2, "a", seconds=300))
    rest = Rest(plan, cores=1, finished={0: 50})
    assert rest.estimate({}, {}) == (50 / 400, 350)
    assert rest.estimate({2: 100}, {}) == (150 / 400, 250)
    assert rest.estimate({1: 100}, {1: 850}) == (150 / 1300, 1150)
    # Longer than expected is nothing left, not less than nothing.
    assert rest.estimate({1: 80}, {}) == (130 / 430, 300)


def test_unknown_rules_take_the_mean_once_most_jobs_are_known():
    plan = jobs(*(PlannedJob(number, f"rule{number}") for number in range(5)))
    rest = Rest(plan, cores=1, finished={0: 10})
    assert rest.estimate({}, {}) is None
    rest.finished[1] = 30
    assert rest.estimate({}, {}) == (40 / 100, 60)


@pytest.mark.parametrize(
    ("seconds", "short", "left"),
    [
        (0.4, "0 s", "less than a minute left"),
        (59.4, "59 s", "about 1 min left"),
        (388, "6 min 28 s", "about 6 min left"),
        (3599.7, "1 h 00 min", "about 60 min left"),
        (7860, "2 h 11 min", "about 2 h 11 min left"),
    ],
)
def test_times_are_in_words(seconds, short, left):
    assert (duration(seconds), about(seconds)) == (short, left)
