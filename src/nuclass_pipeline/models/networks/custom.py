"""Encoders that are not registered: any network of timm or transformers, with a folder or file of weights."""

from typing import Any

import timm
import torch

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import first_line
from nuclass_pipeline.io.tensor_files import read_small_json
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.models.networks.folders import MAX_CONFIG, load_hub, load_network, read_config, weights_file
from nuclass_pipeline.models.networks.specs import HUGGING_FACE, IMAGENET_MEAN, IMAGENET_STD, plain_spec
from nuclass_pipeline.models.networks.timm_networks import takes_any_size

TRANSFORMERS = "transformers"


def load_unregistered(config: BackboneConfig, features: dict[str, Any], *, last: bool) -> Encoder:
    """Load the network that `architecture` and `weights` name, and try it on an image of `image_px`.

    Parameters
    ----------
    config
        The section of the run file.
    features
        `layers` and `pool` of the description.
    last
        Whether the last stage of a network with stages is wanted, and not all.

    Raises
    ------
    UserError
        If there is no such architecture, the weights are of another one, or it cannot take images of that size.
    """
    if config.architecture == TRANSFORMERS:
        mean, std = _normalization(config, read_config(config)[1])
        encoder = load_hub(config, (*HUGGING_FACE, "clip"), mean, std, **features)
    else:
        encoder = _load_timm(config, features, last=last)
    _try(encoder, config)
    return encoder


def _load_timm(config: BackboneConfig, features: dict[str, Any], *, last: bool) -> Encoder:
    architecture = config.architecture or ""
    if not timm.is_model(architecture):
        problem = f"{architecture!r} is not a network of timm{similar(architecture, timm.list_models())}"
        raise UserError("run file", "architecture", problem, f"Use a name of timm.list_models(), or {TRANSFORMERS}.")
    described = _described(config)
    if (named := described.get("architecture", architecture)) != architecture:
        file = weights_file(config).parent / "config.json"
        problem = f"the weights are of {str(named)[:60]}, and the run file names {architecture}"
        raise UserError(file, "architecture", problem, f"Write `architecture: {str(named)[:60]}` in the run file.")
    made_with = described.get("model_args")
    arguments = {key: value for key, value in made_with.items() if key != "num_classes"} if isinstance(made_with, dict) else {}
    if takes_any_size(architecture):
        arguments["dynamic_img_size"] = True
    return load_network(config, plain_spec("timm", architecture, arguments, *_normalization(config, described), **features), last=last)


def _described(config: BackboneConfig) -> dict[str, Any]:
    """Return what the config.json beside the weights says; nothing if there is none."""
    file = weights_file(config).parent / "config.json"
    try:
        return read_small_json(file, MAX_CONFIG) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(file, "file", f"not a readable config.json ({first_line(error)})", "Repair or remove the file.") from error


def _normalization(config: BackboneConfig, described: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and deviation of the run file, else those of the folder, else ImageNet's."""
    published = described.get("pretrained_cfg", {})
    mean, std = (published.get(key) if isinstance(published, dict) else None for key in ("mean", "std"))
    file = weights_file(config).parent / "preprocessor_config.json"
    if file.exists():
        processed = read_small_json(file, MAX_CONFIG)
        mean, std = mean or processed.get("image_mean"), std or processed.get("image_std")
    return config.mean or _three(mean) or IMAGENET_MEAN, config.std or _three(std) or IMAGENET_STD


def _three(values: Any) -> tuple[float, ...] | None:
    return tuple(map(float, values)) if isinstance(values, list) and len(values) == 3 else None


def _try(encoder: Encoder, config: BackboneConfig) -> None:
    was_training = encoder.training
    try:
        with torch.no_grad():
            found = encoder.eval()(torch.zeros(1, 3, config.image_px, config.image_px))
    # Of any class, because each network refuses a size in its own way.
    except Exception as error:
        remedy = "Set `image_px` to the size that it was trained with; one of patches needs a multiple of the patch."
        problem = f"{config.architecture} does not take {config.image_px} px ({first_line(error)})"
        raise UserError("run file", "image_px", problem, remedy) from error
    encoder.train(was_training)
    if found.shape[1] != encoder.dim:
        raise UserError("run file", "architecture", f"returns {found.shape[1]} values for {encoder.dim}", config.remedy)
