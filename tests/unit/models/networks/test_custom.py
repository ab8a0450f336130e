"""Any network of timm or transformers by the run file: vector, map, gradients, groups of parameters, sizes and errors."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.train.cell_task import set_frozen
from nuclass_pipeline.train.optim import encoder_param_groups

TIMM = {
    "resnet18": (1920, 64),
    "mobilenetv3_small_050": (224, 64),
    "convnext_atto": (1200, 64),
    "swin_tiny_patch4_window7_224": (2880, 64),
    "vit_tiny_patch16_224": (192, 64),
    "efficientnet_b0": (512, 64),
    "densenet121": (5632, 64),
    "vit_small_patch16_dinov3": (384, 64),
    "deit_tiny_distilled_patch16_224": (192, 64),
    "regnety_002": (1200, 64),
    "caformer_s18": (2048, 64),
    "test_vit": (64, 64),
}
"""Architecture → size of the vector by default, and a side of images."""


def save(folder: Path, architecture: str, file: str = "pytorch_model.bin", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    net = timm.create_model(architecture, **arguments)
    folder.mkdir(exist_ok=True)
    torch.save(net.state_dict(), folder / file)
    return net


def custom(folder: Path, architecture: str, side: int = 64, **values: Any) -> BackboneConfig:
    return BackboneConfig(name="mine", architecture=architecture, weights=str(folder), image_px=side, **values)


def images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def check(encoder: Encoder, dim: int, side: int) -> None:
    x = images(2, side)
    encoder.eval()
    vector, grid = encoder.trace(x)
    assert encoder.dim == dim
    assert vector.shape == (2, dim)
    assert grid.ndim == 4
    assert grid.shape[2] == grid.shape[3] <= side // 2
    torch.testing.assert_close(encoder(x), vector)
    torch.testing.assert_close(encoder.grid(x), grid)
    (gradient,) = torch.autograd.grad(vector.square().sum(), grid, retain_graph=True)
    assert gradient.abs().sum() > 0
    blocks = encoder.blocks()
    assert len(blocks) > 2
    assert sorted(id(p) for block in blocks for p in block) == sorted(id(p) for p in encoder.parameters())
    rates = [group.lr for group in encoder_param_groups(encoder, 1.0, 0.5)]
    assert rates[:-1] == sorted(rates[:-1])
    again = assemble(json.loads(json.dumps(encoder.spec))).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(x), vector, rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(encoder)(x), vector, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", TIMM)
def test_a_network_of_timm(tmp_path: Path, architecture: str) -> None:
    dim, side = TIMM[architecture]
    save(tmp_path, architecture, num_classes=7)
    check(build_backbone(custom(tmp_path, architecture, side)), dim, side)


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_the_weights_arrive(tmp_path: Path, architecture: str) -> None:
    net = save(tmp_path, architecture).eval()
    encoder = build_backbone(custom(tmp_path, architecture, 224, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))).eval()
    x = images(1, 224)
    y = (x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
    if architecture.startswith("vit"):
        torch.testing.assert_close(encoder(x), net.forward_features(y)[:, 0], rtol=1e-4, atol=1e-5)
    else:
        options = {"extra_blocks": True} if architecture.startswith("mobile") else {}
        last = net.forward_intermediates(y, indices=[5 if options else len(net.feature_info) - 1], intermediates_only=True, **options)[0]
        torch.testing.assert_close(encoder.grid(x), last, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet18", "test_vit", "convnext_atto"])
def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path, architecture: str) -> None:
    save(tmp_path, architecture)
    found = []
    for checkpointing in (False, True):
        encoder = build_backbone(custom(tmp_path, architecture, gradient_checkpointing=checkpointing)).eval()
        encoder(images(1, 64)).square().sum().backward()
        found.append(next(encoder.parameters()).grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenetv3_small_050"])
def test_a_frozen_network_keeps_its_statistics(tmp_path: Path, architecture: str) -> None:
    save(tmp_path, architecture)
    encoder = build_backbone(custom(tmp_path, architecture))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    set_frozen(encoder, True)
    assert not encoder(images(4, 64)).requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    set_frozen(encoder, False)
    assert encoder(images(4, 64)).requires_grad


@pytest.mark.parametrize(
    ("architecture", "features", "dim"),
    [
        ("resnet18", {"layers": [1]}, 128),
        ("resnet18", {"layers": "last"}, 1024),
        ("resnet18", {"layers": [2, 4], "pool": "mean"}, 640),
        ("vit_tiny_patch16_224", {"layers": [2, 5, 8]}, 576),
        ("vit_tiny_patch16_224", {"pool": "cls+mean"}, 384),
        ("vit_tiny_patch16_224", {"layers": [3], "pool": "mean+centre"}, 384),
        ("vit_tiny_patch16_224", {"layers": "last", "pool": "mean"}, 192),
        ("swin_tiny_patch4_window7_224", {"layers": [0, 1], "pool": "mean"}, 288),
    ],
)
def test_features_from_depth(tmp_path: Path, architecture: str, features: dict[str, Any], dim: int) -> None:
    save(tmp_path, architecture)
    whole, encoder = (build_backbone(custom(tmp_path, architecture, features=values)) for values in ({}, features))
    check(encoder, dim, 64)
    if isinstance(features.get("layers"), list) and features["layers"][-1] < 4 and architecture != "swin_tiny_patch4_window7_224":
        assert sum(p.numel() for p in encoder.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize(
    ("architecture", "features", "message"),
    [
        ("resnet18", {"layers": [1, 9]}, "it has no layer 9: its layers are 0 to 4"),
        ("vit_tiny_patch16_224", {"layers": [12]}, "it has no layer 12: its layers are 0 to 11"),
        ("resnet18", {"pool": "cls"}, "it has no class token, which pool cls takes"),
    ],
)
def test_features_that_are_not_there(tmp_path: Path, architecture: str, features: dict[str, Any], message: str) -> None:
    save(tmp_path, architecture)
    with pytest.raises(UserError, match=message):
        build_backbone(custom(tmp_path, architecture, features=features))


@pytest.mark.parametrize("file", ["pytorch_model.bin", "mine.pth", "model.safetensors"])
def test_a_folder_and_a_file(tmp_path: Path, file: str) -> None:
    net = save(tmp_path, "resnet18", file)
    if file.endswith("safetensors"):
        timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    for weights in {tmp_path / file, *([tmp_path] if file != "mine.pth" else [])}:
        assert build_backbone(custom(weights, "resnet18")).dim == 1920


def test_the_folder_gives_mean_and_deviation(tmp_path: Path) -> None:
    net = timm.create_model("resnet18", pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)})
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    encoder = build_backbone(custom(tmp_path, "resnet18"))
    assert (encoder.spec["mean"], encoder.spec["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert build_backbone(custom(tmp_path, "resnet18", mean=(0.7, 0.7, 0.7))).spec["mean"] == [0.7] * 3


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "resnet18")
    with pytest.raises(UserError, match=r"'resnet81' is not a network of timm, did you mean 'resnet18'\?"):
        build_backbone(custom(tmp_path, "resnet81"))
    with pytest.raises(UserError, match=r"does not fit resnet34 \(\d+ tensors are missing"):
        build_backbone(custom(tmp_path, "resnet34"))
    (tmp_path / "config.json").write_text('{"architecture": "resnet26"}')
    with pytest.raises(UserError, match=r"the weights are of resnet26, and the run file names resnet18.*Write `architecture: resnet26`"):
        build_backbone(custom(tmp_path, "resnet18"))
    save(tmp_path / "vit", "vit_tiny_patch16_224")
    with pytest.raises(UserError, match="image_px: vit_tiny_patch16_224 does not take 100 px"):
        build_backbone(custom(tmp_path / "vit", "vit_tiny_patch16_224", 100))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "uni2-h", "architecture": "resnet18"}, "the encoder is registered. Remove architecture"),
        ({"name": "My_Net", "architecture": "resnet18"}, "not a name. Use lower-case letters"),
        ({"name": "tiny-vit", "mean": (0, 0, 0)}, "mean of tiny-vit is that of the registry"),
        ({"name": "mine", "architecture": "hf-hub:a/b"}, "not a name of timm"),
        ({"name": "mine", "architecture": "resnet18", "std": (0.2, 0, 0.2)}, "not above 0"),
        ({"name": "tiny-vit", "features": {"layers": [3, 1]}}, "not numbers that rise"),
        ({"name": "tiny-vit", "features": {"pool": "max"}}, "Input should be"),
    ],
)
def test_a_section_that_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BackboneConfig(**values)


SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
HUB: dict[str, tuple[str, dict[str, Any], int]] = {
    "dinov2": ("Dinov2Model", {**SMALL, "patch_size": 16, "image_size": 64}, 32),
    "dinov3_vit": ("DINOv3ViTModel", {**SMALL, "patch_size": 16, "image_size": 64}, 32),
    "vit": ("ViTModel", {**SMALL, "patch_size": 16, "image_size": 224}, 32),
    "clip_vision_model": ("CLIPVisionModel", {**SMALL, "patch_size": 32, "image_size": 224}, 32),
    "swin": ("SwinModel", {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 64}, 128),
    "convnext": ("ConvNextModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, 48),
    "resnet": ("ResNetModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "layer_type": "basic"}, 48),
}


def save_hub(folder: Path, kind: str, *, head: str = "") -> Any:
    import transformers

    name, arguments, _ = HUB[kind]
    model = getattr(transformers, head or name)
    net = model(transformers.CONFIG_MAPPING[kind](**arguments)).eval()
    net.save_pretrained(folder)
    return net


@pytest.mark.parametrize("kind", HUB)
def test_a_folder_of_transformers(tmp_path: Path, kind: str) -> None:
    save_hub(tmp_path, kind)
    check(build_backbone(custom(tmp_path, "transformers", 64)), HUB[kind][2], 64)


@pytest.mark.parametrize(("kind", "head"), [("vit", "ViTForImageClassification"), ("dinov2", "Dinov2ForImageClassification")])
def test_a_classifier_of_transformers_is_left_out(tmp_path: Path, kind: str, head: str) -> None:
    net = save_hub(tmp_path, kind, head=head)
    encoder = build_backbone(custom(tmp_path, "transformers", 64, mean=(0, 0, 0), std=(1, 1, 1))).eval()
    x = images(1, 64)
    body = getattr(net, kind)
    options = {"interpolate_pos_encoding": True} if kind == "vit" else {}
    torch.testing.assert_close(encoder(x), body(x, **options).last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)
