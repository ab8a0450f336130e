"""`nuclass doctor`: what this machine has."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from rich.table import Table

from nuclass_pipeline.cli.console import console


def doctor() -> None:
    """Report what this machine has: Python, torch, device, threads, disk, weights."""
    table = Table("what", "found", box=None)
    for name, found in _findings():
        table.add_row(name, found)
    console.print(table)


def _findings() -> list[tuple[str, str]]:
    import torch

    from nuclass_pipeline.config.models import WEIGHTS, describe_backbones

    gated = [row["name"] for row in describe_backbones() if row["download"]]
    cuda = torch.cuda.is_available()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return [
        ("python", platform.python_version()),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"),
        ("torchvision", importlib.metadata.version("torchvision")),
        ("device", torch.cuda.get_device_name() if cuda else "CPU"),
        ("threads", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}, OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}"),
        ("disk", f"{free:.0f} GB free here"),
        ("snakemake", importlib.metadata.version("snakemake")),
        *((f"weights {name}", str(WEIGHTS / name) if (WEIGHTS / name).is_dir() else f"absent ({WEIGHTS / name})") for name in gated),
    ]
