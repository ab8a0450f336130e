"""`nuclass doctor`: what this machine has, and what it can run."""

import contextlib
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nuclass_pipeline.cli.check import VERDICT_STYLES
from nuclass_pipeline.cli.common import console
from nuclass_pipeline.cli.machine import PAPER_ENCODERS, Machine, assess, last_line, obstacles
from nuclass_pipeline.data.check import Finding
from nuclass_pipeline.errors import first_line, memory_limit_mb

PROFILE = Path("profiles/default/config.yaml")
NARROW = 60
"""Columns of a screen below which a table of three columns would cut words."""


def doctor() -> None:
    """Report what this machine has and what it can run; exit code 1 if not even the demo."""
    machine = read_machine()
    show(assess(machine), console)
    found = obstacles(machine)
    console.print(last_line(found), soft_wrap=True, highlight=False, markup=False)
    if found["demo"]:
        raise typer.Exit(1)


def show(findings: Sequence[Finding], screen: Console) -> None:
    """Print findings as a table, or on a narrow screen one below the other, so that no text is cut."""
    if screen.width < NARROW:
        for finding in findings:
            screen.print(Text.assemble(f"{finding.what}: ", (finding.verdict, VERDICT_STYLES[finding.verdict])))
            screen.print(Padding(Text(finding.found, overflow="fold"), (0, 0, 0, 2)))
        return
    table = Table("what", "found", "verdict", box=None)
    table.columns[1].overflow = "fold"
    for finding in findings:
        table.add_row(finding.what, Text(finding.found, overflow="fold"), Text(finding.verdict, VERDICT_STYLES[finding.verdict]))
    screen.print(table)


def read_machine() -> Machine:
    """Return what this machine has."""
    from nuclass_pipeline.config.backbones.files import WEIGHTS

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Machine(
        python=sys.version_info[:3],
        snakemake=_version("snakemake"),
        memory=memory,
        free=_free_gb(memory),
        limit=memory_limit_mb() / 1e3,
        cores=os.cpu_count() or 1,
        usable=_usable_cores(),
        disk=shutil.disk_usage(Path.cwd()).free / 1e9,
        weights={name: str(WEIGHTS / name) if (WEIGHTS / name).is_dir() else None for name in PAPER_ENCODERS},
        driver=_driver(),
        waiting=os.environ.get("OMP_WAIT_POLICY", ""),
        project=PROFILE.is_file(),
        profile=_profile_problem(),
        **_torch_facts(),
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _free_gb(memory: float) -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # Not on Linux.
        return memory
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable:")), memory)


def _usable_cores() -> int:
    """Return the cores that this process may use: those of its affinity, or fewer if its control group has a quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2].strip("/")
        quota, period = Path("/sys/fs/cgroup", group, "cpu.max").read_text().split()
        allowed = min(allowed, max(int(quota) // int(period), 1))
    return allowed


def _driver() -> str:
    """Return the name of the GPU that the driver finds."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.splitlines()[0].strip() if done.stdout else ""
    return ""


def _torch_facts() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # Whatever a broken installation raises is what the user must see.
        return {"torch": "", "cuda": "", "torch_error": first_line(error)}
    facts = {"torch": torch.__version__, "cuda": torch.version.cuda or ""}
    if not torch.cuda.is_available():
        return facts
    free, total = torch.cuda.mem_get_info()
    major, minor = torch.cuda.get_device_capability()
    # A build has kernels for a GPU of the same generation, or code that the driver compiles.
    built = [name.removeprefix("sm_").removeprefix("compute_").rstrip("af") for name in torch.cuda.get_arch_list()]
    fits = any(arch[:-1] == str(major) and int(arch[-1]) <= minor for arch in built if arch.isdigit())
    return facts | {"gpu": torch.cuda.get_device_name(), "gpu_memory": total / 1e9, "gpu_free": free / 1e9, "gpu_kernels": fits}


def _profile_problem() -> str:
    """Return what keeps the profile of the workflow from being used; nothing where it can be, or is not here."""
    if not PROFILE.is_file():
        return ""
    from snakemake.cli import get_argument_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            get_argument_parser([str(PROFILE.parent)]).parse_args([])
    except (SystemExit, Exception) as error:
        lines = said.getvalue().split("error: ")[-1].split() or [first_line(error)]
        return f"{PROFILE}: {' '.join(lines)}"
    return ""
