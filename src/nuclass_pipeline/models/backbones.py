"""Image encoders of the registry, and others by a run file, built with the weights of a folder; nothing is downloaded."""

from pathlib import Path
from typing import Any

from nuclass_pipeline.config.backbones.files import weights_sha256
from nuclass_pipeline.config.backbones.registry import Pool
from nuclass_pipeline.config.backbones.section import BackboneConfig, Channels
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.models.networks.efficientnet_lite import MEAN, STD
from nuclass_pipeline.models.networks.folders import load_hub, load_network, read_config, weights_file
from nuclass_pipeline.models.networks.specs import IMAGENET_MEAN, IMAGENET_STD, check_spec, plain_spec
from nuclass_pipeline.runtime import load_entry, stay_offline


def build_backbone(config: BackboneConfig) -> Encoder:
    """Build an encoder and load its weights strictly.

    Raises
    ------
    UserError
        If the weights are missing, or their contents do not fit.
    """
    stay_offline()
    if problem := config.weights_problem:
        raise UserError(config.weights or "run file", "weights", problem, config.remedy)
    encoder: Encoder = load_entry(config.entry.factory)(config)
    if config.gradient_checkpointing:
        encoder.checkpoint_gradients()
    return encoder


def _features(config: BackboneConfig) -> dict[str, Any]:
    """Return the layers and the pool of a description, if they are not what its network gives without them."""
    layers, pool = config.features.layers, config.features.pool
    # Of the registry's, only this one: the others are what each kind of network gives.
    own: Pool | None = "cls+mean" if config.entry.pool == "cls+mean" else None
    wanted = layers if layers is not None else config.entry.layers
    return {"layers": None if wanted in (None, "last") else wanted, "pool": pool or own}


def load_timm(
    config: BackboneConfig, architecture: str, arguments: dict[str, Any], *, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
) -> Encoder:
    """Build a vision transformer of timm and load the weights into it, tensor by tensor.

    Parameters
    ----------
    config
        Weights, and the features to take.
    architecture, arguments
        timm's name of the network, and what it is built with.
    mean, std
        Mean and standard deviation of the training images, RGB, values 0–1; the weights' page gives them.

    Raises
    ------
    UserError
        If the file is broken, or its tensors differ from those of the architecture.
    """
    spec = plain_spec("timm", architecture, {**arguments, "global_pool": "token"}, mean, std, **_features(config))
    return load_network(config, spec)


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
VIRCHOW2: dict[str, Any] = {
    "img_size": 224,
    "init_values": 1e-5,
    "mlp_ratio": 5.3375,
    "mlp_layer": "SwiGLUPacked",
    "act_layer": "SiLU",
    "reg_tokens": 4,
    "dynamic_img_size": True,
}
H_OPTIMUS_0: dict[str, Any] = {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True}


def load_uni2_h(config: BackboneConfig) -> Encoder:
    """Load a folder of UNI2-h."""
    return load_timm(config, "vit_giant_patch14_224", UNI2_H)


def load_virchow2(config: BackboneConfig) -> Encoder:
    """Load a folder of Virchow2; the vector is the class token and the mean of the patch tokens."""
    return load_timm(config, "vit_huge_patch14_224", VIRCHOW2)


def load_h_optimus_0(config: BackboneConfig) -> Encoder:
    """Load a folder of H-optimus-0."""
    mean, std = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
    return load_timm(config, "vit_giant_patch14_reg4_dinov2", H_OPTIMUS_0, mean=mean, std=std)


def load_midnight(config: BackboneConfig) -> Encoder:
    """Load a folder of Midnight-12k; the vector is the class token and the mean of the patch tokens."""
    return load_hub(config, ("dinov2",), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), **_features(config))


def load_phikon_v2(config: BackboneConfig) -> Encoder:
    """Load a folder of Phikon-v2."""
    return load_hub(config, ("dinov2",), IMAGENET_MEAN, IMAGENET_STD, **_features(config))


