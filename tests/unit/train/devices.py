"""Trainings on several processes, for `test_devices`, each started as a program: a process that has trained cannot fork others."""

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.runtime import job
from nuclass_pipeline.train.engine import TrainingTask
from nuclass_pipeline.train.global_ import train_global
from nuclass_pipeline.train.local import train_local
from nuclass_pipeline.train.loop.processes import process_rank
from tests.unit.train.toys import CLASSES, COMPUTE, global_config, global_optim, local_config, local_optim, training_files, write_slide

# Without batch norms and dropout, which see the cells of their own process alone.
ENCODER = BackboneConfig(name="tiny-vit", image_px=32)
OPTIM = {"max_epochs": 2, "batch_size": 16, "accumulate": 2, "checks_per_epoch": 2, "patience": 9}


def run(kind: str, folder: Path, devices: int, **changes: Any) -> None:
    """Train the local or the global path on the slide below `folder`, on so many processes."""
    slide = write_slide(folder / "slide", 187, 1) if not (folder / "slide").exists() else files_of(folder)
    out = folder / f"{kind}-{devices}"
    outputs = {"checkpoint": out / "best.ckpt", "history": out / "history.parquet", "resume": out / "resume", "curves": out / "curves"}
    compute = COMPUTE.model_copy(update={"devices": devices, "threads": 2, "checkpoint_minutes": 0})
    shared: dict[str, Any] = {**training_files([slide]), "compute": compute, "seed": 3, "device": "cpu", **outputs}
    common = {"augment": True, "dropout": 0.0, "freeze_backbone_epochs": 0, "class_balance": 0.999} | changes
    if kind == "local":
        config = local_config(backbone=ENCODER, organ_dropout=0.2, optim=local_optim(**OPTIM), **common)
        train_local(**shared, classes=CLASSES, config=config)
    else:
        settings = global_config(context=ENCODER, optim=global_optim(**OPTIM), **common)
        train_global(**shared, contexts=[slide["contexts"]], local=folder / "local-2/best.ckpt", config=settings)


def files_of(folder: Path) -> dict[str, Any]:
    tables = {name: folder / "slide" / f"{name}.parquet" for name in ("labels", "split", "cells")}
    return {"patches": folder / "slide/patches_224x224.h5", "contexts": folder / "slide/patches_1024x1024.h5", **tables}


def note_steps(folder: Path) -> None:
    """Save what each process knows at each step and validation: the cells, the gradients of the first one, the scores."""
    training_loss, end = TrainingTask.training_step, TrainingTask.on_validation_epoch_end
    notes: dict[str, list[Any]] = defaultdict(list)

    def step(self: Any, batch: Any, index: int) -> Any:
        notes[type(self).__name__].append(("cells", self.current_epoch, batch.cell.tolist()))
        return training_loss(self, batch, index)

    def before(self: Any, optimizer: Any) -> None:
        seen = notes[type(self).__name__]
        if not any(name == "gradients" for name, *_ in seen):
            seen.append(("gradients", {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}))

    def ended(self: Any) -> None:
        end(self)
        seen = notes[type(self).__name__]
        seen.append(("scores", {name: float(value) for name, value in self.trainer.callback_metrics.items()}))
        rank, count = process_rank()
        torch.save(seen, folder / f"{type(self).__name__}-{rank}-of-{count}.pt")

    TrainingTask.training_step, TrainingTask.on_validation_epoch_end = step, ended  # type: ignore[method-assign]
    TrainingTask.on_before_optimizer_step = before  # type: ignore[method-assign]


def fail_at(number: int, how: Callable[[], None], rank: int = 1) -> None:
    """Let the second process, or another, fail at its step of this number."""
    step, steps = TrainingTask.training_step, [0]

    def failing(self: Any, *arguments: Any) -> Any:
        steps[0] += 1
        if process_rank()[0] == rank and steps[0] == number:
            how()
        return step(self, *arguments)

    TrainingTask.training_step = failing  # type: ignore[method-assign]


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def find_damage() -> None:
    raise UserError("patches.h5", "images", "the dataset is damaged", "Make the file again.")


def kill_the_job(folder: Path) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGKILL)


def main(task: str, folder: Path) -> None:
    """Run what a test asks for."""
    if task == "steps":
        note_steps(folder)
        # On two processes first, because they are forked.
        for devices in (2, 1):
            run("local", folder, devices)
            run("global", folder, devices, context_dropout=0.5)
    elif task == "frozen":
        run("local", folder, 2, freeze_backbone_epochs=1)
    elif task.startswith("stopped"):
        fail_at(3, partial(os.kill, os.getpid(), signal.SIGTERM), rank=0)
        with job(folder / "log", 2):
            run("local", folder, int(task[-1]))
    else:
        ways = {"killed": (11, be_killed), "damaged": (3, find_damage), "orphaned": (2, partial(kill_the_job, folder))}
        fail_at(*ways[task])
        run("local", folder, 2, freeze_backbone_epochs=1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
