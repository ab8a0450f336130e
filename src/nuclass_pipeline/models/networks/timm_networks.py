"""Networks of timm as encoders, whatever they call their stages."""

import inspect
from typing import Any

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from timm.models import group_parameters
from torch import Tensor, nn

from nuclass_pipeline.models.encoders import Encoder, MapEncoder, TokenEncoder

# By name, because a checkpoint that is read with weights_only cannot hold classes.
_CLASSES: dict[str, Any] = {"SwiGLUPacked": SwiGLUPacked, "SiLU": nn.SiLU}
FEW_STAGES = 4
"""Stages of most networks of this kind; more of them begin with one that is left out by default."""


class StageEncoder(MapEncoder):
    """A network of timm with stages: convolutional, or a transformer with windows.

    Parameters
    ----------
    net
        The network.
    spec
        As in `Encoder`; without `layers` all stages are used, or stages 1 to 4 where there are more.
    """

    def __init__(self, net: Any, spec: dict[str, Any]) -> None:
        count = stage_count(net)
        layers = spec.get("layers") or [layer + (count > FEW_STAGES) for layer in range(min(count, FEW_STAGES))]
        if layers[-1] >= count:
            raise ValueError(f"it has no layer {layers[-1]}: its layers are 0 to {count - 1}")
        # The stem is number 0 where timm counts every block, and belongs to block 0 here.
        options = {"extra_blocks": True} if _counts_blocks(net) else {}
        indices = [layer + bool(options) for layer in layers]
        net.prune_intermediate_layers(indices, prune_norm=True, prune_head=True, **options)
        super().__init__(net, spec | {"layers": list(layers)}, _channels(net, indices, options))
        self._indices, self._options = indices, options

    def read_maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps (B, channels, h, w) of the stages, from normalised images."""
        return _read(self.net, images, self._indices, self._options)

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the stem and of each stage, as timm groups them, and an empty list for what follows."""
        if not hasattr(self.net, "group_matcher"):
            return [[], list(self.net.parameters()), []]
        groups = group_parameters(self.net, self.net.group_matcher(coarse=True), return_values=True)
        return [*([*groups[key]] for key in sorted(groups)), []]


def build_timm(spec: dict[str, Any]) -> Encoder:
    """Build the encoder of a timm network that `spec` describes, with random weights."""
    return wrap_timm(make_timm(spec), spec)


def make_timm(spec: dict[str, Any]) -> Any:
    """Build the network of timm that `spec` describes, without classifier."""
    arguments = {key: _CLASSES.get(value, value) if isinstance(value, str) else value for key, value in spec["arguments"].items()}
    return timm.create_model(spec["architecture"], num_classes=0, **arguments)


def wrap_timm(net: Any, spec: dict[str, Any]) -> Encoder:
    """Return the encoder of a network of timm; layers that it does not use are removed from the network."""
    if not is_plain_transformer(net):
        return StageEncoder(net, spec)
    if getattr(net, "cls_token", None) is None and "cls" in (spec.get("pool") or "cls"):
        if spec.get("pool"):
            raise ValueError(f"it has no class token, which pool {spec['pool']} takes")
        spec = spec | {"pool": "mean"}
    return TokenEncoder(
        net,
        spec,
        net.num_features,
        blocks=net.blocks,
        prefix=net.num_prefix_tokens,
        patch_px=net.patch_embed.patch_size[0],
        norm=net.norm,
    )


def is_plain_transformer(net: Any) -> bool:
    """Return whether a network of timm keeps one grid of patch tokens, as ViT does, and Swin and EfficientNet do not."""
    return all(hasattr(net, name) for name in ("blocks", "patch_embed", "num_prefix_tokens", "norm", "pos_drop"))


def takes_any_size(architecture: str) -> bool:
    """Return whether a network of timm has an option for images of another size than it was made for."""
    with torch.device("meta"):
        net = timm.create_model(architecture)
    return any("dynamic_img_size" in inspect.signature(kind).parameters for kind in type(net).__mro__[:-1])


def _counts_blocks(net: Any) -> bool:
    return "extra_blocks" in inspect.signature(net.forward_intermediates).parameters


def stage_count(net: Any) -> int:
    """Return the number of stages of a network of timm, or raise a `ValueError` if it has none that can be read."""
    if not hasattr(net, "forward_intermediates") or not hasattr(net, "prune_intermediate_layers"):
        raise ValueError(f"timm reads no stages of a {type(net).__name__}")
    return len(net.blocks) if _counts_blocks(net) else len(net.feature_info)


def _read(net: Any, images: Tensor, indices: list[int], options: dict[str, Any]) -> list[Tensor]:
    maps: list[Tensor] = net.forward_intermediates(images, indices=indices, stop_early=True, intermediates_only=True, **options)
    return maps


def _channels(net: Any, indices: list[int], options: dict[str, Any]) -> list[int]:
    # By a trial, because timm lists the channels of some stages only.
    parameter, side = next(net.parameters()), net.default_cfg.get("input_size", (3, 224, 224))[-1]
    net.eval()
    with torch.no_grad():
        maps = _read(net, torch.zeros(1, 3, side, side, device=parameter.device, dtype=parameter.dtype), indices, options)
    net.train()
    return [grid.shape[1] for grid in maps]
