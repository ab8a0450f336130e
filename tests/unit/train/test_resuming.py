"""Trainings that are killed anywhere end with the weights, the history and the best epoch of those that are not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from nuclass_pipeline.train.engine import TrainingTask
from nuclass_pipeline.train.features.cells import embed_cells
from nuclass_pipeline.train.gate import train_gate
from nuclass_pipeline.train.global_ import train_global
from nuclass_pipeline.train.local import train_local
from nuclass_pipeline.train.loop.state import TrainingState
from tests import ROOT
from tests.unit.train.toys import (
    CLASSES,
    COMPUTE,
    gate_config,
    global_config,
    global_optim,
    local_config,
    local_optim,
    training_files,
    write_slide,
)

POINTS = 20
# Batches of 8 in steps of two; validations after every fifth, so some lie within a step.
OPTIM = {"max_epochs": 2, "batch_size": 8, "accumulate": 2, "checks_per_epoch": 3, "patience": 9}
STEPS = COMPUTE.model_copy(update={"checkpoint_minutes": 0})


class PulledPlugError(Exception):
    pass


def run_local(data: Path, folder: Path, **changes: Any) -> Path:
    config = local_config(optim=local_optim(**OPTIM), augment=True, organ_dropout=0.2, freeze_backbone_epochs=1)
    outputs = {"checkpoint": folder / "best.ckpt", "history": folder / "history.parquet", "resume": folder / "resume"}
    settings = {"classes": CLASSES, "config": config, "compute": STEPS, "seed": 3, "device": "cpu", **changes}
    train_local(**training_files([files_of(data)]), **settings, **outputs)
    return outputs["checkpoint"]


def run_global(data: Path, folder: Path) -> Path:
    config = global_config(optim=global_optim(**OPTIM), augment=True)
    outputs = {"checkpoint": folder / "best.ckpt", "history": folder / "history.parquet", "resume": folder / "resume"}
    settings = {"contexts": [files_of(data)["contexts"]], "local": data / "path/best.ckpt", "compute": STEPS, "seed": 3, "device": "cpu"}
    train_global(**training_files([files_of(data)]), **settings, config=config, **outputs)
    return outputs["checkpoint"]


def run_gate(data: Path, folder: Path) -> Path:
    slide = files_of(data)
    optim = gate_config().optim.model_copy(update={"max_epochs": 3, "batch_size": 8})
    config = gate_config(optim=optim)
    outputs = {"checkpoint": folder / "best.ckpt", "history": folder / "history.parquet"}
    train_gate(features=[data / "cells.h5"], labels=[slide["labels"]], splits=[slide["split"]], config=config, seed=3, **outputs)
    return outputs["checkpoint"]


TRAININGS: dict[str, Callable[[Path, Path], Path]] = {"local": run_local, "global": run_global, "gate": run_gate}


def files_of(data: Path) -> dict[str, Any]:
    tables = {name: data / "slide" / f"{name}.parquet" for name in ("labels", "split", "cells")}
    return {"patches": data / "slide/patches_224x224.h5", "contexts": data / "slide/patches_1024x1024.h5", **tables}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, an untrained local path, and the outputs of untrained paths for the gate."""
    folder = tmp_path_factory.mktemp("data")
    slide = write_slide(folder / "slide", 240, 1)
    (folder / "path").mkdir()
    run_local(folder, folder / "path", config=local_config(optim=local_optim(max_epochs=1, lr_head=1e-12, lr_backbone=1e-12)))
    global_ = folder / "global"
    optim = global_optim(max_epochs=1)
    train_global(
        **training_files([slide]), contexts=[slide["contexts"]], local=folder / "path/best.ckpt", config=global_config(optim=optim),
        compute=COMPUTE, seed=0, device="cpu", checkpoint=global_ / "best.ckpt", history=global_ / "h.parquet", resume=global_ / "resume",
    )  # fmt: skip
    names = ("cells", "patches", "contexts", "labels", "split")
    paths = {"local": folder / "path/best.ckpt", "global_": global_ / "best.ckpt"}
    inputs = {name: slide[name] for name in names}
    embed_cells(**inputs, **paths, organ="lung", compute=COMPUTE, device="cpu", features=folder / "cells.h5")
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of trainings that nothing interrupted."""
    return {name: train(data, tmp_path_factory.mktemp(name)) for name, train in TRAININGS.items()}


def die_at(patch: pytest.MonkeyPatch, event: int) -> Callable[[], int]:
    """Stop trainings at their nth event: a batch before or after its gradient, a validation, or one side of saving a state."""
    seen = [0]

    def before(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def counted(self: Any, *arguments: Any, **named: Any) -> Any:
            seen[0] += 1
            if seen[0] == event:
                raise PulledPlugError
            return original(self, *arguments, **named)

        patch.setattr(owner, name, counted)

    for owner, name in (
        (TrainingTask, "training_step"),
        (TrainingTask, "on_validation_epoch_end"),
        (TrainingState, "on_train_batch_end"),
        (TrainingState, "on_train_epoch_end"),
        (TrainingState, "on_validation_end"),
    ):
        before(owner, name)
    return lambda: seen[0]


def assert_same(one: Path, other: Path) -> None:
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    assert first["meta"] == second["meta"]
    assert first["state"].keys() == second["state"].keys()
    for name, tensor in first["state"].items():
        assert torch.equal(tensor, second["state"][name]), name
    histories = [pd.read_parquet(path.with_name("history.parquet")) for path in (one, other)]
    pd.testing.assert_frame_equal(*histories)
    best = histories[1].loc[histories[1]["val_macro_f1"].idxmax()]
    assert (best["epoch"], best["val_macro_f1"]) == (second["meta"]["epoch"], second["meta"]["score"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_stopped_anywhere_ends_like_the_uninterrupted(data: Path, whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count = die_at(patch, -1)
        TRAININGS[name](data, tmp_path / "counted")
        total = count()
    assert total > POINTS
    within = 0
    for point in range(POINTS):
        folder = tmp_path / str(point)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlugError):
            die_at(patch, 1 + point * (total - 1) // (POINTS - 1))
            TRAININGS[name](data, folder)
        if (state := folder / "resume/last.ckpt").exists():
            within += torch.load(state, weights_only=True)["callbacks"]["TrainingState"]["batches"] > 0
        assert_same(whole[name], TRAININGS[name](data, folder))
    assert within >= (8 if name != "gate" else 0)


def test_a_training_stopped_within_an_epoch_ends_like_the_uninterrupted(data: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    # Twice: in the first epoch, in which the encoder is frozen, and in the second.
    for event in (9, 45):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlugError):
            die_at(patch, event)
            run_local(data, tmp_path)
        state = torch.load(tmp_path / "resume/last.ckpt", weights_only=True)["callbacks"]["TrainingState"]
        assert state["batches"] % 2 == 0 < state["batches"]
    assert_same(whole["local"], run_local(data, tmp_path))


def test_loader_processes_and_memory_change_nothing_when_resumed(data: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlugError):
        die_at(patch, 45)
        run_local(data, tmp_path, compute=STEPS.model_copy(update={"workers": 1, "cache_gb": 0}))
    resumed = run_local(data, tmp_path, compute=STEPS.model_copy(update={"workers": 1, "cache_gb": 0, "checkpoint_minutes": 10}))
    assert_same(whole["local"], resumed)


def test_best_weights_of_a_discarded_future_are_not_used(data: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    """The state is older than a later best validation, whose weights are then spoilt: the training must do it again."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlugError):
        save, saved = TrainingState._save, []

        def save_once(self: TrainingState, *arguments: Any) -> None:
            if not saved:
                save(self, *arguments)
            saved.append(1)

        patch.setattr(TrainingState, "_save", save_once)
        die_at(patch, 45)
        run_local(data, tmp_path)
    state = torch.load(tmp_path / "resume/last.ckpt", weights_only=True)["callbacks"]["TrainingState"]
    later = sorted((tmp_path / "resume").glob("best-*.ckpt"))
    assert state["best"] == ""
    assert later
    for path in later:
        path.write_bytes(b"of another timeline")
    assert_same(whole["local"], run_local(data, tmp_path))


