"""Encoders load exactly the weights of their folder; an error names the remedy."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError

from nuclass_pipeline.config.backbones.registry import BACKBONES, BackboneSpec
from nuclass_pipeline.config.backbones.section import BackboneConfig, describe_backbones
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.backbones import UNI2_H, build_backbone, load_timm
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.models.networks.specs import IMAGENET_MEAN, IMAGENET_STD, plain_spec
from nuclass_pipeline.runtime import load_entry

MINI_UNI: dict[str, Any] = {**UNI2_H, "depth": 2, "num_heads": 4, "embed_dim": 96, "img_size": 28}
SOURCE = {"licence": "test", "source": "https://example.org", "repository": "a/b"}
DINOV3 = "models.backbones:load_dinov3"


def load_mini_uni(config: BackboneConfig) -> Encoder:
    return load_timm(config, "vit_giant_patch14_224", MINI_UNI)


@pytest.fixture(autouse=True)
def miniatures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclass_pipeline.models.backbones.load_mini_uni", load_mini_uni, raising=False)
    for name, dim, factory in (
        ("mini-uni", 96, "models.backbones:load_mini_uni"),
        ("mini-dinov3", 32, DINOV3),
        ("mini-dinov3-timm", 384, DINOV3),
    ):
        monkeypatch.setitem(BACKBONES, name, BackboneSpec(dim, 64, factory=factory, **SOURCE))


def images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def standardize(x: torch.Tensor) -> torch.Tensor:
    return (x - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)


def save_uni(folder: Path) -> Encoder:
    encoder = assemble(plain_spec("timm", "vit_giant_patch14_224", {**MINI_UNI, "global_pool": "token"}, IMAGENET_MEAN, IMAGENET_STD))
    timm.models.save_for_hf(encoder.net, folder, model_args={"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}, safe_serialization=True)
    return encoder


@pytest.mark.parametrize("checkpointing", [False, True])
def test_uni_weights_arrive(tmp_path: Path, checkpointing: bool) -> None:
    saved = save_uni(tmp_path).eval()
    config = BackboneConfig(name="mini-uni", weights=str(tmp_path), gradient_checkpointing=checkpointing)
    loaded = build_backbone(config).eval()
    x = images(2, 28)
    torch.testing.assert_close(loaded(x), saved.net(standardize(x)), rtol=0, atol=0)
    assert loaded.net.grad_checkpointing is checkpointing
    loaded(x).sum().backward()
    assert loaded.net.patch_embed.proj.weight.grad is not None


def test_pytorch_bin_is_read_too(tmp_path: Path) -> None:
    saved = save_uni(tmp_path).eval()
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    torch.save(saved.net.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = build_backbone(BackboneConfig(name="mini-uni", weights=str(tmp_path))).eval()
    torch.testing.assert_close(loaded(images(1, 28)), saved(images(1, 28)), rtol=0, atol=0)


def save_dinov3(folder: Path) -> Any:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, patch_size=16, image_size=64)
    net = DINOv3ViTModel(config).eval()
    net.save_pretrained(folder)
    return net


def test_dinov3_of_transformers(tmp_path: Path) -> None:
    saved = save_dinov3(tmp_path)
    loaded = build_backbone(BackboneConfig(name="mini-dinov3", weights=str(tmp_path), gradient_checkpointing=True)).eval()
    x = images(2, 96)
    torch.testing.assert_close(loaded(x), saved(standardize(x)).pooler_output, rtol=0, atol=0)
    assert loaded.grid(x).shape == (2, 32, 6, 6)
    blocks = [id(p) for block in loaded.blocks() for p in block]
    assert sorted(blocks) == sorted(id(p) for p in loaded.parameters())
    again = assemble(json.loads(json.dumps(loaded.spec))).eval()
    again.load_state_dict(loaded.state_dict())
    torch.testing.assert_close(again(x), loaded(x), rtol=0, atol=0)


def test_dinov3_with_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_dinov3(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(dict(list(state.items())[:-1]), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 tensors do not fit"):
        build_backbone(BackboneConfig(name="mini-dinov3", weights=str(tmp_path)))


def test_dinov3_of_timm(tmp_path: Path) -> None:
    net = timm.create_model("vit_small_patch16_dinov3", num_classes=0).eval()
    timm.models.save_for_hf(net, tmp_path)
    loaded = build_backbone(BackboneConfig(name="mini-dinov3-timm", weights=str(tmp_path))).eval()
    x = images(1, 64)
    torch.testing.assert_close(loaded(x), net.forward_features(standardize(x))[:, 0], rtol=1e-5, atol=1e-5)
    assert loaded.grid(x).shape == (1, 384, 4, 4)


@pytest.mark.parametrize("name", ["uni2-h", "dinov3-vitl16"])
@pytest.mark.parametrize("weights", [None, "/nowhere/at/all"])
def test_the_error_of_absent_weights_names_licence_source_and_command(name: str, weights: str | None) -> None:
    with pytest.raises(UserError) as error:
        build_backbone(BackboneConfig(name=name, weights=weights))
    line = str(error.value)
    assert "\n" not in line
    assert BACKBONES[name].licence in line
    assert BACKBONES[name].source in line
    assert f"hf download {BACKBONES[name].repository} --local-dir" in line


def test_broken_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    save_uni(tmp_path)
    config = BackboneConfig(name="uni2-h", weights=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="does not fit"):
        build_backbone(config.model_copy(update={"name": "mini-uni"}))
    save_dinov3(tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        build_backbone(config.model_copy(update={"name": "mini-uni"}))
    with pytest.raises(UserError, match="vectors of 32 values, but dinov3-vitl16 has 1024"):
        build_backbone(config.model_copy(update={"name": "dinov3-vitl16"}))


def test_a_config_of_another_model_is_refused(tmp_path: Path) -> None:
    save_dinov3(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type"):
        build_backbone(BackboneConfig(name="mini-dinov3", weights=str(tmp_path)))


@pytest.mark.parametrize("name", ["uni2h", "../uni2-h", "uni2-h\n", "", "hf-hub:a/b", "/etc/passwd"])
def test_names_outside_the_registry_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"Use one of uni2-h, dinov3-vitl16, .*tiny-resnet, tiny-vit"):
        BackboneConfig(name=name)


def test_every_factory_is_there() -> None:
    assert all(callable(load_entry(entry.factory)) for entry in BACKBONES.values())


def test_the_registry_describes_itself() -> None:
    rows = {row["name"]: row for row in describe_backbones()}
    assert rows["uni2-h"]["dim"] == 1536
    assert rows["dinov3-vitl16"]["download"].startswith("hf download facebook/dinov3-vitl16")
    assert rows["tiny-resnet"]["download"] == ""


@pytest.mark.parametrize(
    ("name", "side", "grid", "channels", "dim"),
    [("tiny-resnet", 96, 6, 96, 192), ("tiny-resnet", 32, 2, 96, 192), ("tiny-vit", 96, 6, 64, 64)],
)
def test_small_networks(name: str, side: int, grid: int, channels: int, dim: int) -> None:
    encoder = build_backbone(BackboneConfig(name=name, image_px=side)).eval()
    vector, tokens = encoder.trace(images(2, side))
    assert encoder.dim == BACKBONES[name].dim == dim
    assert vector.shape == (2, dim)
    assert tokens.shape == (2, channels, grid, grid)
    torch.testing.assert_close(vector, encoder(images(2, side)))
    (gradient,) = torch.autograd.grad(vector[:, 0].sum(), tokens)
    assert gradient.abs().sum() > 0
    ids = [id(p) for block in encoder.blocks() for p in block]
    assert sorted(ids) == sorted(id(p) for p in encoder.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_the_tiny_network_does_not_see_the_strength_of_the_colors(seed: int) -> None:
    torch.manual_seed(seed)
    encoder = build_backbone(BackboneConfig(name="tiny-resnet", image_px=96)).eval()
    x = images(2, 96)
    scale, offset = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.5, 0.8, 0.3), (0.4, 0.1, 0.05)))
    vector, rescaled = encoder(x), encoder(scale * x + offset)
    between_images = (vector[0] - vector[1]).norm()
    assert (rescaled - vector).norm(dim=1).max() < 2e-3 * between_images
    assert (encoder(x.flip(1)) - vector).norm(dim=1).min() > 0.1 * between_images
    for norm in (module for module in encoder.net.modules() if isinstance(module, torch.nn.InstanceNorm2d)):
        assert not norm.track_running_stats


def test_the_tiny_network_sees_each_image_by_itself() -> None:
    encoder = build_backbone(BackboneConfig(name="tiny-resnet", image_px=64)).eval()
    x = images(3, 64)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), rtol=1e-4, atol=1e-5)
