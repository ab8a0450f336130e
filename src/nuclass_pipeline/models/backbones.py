"""The registry of encoders: description, licence, and loading of the weights."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nuclass_pipeline.config.models import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line
from nuclass_pipeline.models.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder, assemble, plain_spec, wrap_dinov3

WEIGHTS = Path("resources/weights")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
Builder = Callable[[BackboneConfig], Encoder]


@dataclass(frozen=True)
class BackboneSpec:
    """One encoder of the registry.

    Attributes
    ----------
    name
        Name in run files.
    dim
        Size of the feature vector.
    field_px
        Side of the window that the encoder was trained on, px at 0.25 µm/px.
    licence
        Terms of the weights.
    source
        Web page of the weights.
    repository
        Hugging Face repository of the weights; empty for networks that start from random weights.
    build
        Function from the configuration to the encoder, with its weights loaded.
    """

    name: str
    dim: int
    field_px: int
    licence: str
    source: str
    repository: str
    build: Builder


REGISTRY: dict[str, BackboneSpec] = {}


def register(name: str, *, dim: int, field_px: int, licence: str, source: str, repository: str = "") -> Callable[[Builder], Builder]:
    """Add the decorated builder to the registry.

    Parameters
    ----------
    name
        Name in run files.
    dim
        Size of the feature vector.
    field_px
        Side of the window that the encoder was trained on, px at 0.25 µm/px.
    licence, source
        Terms of the weights, and their web page.
    repository
        Hugging Face repository of the weights; empty for networks that start from random weights.
    """

    def add(build: Builder) -> Builder:
        REGISTRY[name] = BackboneSpec(name, dim, field_px, licence, source, repository, build)
        return build

    return add


def describe_backbones() -> list[dict[str, Any]]:
    """Return one row per encoder: name, dim, field_px, licence, source and download command."""
    return [
        {
            "name": entry.name,
            "dim": entry.dim,
            "field_px": entry.field_px,
            "licence": entry.licence,
            "source": entry.source,
            "download": _download(entry) if entry.repository else "",
        }
        for entry in REGISTRY.values()
    ]


def find_backbone(name: str) -> BackboneSpec:
    """Return an encoder of the registry.

    Raises
    ------
    UserError
        If no encoder has this name.
    """
    if name not in REGISTRY:
        raise UserError("run file", "backbone.name", f"{name!r} is not a registered encoder", f"Use one of {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def build_backbone(config: BackboneConfig) -> Encoder:
    """Build an encoder and load its weights strictly.

    Raises
    ------
    UserError
        If the name is unknown, the weights folder is missing, or its contents do not fit.
    """
    entry = find_backbone(config.name)
    encoder = entry.build(config)
    if encoder.dim != entry.dim:
        problem = f"the encoder returns vectors of {encoder.dim} values, but {entry.name} has {entry.dim}"
        raise UserError(config.weights or "run file", "weights", problem, _remedy(entry))
    if config.gradient_checkpointing:
        encoder.checkpoint_gradients()
    return encoder


def weights_folder(config: BackboneConfig) -> Path:
    """Return the folder of weights.

    Raises
    ------
    UserError
        If the run file names no folder, or the folder holds no weights file.
    """
    entry = find_backbone(config.name)
    if not config.weights:
        raise UserError("run file", "backbone.weights", f"the folder is missing, and {config.name} needs trained weights", _remedy(entry))
    folder = Path(config.weights)
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise UserError(folder, "weights", f"the folder holds neither {' nor '.join(WEIGHT_FILES)}", _remedy(entry))
    return folder


def load_timm(
    config: BackboneConfig,
    architecture: str,
    arguments: dict[str, Any],
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    pool: Literal["token", "avg"] = "token",
) -> Encoder:
    """Build a timm vision transformer and load the weights folder into it, tensor by tensor.

    Parameters
    ----------
    config
        Weights folder and image size.
    architecture, arguments
        timm's name of the network, and what it is built with.
    mean, std
        Mean and standard deviation of the training images, RGB, values 0–1; the weights' page gives them.
    pool
        The feature vector: the class token, or the mean of the patch tokens.

    Raises
    ------
    UserError
        If the file is broken, or its tensors differ from those of the architecture.
    """
    folder = weights_folder(config)
    file = next(folder / name for name in WEIGHT_FILES if (folder / name).is_file())
    encoder = assemble(plain_spec("timm", architecture, {**arguments, "global_pool": pool}, mean, std))
    try:
        encoder.net.load_state_dict(_read_weights(file))
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        # The last line, because torch lists the missing tensors only after a headline.
        problem = f"the file does not fit {architecture} ({str(error).strip().splitlines()[-1].strip()})"
        raise UserError(file, "weights", problem, _remedy(find_backbone(config.name))) from error
    return encoder


def _read_weights(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _remedy(entry: BackboneSpec) -> str:
    if not entry.repository:
        return "Use an encoder that `nuclass backbones` lists."
    return f"Accept the licence ({entry.licence}) at {entry.source}, run `{_download(entry)}`, and set `weights` to that folder."


def _download(entry: BackboneSpec) -> str:
    return f"hf download {entry.repository} --local-dir {WEIGHTS / entry.name}"


# As on the model card, because timm's own defaults for this architecture describe another network.
UNI2_H: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "init_values": 1e-5,
    "embed_dim": 1536,
    "mlp_ratio": 5.33334,
    "no_embed_class": True,
    "mlp_layer": "SwiGLUPacked",
    "act_layer": "SiLU",
    "reg_tokens": 8,
    "dynamic_img_size": True,
}


@register(
    "uni2-h",
    dim=1536,
    field_px=224,
    licence="CC-BY-NC-ND 4.0, access on request",
    source="https://huggingface.co/MahmoodLab/UNI2-h",
    repository="MahmoodLab/UNI2-h",
)
def _uni2_h(config: BackboneConfig) -> Encoder:
    return load_timm(config, "vit_giant_patch14_224", UNI2_H)


@register(
    "dinov3-vitl16",
    dim=1024,
    field_px=1024,
    licence="DINOv3 License, access on request",
    source="https://huggingface.co/facebook/dinov3-vitl16-pretrain-lvd1689m",
    repository="facebook/dinov3-vitl16-pretrain-lvd1689m",
)
def load_dinov3(config: BackboneConfig) -> Encoder:
    """Load a DINOv3 folder in either published layout; its config.json names the layout.

    Raises
    ------
    UserError
        If config.json is broken or of another model, or the weights do not fit.
    """
    folder = weights_folder(config)
    file = folder / "config.json"
    try:
        described = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(file, "file", f"not a readable config.json ({first_line(error)})", _remedy(find_backbone(config.name))) from error
    if described.get("model_type") == "dinov3_vit":
        return _load_transformers(folder, find_backbone(config.name))
    if "dinov3" in str(described.get("architecture")):
        return load_timm(config, described["architecture"], {"dynamic_img_size": True})
    problem = "the file names neither `model_type: dinov3_vit` (transformers) nor an `architecture` with dinov3 (timm)"
    raise UserError(file, "model_type", problem, _remedy(find_backbone(config.name)))


def _load_transformers(folder: Path, entry: BackboneSpec) -> Encoder:
    from transformers import DINOv3ViTModel

    try:
        loaded: Any = DINOv3ViTModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(folder, "weights", f"transformers cannot load the folder ({first_line(error)})", _remedy(entry)) from error
    net, info = loaded
    # Checked here, because transformers itself fills missing tensors with random numbers.
    if wrong := [*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])]:
        raise UserError(folder, "weights", f"{len(wrong)} tensors do not fit, the first is {sorted(wrong)[0]}", _remedy(entry))
    spec = plain_spec("transformers", "dinov3_vit", _plain(net.config.to_diff_dict()), IMAGENET_MEAN, IMAGENET_STD)
    return wrap_dinov3(net.float(), spec)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    # Without dtypes, because a description holds JSON values only and the network runs in float32 anyway.
    kept: dict[str, Any] = json.loads(json.dumps({key: value for key, value in values.items() if key not in {"dtype", "torch_dtype"}}))
    return kept


@register("tiny-resnet", dim=192, field_px=224, licence="none needed", source="random weights, trained from the start")
def _tiny_resnet(config: BackboneConfig) -> Encoder:
    return assemble(plain_spec("own", "tiny-resnet", {}, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))


@register("tiny-vit", dim=64, field_px=224, licence="none needed", source="random weights, trained from the start")
def _tiny_vit(config: BackboneConfig) -> Encoder:
    arguments = {"img_size": config.image_px, "dynamic_img_size": True}
    return assemble(plain_spec("timm", "test_vit", arguments, IMAGENET_MEAN, IMAGENET_STD))
