"""Image encoders of the registry, built with the weights of a folder; nothing is downloaded."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from nuclass_pipeline.config.models import WEIGHT_FILES, BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line
from nuclass_pipeline.io.tensor_files import check_model_folder, read_shapes, read_small_json
from nuclass_pipeline.models.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder, assemble, check_spec, plain_spec, wrap_dinov3
from nuclass_pipeline.models.weights import UNREADABLE, fill, read_tensors, refuse_nan, shapes_of, sketch
from nuclass_pipeline.runtime import load_entry, stay_offline

MAX_CONFIG = 100_000
"""Most bytes of a config.json; published ones have 1,000."""


def build_backbone(config: BackboneConfig) -> Encoder:
    """Build an encoder and load its weights strictly.

    Raises
    ------
    UserError
        If the weights folder is missing, or its contents do not fit.
    """
    stay_offline()
    encoder: Encoder = load_entry(config.entry.factory)(config)
    _check_dim(config, encoder.dim)
    if config.gradient_checkpointing:
        encoder.checkpoint_gradients()
    return encoder


def _check_dim(config: BackboneConfig, dim: int) -> None:
    if dim != config.entry.dim:
        problem = f"the encoder returns vectors of {dim} values, but {config.name} has {config.entry.dim}"
        raise UserError(config.weights or "run file", "weights", problem, config.remedy)


def weights_folder(config: BackboneConfig) -> Path:
    """Return the folder of weights.

    Raises
    ------
    UserError
        If the run file names no folder, or the folder holds no weights file.
    """
    if problem := config.weights_problem:
        raise UserError(config.weights or "run file", "weights", problem, config.remedy)
    return Path(config.weights or "")


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

    def build() -> Encoder:
        encoder = assemble(plain_spec("timm", architecture, {**arguments, "global_pool": pool}, mean, std))
        _check_dim(config, encoder.dim)
        return encoder

    try:
        return fill(build, {f"net.{name}": tensor for name, tensor in read_tensors(file).items()})
    except UNREADABLE as error:
        problem = f"the file does not fit {architecture} ({first_line(error)})"
        raise UserError(file, "weights", problem, config.remedy) from error


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


def load_uni2_h(config: BackboneConfig) -> Encoder:
    """Load a folder of UNI2-h."""
    return load_timm(config, "vit_giant_patch14_224", UNI2_H)


def load_dinov3(config: BackboneConfig) -> Encoder:
    """Load a DINOv3 folder in either published layout; its config.json names the layout.

    Raises
    ------
    UserError
        If config.json is broken or of another model, or the weights do not fit.
    """
    folder = weights_folder(config)
    file = folder / "config.json"
    described = _read_config(file, config.remedy)
    if described.get("model_type") == "dinov3_vit":
        return _load_transformers(folder, described, config)
    architecture = described.get("architecture")
    if isinstance(architecture, str) and "dinov3" in architecture:
        arguments = {"dynamic_img_size": True}
        try:
            check_spec(plain_spec("timm", architecture, arguments, IMAGENET_MEAN, IMAGENET_STD))
        except ValueError as error:
            raise UserError(file, "architecture", str(error), config.remedy) from error
        return load_timm(config, architecture, arguments)
    problem = "the file names neither `model_type: dinov3_vit` (transformers) nor an `architecture` with dinov3 (timm)"
    raise UserError(file, "model_type", problem, config.remedy)


def _read_config(file: Path, remedy: str) -> dict[str, Any]:
    try:
        return read_small_json(file, MAX_CONFIG)
    except (OSError, ValueError) as error:
        raise UserError(file, "file", f"not a readable config.json ({first_line(error)})", remedy) from error


def _load_transformers(folder: Path, described: dict[str, Any], config: BackboneConfig) -> Encoder:
    from transformers import DINOv3ViTModel

    file = folder / WEIGHT_FILES[0]
    try:
        check_model_folder(folder)
        spec = plain_spec("transformers", "dinov3_vit", _plain(described), IMAGENET_MEAN, IMAGENET_STD)
        outline = sketch(lambda: assemble(spec))
        _check_dim(config, outline.dim)
        wanted = Counter(shapes_of(outline.net.state_dict()).values())
        # By shape, because transformers renames tensors; it compares the names itself.
        if short := wanted - Counter(read_shapes(file).values()):
            raise ValueError(f"{short.total()} tensors do not fit, one has no {list(next(iter(short)))}")
        loaded: Any = DINOv3ViTModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
        net, info = loaded
        # Checked here, because transformers itself fills missing tensors with random numbers.
        if wrong := [*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])]:
            raise ValueError(f"{len(wrong)} tensors do not fit, the first is {sorted(wrong)[0]}")
        refuse_nan(net.state_dict().items())
    except UNREADABLE as error:
        raise UserError(folder, "weights", f"not loadable as DINOv3 ({first_line(error)})", config.remedy) from error
    spec = plain_spec("transformers", "dinov3_vit", _plain(net.config.to_diff_dict()), IMAGENET_MEAN, IMAGENET_STD)
    return wrap_dinov3(net.float(), spec)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    # Without dtypes, because a description holds JSON values only and the network runs in float32 anyway.
    kept: dict[str, Any] = json.loads(json.dumps({key: value for key, value in values.items() if key not in {"dtype", "torch_dtype"}}))
    return kept


def make_tiny_resnet(config: BackboneConfig) -> Encoder:
    """Build a small residual network with random weights."""
    return assemble(plain_spec("own", "tiny-resnet", {}, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))


def make_tiny_vit(config: BackboneConfig) -> Encoder:
    """Build a small vision transformer with random weights."""
    arguments = {"img_size": config.image_px, "dynamic_img_size": True}
    return assemble(plain_spec("timm", "test_vit", arguments, IMAGENET_MEAN, IMAGENET_STD))
