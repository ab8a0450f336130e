"""The global path in training: what a validation may depend on, and files that cannot be read."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train.dataset import CellBatch
from nuclass_pipeline.train.global_ import GlobalTask, train_global
from tests.unit.train.toys import (
    BREAKS,
    CLASSES,
    COMPUTE,
    FROZEN,
    break_file,
    global_config,
    local_config,
    make_global,
    save_models,
    training_files,
    write_features,
    write_slide,
)


def make_task() -> GlobalTask:
    torch.manual_seed(0)
    return GlobalTask(make_global()[0], torch.ones(len(CLASSES)), global_config(context=FROZEN), seed=0, local=local_config())


def make_batch(labels: list[int]) -> CellBatch:
    generator = torch.Generator().manual_seed(0)
    cells = len(labels)
    image, context = torch.rand(cells, 3, 32, 32, generator=generator), torch.randn(cells, 64, generator=generator)
    return CellBatch(image, context, torch.arange(cells), torch.tensor(labels), torch.arange(cells))


def test_the_label_reaches_the_model_in_training_and_in_no_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = make_task(), []
    task.model.register_forward_pre_hook(lambda _module, _args, kwargs: seen.append(kwargs.get("label")), with_kwargs=True)
    monkeypatch.setattr(GlobalTask, "current_epoch", 0)
    batch = make_batch([0, 1, 2])
    task.predict_batch(batch)
    task.training_loss(batch)
    assert seen[0] is None
    assert torch.equal(seen[1], batch.label)


def test_validated_scores_are_those_of_use_whatever_the_label() -> None:
    task = make_task().eval()
    batch, other = make_batch([0, 1, 2]), make_batch([3, 3, 0])
    (loss, scores, label), (other_loss, other_scores, _) = task.predict_batch(batch), task.predict_batch(other)
    used = task.model(batch.image, batch.context, batch.organ)
    assert torch.equal(scores, used.logits)
    assert torch.equal(other_scores, scores)
    assert torch.equal(label, batch.label)
    assert not torch.equal(other_loss, loss)
    # The fused logits of training are others, so a validation of these would fail above.
    fused = task.model(batch.image, batch.context, batch.organ, label=batch.label)
    assert not torch.allclose(fused.local_logits + fused.inner_gate * fused.logits, scores)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    slide = write_slide(tmp_path, 40, 1)
    return {**training_files([slide]), "contexts": [write_features(tmp_path / "context.h5", 40)], "local": save_models(tmp_path)["local"]}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["contexts", "patches"])
def test_a_broken_file_is_named(files: dict[str, Any], tmp_path: Path, name: str, how: str) -> None:
    break_file(files[name][0], how)
    outputs = {"checkpoint": tmp_path / "best.ckpt", "history": tmp_path / "history.parquet", "resume": tmp_path / "resume"}
    with pytest.raises(UserError, match=rf"{files[name][0].name}: file: not a readable HDF5 file"):
        train_global(**files, config=global_config(context=FROZEN), compute=COMPUTE, seed=0, device="cpu", **outputs)
    assert not (tmp_path / "best.ckpt").exists()
