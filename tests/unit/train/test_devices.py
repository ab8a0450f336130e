"""A training on two processes is that on one: the same cells, gradients and scores; it is resumed, and an error ends all of it."""

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
import torch

from nuclass_pipeline.config.models import LocalOptimConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train.cell_task import TrainingCells
from nuclass_pipeline.train.loaders import EpochShuffle, InOrder, RunShuffle, share_batches
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
    # Before the rounding of a few steps has grown.
    assert two[0][0]["val_accuracy"] == pytest.approx(one[0]["val_accuracy"], abs=0.1)
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
    cells = TrainingCells(train=range(9), validation=range(3))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"compute.devices: is 4, and subset val has only 3 cells. Set it to 3 or less."):
        cells.loaders(LocalOptimConfig(), COMPUTE.model_copy(update={"devices": 4}), 0)
