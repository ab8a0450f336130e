"""The stages end to end on toy slides: each path learns what its images show, and interrupted training is resumed."""

import logging
import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_warnings
from nuclass_pipeline.models.gate import restore_gate
from nuclass_pipeline.models.global_ import restore_global
from nuclass_pipeline.models.local import restore_local
from nuclass_pipeline.train.features.cells import embed_cells
from nuclass_pipeline.train.features.windows import embed_windows
from nuclass_pipeline.train.gate import train_gate
from nuclass_pipeline.train.global_ import train_global
from nuclass_pipeline.train.local import LocalTask, train_local
from tests.unit.train.toys import (
    CLASSES,
    COMPUTE,
    FROZEN,
    gate_config,
    global_config,
    global_optim,
    local_config,
    local_optim,
    training_files,
    write_slide,
)

Slides = list[dict[str, Any]]
FAST = {"optim": global_optim(max_epochs=6, patience=6, lr_backbone=3e-3, lr_head=3e-3), "lr_context": 3e-3}
HISTORY = ["epoch", "step", "train_loss", "val_loss", "val_macro_f1", "val_accuracy", "lr"]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Slides:
    folder = tmp_path_factory.mktemp("slides")
    return [write_slide(folder / "a", 240, 1), write_slide(folder / "b", 160, 2)]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Slides:
    """Two slides for tests of the loop, in which nothing has to be learned: four batches of training cells."""
    folder = tmp_path_factory.mktemp("few")
    return [write_slide(folder / "a", 120, 1), write_slide(folder / "b", 100, 2)]


def run_local(slides: Slides, folder: Path, seed: int = 0, **changes: Any) -> Path:
    settings: dict[str, Any] = {"classes": ["B_Cell", *CLASSES], "config": local_config(), "compute": COMPUTE, **changes}
    train_local(
        **{**training_files(slides), **settings},
        seed=seed,
        device="cpu",
        checkpoint=folder / "best.ckpt",
        history=folder / "history.parquet",
        resume=folder / "resume",
    )
    return folder / "best.ckpt"


def run_global(slides: Slides, folder: Path, local: Path, contexts: list[Path], **changes: Any) -> Path:
    train_global(
        **training_files(slides),
        contexts=contexts,
        local=local,
        config=global_config(**changes),
        compute=COMPUTE,
        seed=0,
        device="cpu",
        checkpoint=folder / "best.ckpt",
        history=folder / "history.parquet",
        resume=folder / "resume",
    )
    return folder / "best.ckpt"


