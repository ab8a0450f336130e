"""The registered encoders: size and number of tensors of each, and a folder of the right layout loads."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from nuclass_pipeline.config.backbones.registry import BACKBONES, BackboneSpec
from nuclass_pipeline.config.backbones.section import BackboneConfig, describe_backbones
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models import backbones
from nuclass_pipeline.models.backbones import H_OPTIMUS_0, UNI2_H, VIRCHOW2, build_backbone
from nuclass_pipeline.models.encoders import assemble
from nuclass_pipeline.models.networks.specs import IMAGENET_MEAN, IMAGENET_STD, plain_spec

DINOV2 = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 16, "image_size": 224}
GIANT = {
    "hidden_size": 1536,
    "num_hidden_layers": 40,
    "num_attention_heads": 24,
    "use_swiglu_ffn": True,
    "patch_size": 14,
    "image_size": 518,
}
CLIP = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 32, "image_size": 224}
SMALL_DINOV3 = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6, "num_register_tokens": 4}
FULL: dict[str, tuple[str, str, dict[str, Any], str | None, int, float]] = {
    "uni2-h": ("timm", "vit_giant_patch14_224", UNI2_H, None, 343, 681.4),
    "virchow2": ("timm", "vit_huge_patch14_224", VIRCHOW2, "cls+mean", 455, 631.2),
    "h-optimus-0": ("timm", "vit_giant_patch14_reg4_dinov2", H_OPTIMUS_0, None, 567, 1134.8),
    "midnight": ("transformers", "dinov2", GIANT, "cls+mean", 807, 1136.5),
    "phikon-v2": ("transformers", "dinov2", DINOV2, None, 439, 303.4),
    "plip": ("transformers", "clip_vision_model", CLIP, None, 199, 87.5),
    "dinov3-vits16": ("transformers", "dinov3_vit", SMALL_DINOV3, None, 211, 21.6),
}
"""Name → library, architecture, arguments, pool, tensors, and parameters in millions."""


@pytest.mark.parametrize("name", FULL)
def test_the_full_network(name: str) -> None:
    library, architecture, arguments, pool, tensors, millions = FULL[name]
    with torch.device("meta"):
        encoder = assemble(plain_spec(library, architecture, arguments, IMAGENET_MEAN, IMAGENET_STD, pool=pool))
    assert encoder.dim == BACKBONES[name].dim
    assert len(encoder.state_dict()) == tensors
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    ids = [id(p) for block in encoder.blocks() for p in block]
    assert sorted(ids) == sorted(id(p) for p in encoder.parameters())


def shrunk(monkeypatch: pytest.MonkeyPatch, name: str, dim: int) -> None:
    entry = BACKBONES[name]
    monkeypatch.setitem(BACKBONES, name, BackboneSpec(**{**vars(entry), "dim": dim}))


@pytest.mark.parametrize(("name", "architecture", "arguments", "dim"), [
    ("virchow2", "vit_huge_patch14_224", VIRCHOW2, 64),
    ("h-optimus-0", "vit_giant_patch14_reg4_dinov2", H_OPTIMUS_0, 32),
])  # fmt: skip
def test_a_small_folder_of_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, architecture: str, arguments: dict[str, Any], dim: int
) -> None:
    small = {**arguments, "embed_dim": 32, "depth": 2, "num_heads": 2}
    monkeypatch.setattr(backbones, "VIRCHOW2" if name == "virchow2" else "H_OPTIMUS_0", small)
    shrunk(monkeypatch, name, dim)
    made = assemble(plain_spec("timm", architecture, {**small, "global_pool": "token"}, IMAGENET_MEAN, IMAGENET_STD))
    torch.save(made.net.state_dict(), tmp_path / "pytorch_model.bin")
    encoder = build_backbone(BackboneConfig(name=name, weights=str(tmp_path))).eval()
    x = torch.rand(1, 3, 224, 224)
    tokens = made.net.eval().forward_features(encoder.normalize(x))
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1) if name == "virchow2" else tokens[:, 0]
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "model", "dim"), [
    ("midnight", "Dinov2Model", 64),
    ("phikon-v2", "Dinov2Model", 32),
    ("plip", "CLIPModel", 32),
    ("dinov3-vits16", "DINOv3ViTModel", 32),
])  # fmt: skip
@pytest.mark.parametrize("pickled", [False, True])
def test_a_small_folder_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, model: str, dim: int, pickled: bool
) -> None:
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings: dict[str, Any] = {**small, "patch_size": 16, "image_size": 224}
    if model == "CLIPModel":
        settings = {"vision_config": settings, "text_config": {**small, "vocab_size": 99}, "projection_dim": 16}
    made = getattr(transformers, model)(getattr(transformers, model).config_class(**settings)).eval()
    made.save_pretrained(tmp_path)
    if pickled:
        torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    shrunk(monkeypatch, name, dim)
    encoder = build_backbone(BackboneConfig(name=name, weights=str(tmp_path))).eval()
    y = encoder.normalize(torch.rand(1, 3, 224, 224))
    if model == "CLIPModel":
        expected = made.vision_model(y).pooler_output
    else:
        tokens = made(y).last_hidden_state
        expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1) if name == "midnight" else tokens[:, 0]
    torch.testing.assert_close(encoder(y * encoder.std + encoder.mean), expected, rtol=1e-3, atol=1e-4)


def test_gigapath_flash_is_as_its_folder_says(tmp_path: Path) -> None:
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    config = BackboneConfig(name="gigapath-flash", weights=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    assert build_backbone(config).dim == 192
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    with pytest.raises(UserError, match="'resnet18' is not a vision transformer of timm"):
        build_backbone(config)


def test_each_row_has_terms_and_a_command() -> None:
    for row in describe_backbones():
        assert row["licence"] and row["source"] and row["features"]
        assert not row["revision"] or row["revision"] in row["download"] or row["revision"] in ("not pinned", "0.1.0")