def test_a_training_that_had_ended_does_not_go_on(data: Path, tmp_path: Path) -> None:
    """Patience runs out, the state is saved, and the process dies before it writes its result."""
    config = local_config(optim=local_optim(**{**OPTIM, "max_epochs": 6, "patience": 2}, lr_head=1e-12, lr_backbone=1e-12))
    ended = run_local(data, tmp_path / "whole", config=config)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlugError):

        def die(*_: Any) -> None:
            raise PulledPlugError

        patch.setattr("nuclass_pipeline.train.local.save_best", die)
        run_local(data, tmp_path / "cut", config=config)
    assert_same(ended, run_local(data, tmp_path / "cut", config=config))
    assert len(pd.read_parquet(ended.with_name("history.parquet"))) < 18


KILLED = """
import sys, os, signal
from pathlib import Path
from tests.unit.train import test_resuming as trainings
from nuclass_pipeline.train.engine import TrainingTask

steps, step = [0], TrainingTask.training_step
def killed(self, *arguments):
    steps[0] += 1
    if steps[0] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
TrainingTask.training_step = killed
trainings.TRAININGS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_process_is_resumed(data: Path, whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    for step in (7, 12):
        ended = subprocess.run([sys.executable, "-c", KILLED, name, data, tmp_path, str(step)], cwd=ROOT, env=os.environ, check=False)
        assert ended.returncode == -signal.SIGKILL
        assert not (tmp_path / "best.ckpt").exists()
    assert_same(whole[name], TRAININGS[name](data, tmp_path))
    assert not (tmp_path / "resume").exists()
