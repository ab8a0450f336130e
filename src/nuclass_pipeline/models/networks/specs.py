"""The plain description of an encoder: what a checkpoint may say, checked before anything is built from it."""

import re
from collections.abc import Sequence
from typing import Any, get_args

import timm

from nuclass_pipeline.config.backbones.registry import Pool

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HUGGING_FACE = (
    "dinov3_vit", "dinov2", "dinov2_with_registers", "vit", "clip_vision_model", "swin", "swinv2", "convnext", "convnextv2", "resnet",
)  # fmt: skip
"""Kinds of networks in transformers that are built; none of them needs code of its folder."""
# What timm and transformers would download, or load from elsewhere.
_FETCHING = re.compile("pretrained|checkpoint|cache|hub|url|auto_map|remote|adapter|quantization|_impl")
_BLOCKS = ("depth", "depths", "layers", "num_layers", "num_hidden_layers")
MAX_BLOCKS = 200
"""Most blocks of an encoder; the largest published ones have 40."""


def plain_spec(
    library: str,
    architecture: str,
    arguments: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    layers: Sequence[int] | None = None,
    pool: Pool | None = None,
) -> dict[str, Any]:
    """Return the description of an encoder, in plain values that a checkpoint can hold.

    Parameters
    ----------
    library, architecture, arguments, mean, std
        As in `Encoder`.
    layers
        Layers whose outputs are joined, in rising order; without them, the last.
    pool
        What is taken of each; without it, the class token, or the mean and centre of a map.
    """
    spec = {"library": library, "architecture": architecture, "arguments": arguments, "mean": list(mean), "std": list(std)}
    # Left out where they are not set, because checkpoints of earlier versions have no such keys.
    return spec | ({"layers": list(layers)} if layers is not None else {}) | ({"pool": pool} if pool is not None else {})


def check_spec(spec: dict[str, Any]) -> None:
    """Raise a `ValueError` unless `spec` describes a network that is built here and now: a file may have been written by anyone."""
    library, architecture, arguments = (spec.get(key) for key in ("library", "architecture", "arguments"))
    known: Any = {"own": ("tiny-resnet",), "transformers": HUGGING_FACE}.get(str(library))
    if architecture not in known if known else library != "timm" or not _in_timm(str(architecture)):
        raise ValueError(f"{str(architecture)[:60]!r} is not an architecture of {str(library)[:20]!r}")
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of the network are no keys with values")
    for key, value in arguments.items():
        if value not in (None, False) and _FETCHING.search(str(key)):
            raise ValueError(f"its argument {str(key)[:40]!r} would load something else")
        many = max(value if isinstance(value, list) else [value], key=_number, default=0)
        if _number(many) > (MAX_BLOCKS if key in _BLOCKS else 1e6):
            raise ValueError(f"its argument {str(key)[:40]!r} is {str(many)[:20]}")
    for key in ("mean", "std"):
        values = spec.get(key)
        if not isinstance(values, list) or len(values) != 3 or not all(0 <= _number(value) < 1e6 for value in values):
            raise ValueError(f"its {key} is not three numbers")
    if min(spec["std"]) <= 0:
        raise ValueError("its std has a zero")
    _check_features(spec.get("layers"), spec.get("pool"))


def _check_features(layers: Any, pool: Any) -> None:
    if pool is not None and pool not in get_args(Pool):
        raise ValueError(f"its pool {str(pool)[:20]!r} is none of {', '.join(get_args(Pool))}")
    if layers is None:
        return
    if not isinstance(layers, list) or not layers or not all(type(layer) is int and 0 <= layer < MAX_BLOCKS for layer in layers):
        raise ValueError("its layers are not a list of small numbers")
    if layers != sorted(set(layers)):
        raise ValueError("its layers do not rise")


def _in_timm(architecture: str) -> bool:
    return bool(re.fullmatch("[a-z0-9_]{1,80}", architecture) and timm.is_model(architecture))


def _number(value: Any) -> float:
    """Return the size of a number; 0 for anything else, infinity for NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return abs(float(value)) if value == value else float("inf")
