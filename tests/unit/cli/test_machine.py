"""What planted machines have and can run."""

from dataclasses import replace

import pytest

from nuclass_pipeline.cli.machine import Machine, assess, last_line, obstacles

SERVER = Machine(
    python=(3, 12, 1),
    snakemake="9.27.1",
    memory=256,
    free=200,
    limit=256,
    cores=32,
    usable=32,
    disk=4000,
    torch="2.13.0",
    cuda="13.0",
    weights={"uni2-h": "resources/weights/uni2-h", "dinov3-vitl16": "resources/weights/dinov3-vitl16"},
    gpu="NVIDIA H100 80GB HBM3",
    gpu_memory=85,
    gpu_free=84,
    driver="NVIDIA H100 80GB HBM3",
)
LAPTOP = replace(
    SERVER, memory=16, free=9, limit=16, cores=8, usable=8, disk=60, cuda="", gpu="", gpu_memory=0, driver="", weights={"uni2-h": None}
)


def verdicts(machine):
    return {finding.what: finding.verdict for finding in assess(machine)}


def found(machine, what):
    return next(finding.found for finding in assess(machine) if finding.what == what)


def possible(machine):
    return [name for name, missing in obstacles(machine).items() if not missing]


def test_a_server_runs_all():
    assert set(verdicts(SERVER).values()) == {"ok"}
    assert last_line(obstacles(SERVER)) == "This machine can run: labels, demo, prediction, paper."


def test_a_laptop_runs_all_but_the_paper():
    assert {what for what, verdict in verdicts(LAPTOP).items() if verdict != "ok"} == {"GPU", "weights uni2-h"}
    assert last_line(obstacles(LAPTOP)) == (
        "This machine can run: labels, demo, prediction. It cannot run paper: 16 GB of memory, 64 are needed; "
        "60 GB of free disk, 1000 are needed; no GPU that torch can use; no weights of uni2-h."
    )


@pytest.mark.parametrize(
    ("change", "what", "verdict", "words", "runs"),
    [
        ({"python": (3, 10, 4)}, "Python", "problem", "3.10.4: too old", []),
        ({"snakemake": ""}, "Snakemake", "problem", "not installed", ["labels"]),
        ({"snakemake": "8.30.0"}, "Snakemake", "problem", "from 9.27 to before 10.0", ["labels"]),
        ({"snakemake": "10.0.0"}, "Snakemake", "problem", "10.0.0. Install", ["labels"]),
        ({"snakemake": "9.100"}, "Snakemake", "ok", "9.100", ["labels", "demo", "prediction"]),
        ({"torch_error": "libcudart.so: cannot open"}, "torch", "problem", "libcudart.so", ["labels"]),
        ({"memory": 2.96, "limit": 2.96}, "memory", "problem", "2.9 GB", []),
        ({"limit": 4}, "memory", "note", "limited to 4 GB: run one job at a time", ["labels", "demo"]),
        ({"limit": 2}, "memory", "problem", "16 GB, 9 GB free, limited to 2 GB", []),
        ({"free": 2}, "memory", "note", "`--cores 1`", ["labels", "demo", "prediction"]),
        ({"memory": 7.96, "limit": 7.96}, "memory", "note", "7.9 GB, 9 GB free: enough for the demo; a real slide", ["labels", "demo"]),
        ({"usable": 1}, "cores", "note", "1 of 8: jobs run one after the other", ["labels", "demo", "prediction"]),
        ({"waiting": "ACTIVE"}, "cores", "note", "export OMP_WAIT_POLICY=PASSIVE", ["labels", "demo", "prediction"]),
        ({"disk": 0.4}, "disk", "problem", "0.4 GB free here: the demo takes 1 GB", []),
        ({"disk": 12}, "disk", "note", "enough for the demo; a real slide takes about 20 GB", ["labels", "demo"]),
        ({"profile": "profiles/default/config.yaml: unknown option"}, "profile", "problem", "unknown option", ["labels"]),
        ({"project": False}, "profile", "note", "not the folder of the project", ["labels", "demo", "prediction"]),
        ({"driver": "Tesla K80"}, "GPU", "problem", "it was built for CPUs. Install the build", ["labels", "demo", "prediction"]),
        ({"driver": "Tesla K80", "cuda": "13.0"}, "GPU", "problem", "its driver is too old", ["labels", "demo", "prediction"]),
        ({"gpu": "GTX 970", "gpu_kernels": False, "cuda": "13.0"}, "GPU", "problem", "no kernels for it", ["labels", "demo", "prediction"]),
        ({"weights": {"uni2-h": "resources/weights/uni2-h"}}, "weights uni2-h", "ok", "resources", ["labels", "demo", "prediction"]),
    ],
)
def test_each_part_has_its_verdict(change, what, verdict, words, runs):
    machine = replace(LAPTOP, **change)
    assert verdicts(machine)[what] == verdict
    assert words in found(machine, what)
    assert possible(machine) == runs


def test_memory_and_disk_say_what_they_are_enough_for():
    both, all_three = "enough for the demo and a real slide", "enough for the demo, a real slide and training for the paper"
    assert [found(LAPTOP, what).rpartition(": ")[2] for what in ("memory", "disk")] == [both, both]
    assert [found(SERVER, what).rpartition(": ")[2] for what in ("memory", "disk")] == [all_three, all_three]


def test_reasons_for_the_paper_are_those_that_hold():
    small = replace(SERVER, gpu_memory=24, weights={"uni2-h": None, "dinov3-vitl16": None})
    assert obstacles(small)["paper"] == ["the GPU has 24 GB, 80 are needed", "no weights of uni2-h and dinov3-vitl16"]
    assert possible(replace(SERVER, gpu_kernels=False)) == ["labels", "demo", "prediction"]
    assert last_line(obstacles(replace(LAPTOP, disk=0.2))).startswith(
        "This machine can run: nothing. It cannot run labels and demo: 0.2 GB of"
    )
