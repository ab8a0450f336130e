"""What a machine has, and what it can run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nuclass_pipeline.data.check import Finding

Verdict = Literal["ok", "note", "problem"]
MIN_PYTHON, SNAKEMAKE = (3, 11), ((9, 27), (10, 0))
"""Oldest Python, and the versions of Snakemake from the first to before the second."""
JOB_GB, DEMO_GB, SLIDE_GB, PAPER_GB = 3, 6, 8, 64
"""Memory for the largest job of the demo, the demo on two cores, a slide of 500,000 cells, and training on the paper's nine slides.

Measured: 2.3 GB for the largest job of the demo, 5.1 GB to cluster 500,000 cells (docs/performance.md). That of training is estimated.
"""
DEMO_DISK_GB, SLIDE_DISK_GB, PAPER_DISK_GB = 1, 20, 1000
"""Disk for the demo's files (0.3 GB measured), and estimates of that for a slide and for the paper's twelve slides."""
PAPER_ENCODERS = ("uni2-h", "dinov3-vitl16")
"""Encoders of the paper, whose weights are downloaded by hand."""
PAPER_GPU_GB = 75
"""Memory of a GPU that is sold with 80 GB, as torch reports it."""


@dataclass(frozen=True)
class Machine:
    """What a machine has; memory and disk in GB.

    Attributes
    ----------
    python, snakemake
        Their versions; empty where Snakemake is not installed.
    memory, free, limit
        Memory of the machine, what of it is free, and the least limit on this process.
    cores, usable
        Cores of the machine, and those that this process may use.
    disk
        Free space in the working directory.
    torch, cuda
        Version of torch, empty where it cannot be imported, and the CUDA that it was built for, empty for a build without.
    torch_error
        Why torch cannot be imported; empty where it can.
    gpu, gpu_memory, gpu_free
        Name of the GPU that torch finds, and its memory.
    gpu_kernels
        Whether torch has kernels for this GPU.
    driver
        Name of the GPU that the driver finds.
    weights
        Encoder whose weights are downloaded by hand → its folder, or nothing where it is absent.
    profile
        What is wrong with `profiles/default`; nothing where it can be used.
    project
        Whether the working directory is the folder of the project.
    waiting
        How threads of OpenMP wait.
    """

    python: tuple[int, ...]
    snakemake: str
    memory: float
    free: float
    limit: float
    cores: int
    usable: int
    disk: float
    torch: str
    cuda: str
    weights: dict[str, str | None]
    torch_error: str = ""
    gpu: str = ""
    gpu_memory: float = 0
    gpu_free: float = 0
    gpu_kernels: bool = True
    driver: str = ""
    profile: str = ""
    project: bool = True
    waiting: str = "PASSIVE"

    @property
    def memory_usable(self) -> float:
        """Memory that jobs may use, GB."""
        return min(self.memory, self.limit)

    @property
    def snakemake_fits(self) -> bool:
        """Whether Snakemake is of a version that the workflow supports."""
        numbers = tuple(int(part) for part in self.snakemake.split(".")[:2] if part.isdigit())
        return SNAKEMAKE[0] <= numbers < SNAKEMAKE[1]

    @property
    def gpu_works(self) -> bool:
        """Whether torch can compute on the GPU."""
        return bool(self.gpu) and self.gpu_kernels

    @property
    def missing_weights(self) -> list[str]:
        """Encoders without weights."""
        return [name for name, folder in self.weights.items() if folder is None]


def assess(machine: Machine) -> list[Finding]:
    """Return what a machine has, one finding per part."""
    parts = (_python, _torch, _gpu, _memory, _cores, _disk, _snakemake, _profile)
    return [*(part(machine) for part in parts), *(_weights(name, folder) for name, folder in machine.weights.items())]


def _python(machine: Machine) -> Finding:
    version = ".".join(map(str, machine.python))
    if machine.python[:2] < MIN_PYTHON:
        return Finding("Python", f"{version}: too old. Install Python ≥ {'.'.join(map(str, MIN_PYTHON))}.", "problem")
    return Finding("Python", version, "ok")


def _torch(machine: Machine) -> Finding:
    if machine.torch_error:
        return Finding("torch", f"{machine.torch_error}. Run `make demo` again, which installs it.", "problem")
    return Finding("torch", f"{machine.torch}, {f'CUDA {machine.cuda}' if machine.cuda else 'built for CPUs'}", "ok")


def _gpu(machine: Machine) -> Finding:
    if machine.gpu and not machine.gpu_kernels:
        remedy = "Install a build of torch for it (https://pytorch.org/get-started/locally)."
        return Finding("GPU", f"{machine.gpu}: torch {machine.torch} has no kernels for it. {remedy}", "problem")
    if machine.gpu:
        return Finding("GPU", f"{machine.gpu}, {machine.gpu_memory:.0f} GB, {machine.gpu_free:.0f} free", "ok")
    if machine.driver:
        why = "its driver is too old for it, or the GPU is hidden" if machine.cuda else "it was built for CPUs"
        remedy = "Update the driver, or unset CUDA_VISIBLE_DEVICES." if machine.cuda else "Install the build of torch for CUDA."
        return Finding("GPU", f"{machine.driver}, but torch cannot use it: {why}. {remedy}", "problem")
    return Finding("GPU", "none: training and encoders run on the CPU", "note")


def _memory(machine: Machine) -> Finding:
    limited = machine.limit < 0.95 * machine.memory
    found = f"{_gb(machine.memory)}, {_gb(machine.free)} free" + (f", limited to {_gb(machine.limit)}" if limited else "")
    if machine.memory_usable < JOB_GB:
        return Finding("memory", f"{found}: a job of the demo takes up to {JOB_GB} GB.", "problem")
    if min(machine.memory_usable, machine.free) < DEMO_GB:
        return Finding("memory", f"{found}: run one job at a time, with `--cores 1`.", "note")
    if machine.memory_usable < SLIDE_GB:
        return Finding("memory", f"{found}: enough for the demo; a real slide of 500,000 cells takes up to {SLIDE_GB} GB.", "note")
    return Finding("memory", f"{found}: {_enough(machine.memory_usable, PAPER_GB)}", "ok")


def _cores(machine: Machine) -> Finding:
    found = f"{machine.usable}" + (f" of {machine.cores}" if machine.usable != machine.cores else "")
    if machine.usable < 2:
        return Finding("cores", f"{found}: jobs run one after the other.", "note")
    if machine.waiting != "PASSIVE":
        return Finding("cores", f"{found}: threads that wait take them from others. `export OMP_WAIT_POLICY=PASSIVE`.", "note")
    return Finding("cores", found, "ok")


def _disk(machine: Machine) -> Finding:
    found = f"{_gb(machine.disk)} free here"
    if machine.disk < DEMO_DISK_GB:
        return Finding("disk", f"{found}: the demo takes {DEMO_DISK_GB} GB. Free some, or work on another disk.", "problem")
    if machine.disk < SLIDE_DISK_GB:
        return Finding("disk", f"{found}: enough for the demo; a real slide takes about {SLIDE_DISK_GB} GB or more.", "note")
    return Finding("disk", f"{found}: {_enough(machine.disk, PAPER_DISK_GB)}", "ok")


def _enough(value: float, paper: float) -> str:
    return "enough for " + ("the demo, a real slide and training for the paper" if value >= paper else "the demo and a real slide")


def _snakemake(machine: Machine) -> Finding:
    if not machine.snakemake_fits:
        first, end = (".".join(map(str, version)) for version in SNAKEMAKE)
        problem = f"{machine.snakemake or 'not installed'}. Install a version from {first} to before {end}: `make demo` does."
        return Finding("Snakemake", problem, "problem")
    return Finding("Snakemake", machine.snakemake, "ok")


def _profile(machine: Machine) -> Finding:
    if not machine.project:
        return Finding("profile", "not looked at: this is not the folder of the project", "note")
    return Finding("profile", machine.profile or "profiles/default can be used", "problem" if machine.profile else "ok")


def _weights(name: str, folder: str | None) -> Finding:
    absent = "absent; needed for the paper only (docs/backbones.md)"
    return Finding(f"weights {name}", folder or absent, "ok" if folder else "note")


@dataclass(frozen=True)
class Need:
    """A need of what a machine can run: what is missing, if `met` is false."""

    met: Callable[[Machine], bool]
    missing: Callable[[Machine], str]


def _gb(value: float) -> str:
    # Rounded down, because 7.96 GB would be said to be 8, and too little.
    return f"{math.floor(10 * value) / 10:g} GB"


def _at_least(what: Literal["memory_usable", "disk"], least: float) -> Need:
    word = {"memory_usable": "memory", "disk": "free disk"}[what]
    return Need(
        lambda machine: getattr(machine, what) >= least,
        lambda machine: f"{_gb(getattr(machine, what))} of {word}, {least:g} are needed",
    )


BASE = (
    Need(lambda machine: machine.python[:2] >= MIN_PYTHON, lambda machine: "Python is too old"),
    Need(lambda machine: machine.snakemake_fits, lambda machine: "Snakemake is missing or of another version"),
    Need(lambda machine: not machine.torch_error, lambda machine: "torch cannot be imported"),
    Need(lambda machine: not machine.profile, lambda machine: "profiles/default cannot be used"),
)
NEEDS = {
    "labels": (BASE[0], _at_least("memory_usable", JOB_GB), _at_least("disk", DEMO_DISK_GB)),
    "demo": (*BASE, _at_least("memory_usable", JOB_GB), _at_least("disk", DEMO_DISK_GB)),
    "prediction": (*BASE, _at_least("memory_usable", SLIDE_GB), _at_least("disk", SLIDE_DISK_GB)),
    "paper": (
        *BASE,
        _at_least("memory_usable", PAPER_GB),
        _at_least("disk", PAPER_DISK_GB),
        Need(
            lambda machine: machine.gpu_works and machine.gpu_memory >= PAPER_GPU_GB,
            lambda machine: f"the GPU has {machine.gpu_memory:.0f} GB, 80 are needed" if machine.gpu_works else "no GPU that torch can use",
        ),
        Need(lambda machine: not machine.missing_weights, lambda machine: f"no weights of {' and '.join(machine.missing_weights)}"),
    ),
}
"""What can be run → what it needs."""


def obstacles(machine: Machine) -> dict[str, list[str]]:
    """Return what can be run → what is missing for it; nothing where the machine can run it."""
    return {name: [need.missing(machine) for need in needs if not need.met(machine)] for name, needs in NEEDS.items()}


def last_line(found: dict[str, list[str]]) -> str:
    """Return what can be run and what cannot, with the reasons, in one line."""
    possible = [name for name, missing in found.items() if not missing]
    reasons: dict[str, list[str]] = {}
    for name, missing in found.items():
        if missing:
            reasons.setdefault("; ".join(missing), []).append(name)
    impossible = [f"It cannot run {' and '.join(names)}: {reason}." for reason, names in reasons.items()]
    return " ".join([f"This machine can run: {', '.join(possible) or 'nothing'}.", *impossible])
