"""A training on two processes is that on one: the same cells, gradients and scores; it is resumed, and an error ends all of it."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from nuclass_pipeline.config.models import LocalOptimConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train import engine
from nuclass_pipeline.train.cell_task import TrainingCells
from nuclass_pipeline.train.loaders import EpochShuffle, InOrder, RunShuffle, make_loader, share_batches
from nuclass_pipeline.train.loop import processes
from tests import ROOT
from tests.unit.train.test_resuming import assert_same
from tests.unit.train.toys import COMPUTE


def start(task: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "tests.unit.train.devices", task, str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], list[Any]]:
    """What each process of trainings on one and on two processes noted."""
    folder = tmp_path_factory.mktemp("noted")
    ended = start("steps", folder)
    assert ended.returncode == 0, ended.stderr
    return lambda task, rank, count: torch.load(folder / f"{task}-{rank}-of-{count}.pt", weights_only=False)


def batches(notes: list[Any], epoch: int) -> list[list[int]]:
    return [note[2] for note in notes if note[0] == "cells" and note[1] == epoch]


@pytest.mark.parametrize("task", ["LocalTask", "GlobalTask"])
def test_the_first_step_of_two_processes_has_the_gradient_of_one(noted: Callable[..., list[Any]], task: str) -> None:
    """Both terms of the loss, class weights that differ in sum between the processes, augmentation, and organs that are hidden."""
    one, *two = (dict(note[:2] for note in noted(task, *who) if note[0] == "gradients")["gradients"] for who in ((0, 1), (0, 2), (1, 2)))
    assert one.keys() == two[0].keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    assert largest > 1e-3
    for name, gradient in one.items():
        for other in two:
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize("task", ["LocalTask", "GlobalTask"])
def test_two_processes_share_the_batches_of_one(noted: Callable[..., list[Any]], task: str) -> None:
    one, *two = (noted(task, *who) for who in ((0, 1), (0, 2), (1, 2)))
    for epoch in (0, 1):
        whole = batches(one, epoch)
        parts = [batches(notes, epoch) for notes in two]
        left = len(whole[-1]) % 2
        joined = [first + second for first, second in zip(*parts, strict=True)]
        assert joined[:-1] == whole[:-1]
        assert joined[-1] == whole[-1][: len(whole[-1]) - left]
        assert all(len(first) == len(second) for first, second in zip(*parts, strict=True))


def test_scores_are_those_of_all_cells_in_both_processes(noted: Callable[..., list[Any]]) -> None:
    one, *two = ([note[1] for note in noted("LocalTask", *who) if note[0] == "scores"] for who in ((0, 1), (0, 2), (1, 2)))
    assert two[0] == two[1]
    # Of the first validation, before the rounding of a few steps has grown.
    for name in ("val_macro_f1", "val_accuracy"):
        assert two[0][0][name] == pytest.approx(one[0][name], abs=1e-6)
    assert two[0][0]["train_loss"] == pytest.approx(one[0]["train_loss"], abs=1e-3)


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("cells", [48, 50, 63, 97])
def test_each_cell_is_read_once_by_all_processes_together(monkeypatch: pytest.MonkeyPatch, count: int, cells: int) -> None:
    batch = 24
    whole = [np.arange(cells)[i : i + batch].tolist() for i in range(0, cells, batch)]
    runs = np.array_split(np.arange(cells), 7)
    found: dict[str, list[list[int]]] = {"order": [], "shuffle": [], "runs": []}
    for rank in range(count):
        monkeypatch.setattr("nuclass_pipeline.train.loaders.process_rank", lambda rank=rank: (rank, count))
        samplers = {"order": InOrder(cells, batch), "shuffle": EpochShuffle(cells, 1, batch), "runs": RunShuffle(runs, 1, 3, batch)}
        for name, sampler in samplers.items():
            found[name].append(list(sampler))
            assert len(sampler) == len(found[name][-1])
        assert share_batches(np.arange(cells), batch).tolist() == found["order"][rank]
    assert sorted(chain.from_iterable(found["order"])) == list(range(cells))
    assert sorted(found["order"][0][: batch // count]) == whole[0][: batch // count]
    for name in ("shuffle", "runs"):
        seen = list(chain.from_iterable(found[name]))
        assert len(set(seen)) == len(seen) == cells - cells % batch % count
        assert len({len(part) for part in found[name]}) == 1


@pytest.mark.slow
def test_a_killed_training_is_resumed_on_two_processes(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert start("frozen", whole).returncode == 0
    ended = start("killed", cut)
    assert ended.stderr.rstrip().splitlines()[-1] == "RuntimeError: a process of the training was killed by signal: Killed"
    state = torch.load(cut / "local-2/resume/last.ckpt", weights_only=True)["callbacks"]["TrainingState"]
    assert (state["epoch"], state["batches"]) == (1, 4)
    assert start("frozen", cut).returncode == 0
    assert not (cut / "local-2/resume").exists()
    assert_same(whole / "local-2/best.ckpt", cut / "local-2/best.ckpt")
    curves = sorted(path.name for path in (cut / "local-2/curves").iterdir())
    assert curves == ["start-1", "start-2"]
    shown = pd.read_csv(whole / "local-2/curves/start-1/metrics.csv")
    assert len(shown["val_macro_f1"].dropna()) == 4


def test_an_error_of_one_process_ends_the_job_in_its_line(tmp_path: Path) -> None:
    ended = start("damaged", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().splitlines()[-1].endswith("patches.h5: images: the dataset is damaged. Make the file again.")


@pytest.mark.slow
def test_processes_end_with_the_job(tmp_path: Path) -> None:
    assert start("orphaned", tmp_path).returncode == -9
    deadline, process = time.monotonic() + 20, Path("/proc", (tmp_path / "pid").read_text())
    while process.exists() and "Z" not in process.joinpath("stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_job_that_is_stopped_says_so(tmp_path: Path, devices: int) -> None:
    assert start(f"stopped-{devices}", tmp_path).returncode == 1
    assert (tmp_path / "log").read_text().rstrip().endswith("stopped from outside. Run again to continue.")
    assert not (tmp_path / f"local-{devices}/best.ckpt").exists()


def test_more_devices_than_cells_are_refused() -> None:
    """The remedy divides the batch: 2 where 3 cells would do for 3 devices."""
    cells = TrainingCells(train=range(9), validation=range(3))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"compute.devices: is 4, and subset val has only 3 cells. Set it to 2\."):
        cells.loaders(LocalOptimConfig(batch_size=16), COMPUTE.model_copy(update={"devices": 4}), 0)


class Unread(Exception):
    """An error that can be pickled, but not unpickled."""

    def __init__(self, file: str, line: int) -> None:
        super().__init__(f"{file}, line {line}")


def test_an_error_that_cannot_be_unpickled_is_sent_as_text() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    processes._send(sender, Unread("a.tsv", 3))
    assert repr(receiver.recv()) == "RuntimeError('Unread: a.tsv, line 3')"


def test_of_errors_that_come_together_that_of_the_user_is_raised() -> None:
    found = UserError("patches.h5", "images", "the dataset is damaged", "Make the file again.")
    with pytest.raises(UserError, match="damaged"):
        processes._raise_error([RuntimeError("another process has gone"), found], [])


class Norms(nn.Module):
    """Norms with and without an activation of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8, act_layer=nn.SiLU), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.body(image)
        return found


@pytest.mark.parametrize("network", ["own", "efficientnet_lite0"])
def test_norms_of_several_gpus_keep_their_activations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, network: str) -> None:
    """All norms become those of several GPUs before the trainer gets the model, whose outputs stay."""
    torch.manual_seed(0)
    model = Norms() if network == "own" else timm.create_model(network, num_classes=5)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval()(image)

    class Trained(Exception):
        pass

    class Trainer:
        def fit(self, *_: Any, **__: Any) -> None:
            raise Trained

    monkeypatch.setattr(engine, "run_processes", lambda work, *_: work(0))
    monkeypatch.setattr(engine, "_trainer", lambda *_: Trainer())
    optim, compute = LocalOptimConfig(batch_size=4), COMPUTE.model_copy(update={"gpu": 1, "devices": 2})
    task = engine.TrainingTask(model, classes=5, optim=optim, seed=0)
    loader = make_loader(range(8), 4, 0, shuffle_seed=0, devices=2)  # type: ignore[arg-type]
    with pytest.raises(Trained):
        engine.fit_model(task, loader, loader, engine.FitSettings(optim, compute, "cuda", tmp_path, ""))
    norms = [module for module in task.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    with torch.no_grad():
        torch.testing.assert_close(task.model(image), expected)