def load_plip(config: BackboneConfig) -> Encoder:
    """Load the vision tower of a folder of PLIP."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return load_hub(config, ("clip", "clip_vision_model"), mean, std, **_features(config))


def load_dinov3(config: BackboneConfig) -> Encoder:
    """Load a DINOv3 folder in either published layout; its config.json names the layout.

    Raises
    ------
    UserError
        If config.json is broken or of another model, or the weights do not fit.
    """
    file, described = read_config(config)
    if described.get("model_type") == "dinov3_vit":
        return load_hub(config, ("dinov3_vit",), IMAGENET_MEAN, IMAGENET_STD, **_features(config))
    architecture = described.get("architecture")
    if isinstance(architecture, str) and "dinov3" in architecture:
        return _load_named(config, file, architecture)
    problem = "the file names neither `model_type: dinov3_vit` (transformers) nor an `architecture` with dinov3 (timm)"
    raise UserError(file, "model_type", problem, config.remedy)


def load_gigapath_flash(config: BackboneConfig) -> Encoder:
    """Load a folder of the tile encoder of GigaPath-Flash; its config.json names the architecture.

    Raises
    ------
    UserError
        If config.json is broken or names no vision transformer, or the weights do not fit.
    """
    file, described = read_config(config)
    architecture = described.get("architecture")
    if not isinstance(architecture, str) or not architecture.startswith("vit_"):
        raise UserError(file, "architecture", f"{str(architecture)[:60]!r} is not a vision transformer of timm", config.remedy)
    return _load_named(config, file, architecture, described.get("model_args"))


def _load_named(config: BackboneConfig, file: Path, architecture: str, arguments: Any = None) -> Encoder:
    arguments = {**(arguments if isinstance(arguments, dict) else {}), "dynamic_img_size": True}
    try:
        check_spec(plain_spec("timm", architecture, arguments, IMAGENET_MEAN, IMAGENET_STD))
    except ValueError as error:
        raise UserError(file, "architecture", str(error), config.remedy) from error
    return load_timm(config, architecture, arguments)


def load_efficientnet_lite(config: BackboneConfig) -> Encoder:
    """Load EfficientNet-Lite from its package, or from a copy of its file.

    Raises
    ------
    UserError
        If the file is not the published one.
    """
    file = weights_file(config)
    if (found := weights_sha256([str(file)])) != config.entry.sha256:
        problem = f"the file is not the published one: its SHA-256 begins with {found[:8]}, not {config.entry.sha256[:8]}"
        raise UserError(file, "weights", problem, config.remedy)
    architecture = f"tf_{config.name.replace('-', '_')}"
    return load_network(config, plain_spec("timm", architecture, {}, MEAN, STD, **_features(config)), last=_is_last(config))


def load_custom(config: BackboneConfig) -> Encoder:
    """Load a network that is not registered, from a folder or file of weights."""
    given = {"layers": None if config.features.layers == "last" else config.features.layers, "pool": config.features.pool}
    encoder: Encoder = load_entry("models.networks.custom:load_unregistered")(config, given, last=_is_last(config))
    return encoder


def _is_last(config: BackboneConfig) -> bool:
    return config.features.layers == "last"


def make_tiny_resnet(config: BackboneConfig) -> Encoder:
    """Build a small residual network with random weights.

    Raises
    ------
    UserError
        If features are wanted that it does not have.
    """
    return _make(config, plain_spec("own", "tiny-resnet", {}, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), **_features(config)))


def make_tiny_vit(config: BackboneConfig) -> Encoder:
    """Build a small vision transformer with random weights.

    Raises
    ------
    UserError
        If features are wanted that it does not have.
    """
    arguments = {"img_size": config.image_px, "dynamic_img_size": True}
    return _make(config, plain_spec("timm", "test_vit", arguments, IMAGENET_MEAN, IMAGENET_STD, **_features(config)))


def _make(config: BackboneConfig, spec: dict[str, Any]) -> Encoder:
    try:
        return assemble(spec)
    except ValueError as error:
        raise UserError("run file", "features", f"{config.name}: {error}", "Change or remove `features`.") from error
