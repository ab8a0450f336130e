"""The demo's first steps as SLURM jobs on a one-node cluster that is already running."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def cluster():
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        pytest.skip("no SLURM answers here: start one, with partitions cpu and gpu")


def test_jobs_are_seen_in_the_queue_and_ask_for_no_gpu(project):
    goal = "results/demo/slides/demo-lung-1/labels.parquet"
    done = project.snakemake("--profile", "profiles/slurm", "--jobs", "2", goal)
    assert done.returncode == 0, done.stderr[-2000:]
    jobs = subprocess.run(
        ["squeue", "--states=all", "--format=%j|%k|%T|%b", "--noheader"], capture_output=True, text=True, check=True
    ).stdout
    assert jobs.count("COMPLETED") >= 4
    assert "gpu" not in jobs