@pytest.fixture(scope="module")
def local(slides: Slides, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_local(slides, tmp_path_factory.mktemp("local"), config=local_config(optim=local_optim(max_epochs=6)))


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state"]
    return state


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_local_learns_the_color_of_the_middle(local: Path) -> None:
    _, meta = restore_local(local)
    assert meta.classes == CLASSES
    assert (meta.mpp, meta.seed) == (0.25, 0)
    history = pd.read_parquet(local.with_name("history.parquet"))
    assert list(history) == HISTORY
    assert history["epoch"].tolist() == list(range(6))
    assert history["val_macro_f1"].max() == pytest.approx(meta.score)
    # Two of four classes look alike in the crop, so chance is 0.25 and the best that the local path can do is 0.5.
    assert 0.35 < history["val_accuracy"].max() < 0.75
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert sorted(file.name for file in local.parent.iterdir()) == ["best.ckpt", "history.parquet"]


@pytest.fixture(scope="module")
def global_(slides: Slides, local: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_global(slides, tmp_path_factory.mktemp("global"), local, [slide["contexts"] for slide in slides], **FAST)


def embed(slide: dict[str, Any], local: Path, global_: Path, features: Path, **changes: Any) -> Path:
    names = ("cells", "patches", "contexts", "labels", "split")
    files = {**{name: slide[name] for name in names}, "organ": "lung", **changes}
    embed_cells(**files, local=local, global_=global_, compute=COMPUTE, device="cpu", features=features)
    return features


@pytest.mark.long
def test_global_sees_what_local_cannot_and_the_gate_prefers_it(slides: Slides, local: Path, global_: Path, tmp_path: Path) -> None:
    _, meta = restore_global(global_)
    assert meta.score > 0.8
    assert meta.local == restore_local(local)[1].local
    features = [embed(slide, local, global_, tmp_path / f"{number}.h5") for number, slide in enumerate(slides)]
    train_gate(
        features=features,
        labels=[slide["labels"] for slide in slides],
        splits=[slide["split"] for slide in slides],
        config=gate_config(),
        seed=0,
        checkpoint=tmp_path / "gate.ckpt",
        history=tmp_path / "gate.parquet",
    )
    _, gate_meta = restore_gate(tmp_path / "gate.ckpt")
    assert gate_meta.kind == "gate"
    assert gate_meta.score >= meta.score - 0.05
    assert list(pd.read_parquet(tmp_path / "gate.parquet")) == HISTORY


@pytest.mark.long
def test_embedded_cells_are_those_outside_the_training_subset(slides: Slides, local: Path, global_: Path, tmp_path: Path) -> None:
    split = pd.read_parquet(slides[0]["split"]).set_index("cell_id")["subset"]
    path, _ = restore_local(local)
    with h5py.File(embed(slides[0], local, global_, tmp_path / "f.h5")) as file:
        ids = file["cell_id"].asstr()[:]
        assert set(split[ids]) == {"gate", "val"}
        assert len(ids) == (split != "train").sum()
        assert list(file.attrs["classes"]) == list(CLASSES)
        assert (file["local_feature"].dtype, file["global_feature"].dtype, file["local_p"].dtype) == (np.float16, np.float16, np.float32)
        assert file["local_feature"].shape == (len(ids), 192)
        assert file["global_feature"].shape == (len(ids), 64)
        np.testing.assert_allclose(file["global_p"][:].sum(1), 1, atol=1e-5)
        with h5py.File(slides[0]["patches"]) as patches:
            row = list(patches["keys"].asstr()).index(ids[5])
            image = torch.from_numpy(patches["images"][row]).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            out = path(image, torch.tensor([path_organ("lung")]))
        np.testing.assert_allclose(file["local_p"][5], out.logits.softmax(-1)[0], atol=1e-4)
        np.testing.assert_allclose(file["local_feature"][5], out.feature[0], rtol=2e-3, atol=2e-3)


def path_organ(name: str) -> int:
    from nuclass_pipeline.vocabulary import ORGANS

    return ORGANS.index(name)


def test_a_frozen_context_encoder_is_run_once(slides: Slides, local: Path, tmp_path: Path) -> None:
    features = []
    for number, slide in enumerate(slides):
        torch.manual_seed(7)
        features.append(tmp_path / f"{number}.h5")
        embed_windows(patches=slide["contexts"], config=FROZEN, compute=COMPUTE, device="cpu", features=features[-1])
    with h5py.File(features[0]) as file, h5py.File(slides[0]["contexts"]) as patches:
        assert file["cell_id"].asstr()[:].tolist() == patches["keys"].asstr()[:].tolist()
        assert (file["feature"].shape, file["feature"].dtype) == ((240, 64), np.float16)
    path = run_global(slides, tmp_path, local, features, context=FROZEN, optim=global_optim(max_epochs=1))
    model, meta = restore_global(path)
    assert model.encoder is None
    assert meta.dims == {"local": 192, "context": 64, "global": 64}
    embed(slides[0], local, path, tmp_path / "cells.h5", contexts=features[0])
    with pytest.raises(UserError, match="the dataset is missing, and the encoder is frozen"):
        run_global(slides, tmp_path, local, [slide["contexts"] for slide in slides], context=FROZEN)


@pytest.mark.parametrize(("name", "dim"), [("concat", 200), ("none", 192)])
def test_all_stages_follow_the_conditioning(few: Slides, tmp_path: Path, name: str, dim: int) -> None:
    config = local_config(conditioning=name, organ_dropout=0.0 if name == "none" else 0.3, optim=local_optim(max_epochs=1))
    local = run_local(few, tmp_path / "local", config=config)
    contexts = [slide["contexts"] for slide in few]
    global_ = run_global(few, tmp_path / "global", local, contexts, optim=global_optim(max_epochs=1), use_context=False)
    meta = restore_global(global_)[1]
    assert (meta.trained_organs, meta.usable_organs) == (("lung", "pancreas"), ("lung", "pancreas", "unknown"))
    organs = ("lung", "pancreas", "colon")
    features = [embed(few[0], local, global_, tmp_path / f"{organ}.h5", organ=organ) for organ in organs]
    probabilities, warnings = [], []
    for path in features:
        with h5py.File(path) as file:
            assert file["local_feature"].shape[1] == dim
            probabilities.append(file["local_p"][:])
        warnings.append(read_warnings(path))
    unknown = ["no training slide is of colon, so the models take its organ as unknown"]
    assert warnings == [[], [], unknown if name == "concat" else []]
    assert all(np.allclose(probabilities[0], other) == (name == "none") for other in probabilities[1:])
    gate = {"labels": [few[0]["labels"]], "splits": [few[0]["split"]], "seed": 0, "history": tmp_path / "gate.parquet"}
    train_gate(features=features[:1], config=gate_config(), checkpoint=tmp_path / "gate.ckpt", **gate)
    assert restore_gate(tmp_path / "gate.ckpt")[1].feature_dims == {"local": dim, "global": 64}


def test_the_seed_decides_the_weights(few: Slides, tmp_path: Path) -> None:
    config = local_config(optim=local_optim(max_epochs=2), augment=True)
    first, second, other = (run_local(few, tmp_path / str(i), seed=s, config=config) for i, s in enumerate((5, 5, 6)))
    assert_same_weights(first, second)
    assert any(not torch.equal(a, b) for a, b in zip(weights(first).values(), weights(other).values(), strict=True))


class PulledPlugError(Exception):
    pass


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_interrupted_training_ends_like_the_uninterrupted(
    few: Slides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, schedule: str
) -> None:
    settings = local_optim(max_epochs=4, accumulate=2, checks_per_epoch=2, patience=8, schedule=schedule)
    config = local_config(optim=settings, augment=True, stain_jitter=0.3, freeze_backbone_epochs=1)
    whole = run_local(few, tmp_path / "whole", config=config)
    start_epoch = LocalTask.start_epoch

    def pull_plug(self: LocalTask, epoch: int) -> None:
        if epoch == 2:
            raise PulledPlugError
        start_epoch(self, epoch)

    with monkeypatch.context() as patch, pytest.raises(PulledPlugError):
        patch.setattr(LocalTask, "start_epoch", pull_plug)
        run_local(few, tmp_path / "cut", config=config)
    assert (tmp_path / "cut/resume/last.ckpt").exists()
    assert not (tmp_path / "cut/best.ckpt").exists()
    with caplog.at_level(logging.INFO):
        resumed = run_local(few, tmp_path / "cut", config=config)
    assert "resuming from" in caplog.text
    # What the screen of a run shows: it goes on from where it was, with the best score so far.
    assert re.search(r"progress 50\.00 %: epoch 3 of 4: begins, val macro-F1 0\.\d{3}, best 0\.\d{3}\n", caplog.text)
    assert re.search(
        r"progress 100\.00 %: epoch 4 of 4: train loss \d\.\d{3}, val macro-F1 0\.\d{3}, best 0\.\d{3}, val loss \d\.\d{3}\n", caplog.text
    )
    assert_same_weights(whole, resumed)
    one, other = (pd.read_parquet(path.with_name("history.parquet")) for path in (whole, resumed))
    assert other["epoch"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    pd.testing.assert_frame_equal(one, other)


def test_progress_in_the_log_changes_no_result(
    few: Slides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = local_config(optim=local_optim(max_epochs=2, checks_per_epoch=2, patience=8))
    silent = run_local(few, tmp_path / "silent", config=config)
    monkeypatch.setattr("nuclass_pipeline.train.history.PROGRESS_S", 0)
    with caplog.at_level(logging.INFO):
        loud = run_local(few, tmp_path / "loud", config=config)
    assert re.search(r"epoch 1 of 2: train loss \d\.\d{3} \(batch 1 of \d+\)", caplog.text)
    assert_same_weights(silent, loud)
    one, other = (pd.read_parquet(path.with_name("history.parquet")) for path in (silent, loud))
    pd.testing.assert_frame_equal(one, other)


def test_a_state_of_other_data_is_not_resumed(few: Slides, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume/last.ckpt").write_bytes(b"from elsewhere")
    (tmp_path / "resume/fingerprint").write_text("of something else")
    with caplog.at_level(logging.INFO):
        run_local(few, tmp_path, config=local_config(optim=local_optim(max_epochs=1)))
    assert "starting from the beginning" in caplog.text


@pytest.mark.parametrize(("frozen_epochs", "moves"), [(0, True), (1, True), (5, False)])
def test_the_encoder_is_trained_after_its_frozen_epochs(
    few: Slides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen_epochs: int, moves: bool
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    start_epoch = LocalTask.start_epoch

    def record(self: LocalTask, epoch: int) -> None:
        net = self.model.backbone.net
        seen.append((net.stem[1][0].weight.detach().clone(), net.stem[1][1].running_mean.clone()))
        start_epoch(self, epoch)

    monkeypatch.setattr(LocalTask, "start_epoch", record)
    config = local_config(optim=local_optim(max_epochs=3, warmup_steps=1), freeze_backbone_epochs=frozen_epochs)
    run_local(few, tmp_path, config=config)
    for index in range(2):
        assert torch.equal(seen[0][index], seen[1][index]) is (frozen_epochs > 0)
        assert torch.equal(seen[1][index], seen[2][index]) is not moves


@pytest.mark.parametrize(("schedule", "falls"), [("constant", False), ("cosine", True)])
def test_the_rate_follows_the_schedule(few: Slides, tmp_path: Path, schedule: str, falls: bool) -> None:
    settings = local_optim(max_epochs=4, patience=8, accumulate=2, warmup_steps=0, lr_head=2e-3, schedule=schedule)
    run_local(few, tmp_path, config=local_config(optim=settings))
    history = pd.read_parquet(tmp_path / "history.parquet")
    share = history["step"] / history["step"].iloc[-1]
    assert share.tolist() == [0.25, 0.5, 0.75, 1]
    expected = [0.5 * (1 + math.cos(math.pi * done)) if falls else 1 for done in share]
    np.testing.assert_allclose(history["lr"] / 2e-3, expected, rtol=1e-6, atol=1e-9)


def test_stain_jitter_reaches_training(few: Slides, tmp_path: Path) -> None:
    configs = [local_config(optim=local_optim(max_epochs=1), augment=augment, stain_jitter=jitter) for augment, jitter in
               ((True, 0.0), (True, 0.4), (False, 0.0), (False, 0.4))]  # fmt: skip
    plain, stained, bare, ignored = (
        weights(run_local(few, tmp_path / str(number), config=config)) for number, config in enumerate(configs)
    )
    assert any(not torch.equal(plain[name], stained[name]) for name in plain)
    assert all(torch.equal(bare[name], ignored[name]) for name in bare)


def test_early_stopping_waits_for_the_encoder(few: Slides, tmp_path: Path) -> None:
    config = local_config(optim=local_optim(max_epochs=6, patience=1, lr_head=1e-12, lr_backbone=1e-12), freeze_backbone_epochs=2)
    run_local(few, tmp_path, config=config)
    history = pd.read_parquet(tmp_path / "history.parquet")
    assert 3 <= len(history) < 6


def test_half_precision_and_loader_processes(few: Slides, tmp_path: Path) -> None:
    compute = COMPUTE.model_copy(update={"precision": "bf16-mixed", "workers": 1, "cache_gb": 0})
    path = run_local(few, tmp_path, compute=compute, config=local_config(optim=local_optim(max_epochs=1)))
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in weights(path).values())


def test_slides_of_two_pixel_sizes_are_trained_on_if_their_field_is_one(
    few: Slides, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brief = local_config(optim=local_optim(max_epochs=1))
    for name, side, is_one in (("wide", 32, False), ("coarse", 16, True)):
        other = write_slide(tmp_path / name, 40, 3, side=side)
        with h5py.File(other["patches"], "a") as file:
            file.attrs["mpp"] = 0.5
        if is_one:
            meta = restore_local(run_local([few[0], other], tmp_path, config=brief))[1]
            assert (meta.mpp, meta.local_um) == (0.25, 8)
            assert "patches differ in pixel size, and so in detail" in caplog.text
        else:
            with pytest.raises(UserError, match=r"local_um: windows differ in side: 8.0 in .*, 16.0 in .*wide"):
                run_local([few[0], other], tmp_path, config=brief)


def test_every_epoch_has_another_order(few: Slides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    training_loss = LocalTask.training_loss

    def record(self: LocalTask, batch: Any) -> torch.Tensor:
        seen.append(batch.cell.tolist())
        return training_loss(self, batch)

    monkeypatch.setattr(LocalTask, "training_loss", record)
    run_local(few, tmp_path, config=local_config(optim=local_optim(max_epochs=2)))
    half = len(seen) // 2
    first, second = ([cell for batch in batches for cell in batch] for batches in (seen[:half], seen[half:]))
    assert sorted(first) == sorted(second) == list(range(len(first)))
    assert first != second
