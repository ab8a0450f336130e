"""The two paths: what their outputs depend on, and what they must not depend on."""

from pathlib import Path

import pytest
import torch

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.models import GlobalConfig, LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models import checkpoint
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.global_ import GlobalClassifier, restore_global
from nuclass_pipeline.models.layers import FiLM
from nuclass_pipeline.models.local import LocalClassifier, restore_local

TINY = BackboneConfig(name="tiny-resnet", image_px=32)
LOCAL = LocalConfig(backbone=TINY, organ_dim=8)
GLOBAL = GlobalConfig(context=TINY, projection=16, context_dropout=0)
DIM = 192
IMAGES, CONTEXT = torch.rand(4, 3, 32, 32), torch.rand(4, DIM)
ORGAN, LABEL = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 1])


def make_local() -> LocalClassifier:
    torch.manual_seed(0)
    return LocalClassifier(build_backbone(TINY), classes=3, organs=3, config=LOCAL)


def make_global() -> GlobalClassifier:
    return GlobalClassifier(make_local(), None, DIM, classes=3, config=GLOBAL)


def meta(path: LocalClassifier, **changes: object) -> checkpoint.CheckpointMetadata:
    return checkpoint.CheckpointMetadata(
        kind="local",
        classes=("A", "B", "C"),
        organs=("x", "y", "z"),
        mpp=0.25,
        local=LOCAL,
        backbone=path.backbone.spec,
        dims={"local": DIM},
        seed=3,
    ).model_copy(update=changes)


def test_film_equation() -> None:
    film = FiLM(6, 2, 4)
    feature, organ = torch.randn(2, 6), torch.tensor([1, 0])
    out = film.modulation(film.embedding(organ))
    expected = torch.nn.functional.layer_norm(feature, (6,)) * (1 + out[:, :6]) + out[:, 6:]
    torch.testing.assert_close(film(feature, organ), expected)


def test_the_organ_reaches_local_but_not_the_raw_vector() -> None:
    path = make_local().eval()
    first, second = (path(IMAGES, torch.full((4,), organ)) for organ in (0, 1))
    torch.testing.assert_close(first.raw, second.raw)
    assert not torch.allclose(first.logits, second.logits)


def test_global_head_sees_the_raw_vector_not_the_organ() -> None:
    path = make_global().eval()
    first, second = (path(IMAGES, CONTEXT, torch.full((4,), organ)) for organ in (0, 1))
    torch.testing.assert_close(first.logits, second.logits)
    assert not torch.allclose(first.local_logits, second.local_logits)


def test_labels_reach_the_inner_gate_only() -> None:
    path = make_global().eval()
    blind, labelled = path(IMAGES, CONTEXT, ORGAN), path(IMAGES, CONTEXT, ORGAN, label=LABEL)
    torch.testing.assert_close(blind.logits, labelled.logits)
    torch.testing.assert_close(blind.feature, labelled.feature)
    assert not torch.allclose(blind.inner_gate, labelled.inner_gate)


def test_alpha_scales_the_context_alone() -> None:
    path = make_global().eval()
    none, half = (path(IMAGES, CONTEXT, ORGAN, alpha=alpha) for alpha in (0.0, 0.5))
    other = path(IMAGES, CONTEXT + 1e3 * torch.rand(4, DIM), ORGAN, alpha=0.0)
    torch.testing.assert_close(none.logits, other.logits)
    assert not torch.allclose(none.logits, half.logits)
    torch.testing.assert_close(path(IMAGES, CONTEXT, ORGAN).logits, path(IMAGES, CONTEXT, ORGAN, alpha=1.0).logits)
    assert float(path.state_dict()["alpha"]) == 1.0


def test_context_dropout_takes_whole_batches_and_only_in_training() -> None:
    path = GlobalClassifier(
        make_local(), None, DIM, classes=3, config=GLOBAL.model_copy(update={"context_dropout": 0.999999, "dropout": 0.0})
    )
    path.eval()
    kept = path(IMAGES, CONTEXT, ORGAN).feature
    path.training = True
    dropped = path(IMAGES, CONTEXT, ORGAN).feature
    torch.testing.assert_close(dropped[:, :16], kept[:, :16])
    assert torch.equal(dropped[:, 16:], dropped[:1, 16:].expand(4, 16))


def test_local_checkpoint_stands_alone(tmp_path: Path) -> None:
    path = make_local().eval()
    checkpoint.save_checkpoint(tmp_path / "best.ckpt", path, meta(path, score=0.5, epoch=2))
    restored, found = restore_local(tmp_path / "best.ckpt")
    assert (found.classes, found.score, found.epoch, found.seed, found.version) == (("A", "B", "C"), 0.5, 2, 3, "0.1.0")
    torch.testing.assert_close(restored(IMAGES, ORGAN).logits, path(IMAGES, ORGAN).logits, rtol=0, atol=0)
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize("trained", [True, False])
def test_global_checkpoint_stands_alone(tmp_path: Path, trained: bool) -> None:
    encoder = build_backbone(TINY) if trained else None
    path = GlobalClassifier(make_local(), encoder, DIM, classes=3, config=GLOBAL).eval()
    spec = encoder.spec if encoder else None
    found = meta(path.local, kind="global", global_=GLOBAL, context=spec, dims={"local": DIM, "context": DIM, "global": 32})
    checkpoint.save_checkpoint(tmp_path / "best.ckpt", path, found)
    restored, _ = restore_global(tmp_path / "best.ckpt")
    context = IMAGES if trained else CONTEXT
    torch.testing.assert_close(restored(IMAGES, context, ORGAN).logits, path(IMAGES, context, ORGAN).logits, rtol=0, atol=0)


def test_unusable_checkpoints_have_an_error_each(tmp_path: Path) -> None:
    path, file = make_local(), tmp_path / "best.ckpt"
    with pytest.raises(UserError, match="does not exist"):
        restore_local(file)
    file.write_bytes(b"no weights here")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        restore_local(file)
    torch.save({"format": "other"}, file)
    with pytest.raises(UserError, match="format"):
        restore_local(file)
    checkpoint.save_checkpoint(file, path, meta(path))
    with pytest.raises(UserError, match="is a local model, not global"):
        restore_global(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        restore_local(file)
