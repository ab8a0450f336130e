"""Image encoders behind one interface, built from a plain description that a checkpoint can hold."""

import re
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn

from nuclass_pipeline.models.tiny import TinyResNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# By name, because a checkpoint that is read with weights_only cannot hold classes.
_LAYERS: dict[str, Any] = {"SwiGLUPacked": SwiGLUPacked, "SiLU": nn.SiLU}
# What timm and transformers would download, or load from elsewhere.
_FETCHING = re.compile("pretrained|checkpoint|cache|hub|url|auto_map|remote|adapter|quantization|_impl")
_BLOCKS = ("depth", "depths", "layers", "num_layers", "num_hidden_layers")
MAX_BLOCKS = 200
"""Most blocks of an encoder; the largest published ones have 40."""
# About the radius of a nucleus: a tenth of a crop of 56 µm.
_CENTER_WIDTH = 0.1


class Encoder(nn.Module):
    """An image encoder that normalises its own input.

    Parameters
    ----------
    net
        The network, without classifier.
    spec
        Plain description from which `assemble` builds the same network: `library`, `architecture`, `arguments`, and `mean` and `std`
        of the red, green and blue input values.
    dim
        Size of the feature vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: Any, spec: dict[str, Any], dim: int) -> None:
        super().__init__()
        self.net: Any
        self.net, self.spec, self.dim = net, spec, dim
        # Not among the weights, because the published files hold none and are loaded strictly.
        self.register_buffer("mean", torch.tensor(spec["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec["std"]).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) with values 0–1 into vectors (B, dim)."""
        return self.trace(images)[0]

    def grid(self, images: Tensor) -> Tensor:
        """Return the last spatial feature map (B, channels, h, w)."""
        return self.trace(images)[1]

    def trace(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector (B, dim) and the feature map (B, channels, h, w) behind it, on one autograd graph."""
        raise NotImplementedError

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters from input to output: those of the embeddings, of each block, and of what follows the last block."""
        raise NotImplementedError

    def checkpoint_gradients(self) -> None:
        """Recompute activations in the backward pass, which saves memory and takes time."""
        raise NotImplementedError

    def normalize(self, images: Tensor) -> Tensor:
        """Return images with values 0–1 standardised by the mean and deviation of the encoder's training images."""
        return (images - self.mean) / self.std


class TokenEncoder(Encoder):
    """A vision transformer; the vector is the normed class token.

    Parameters
    ----------
    net, spec, dim
        As in `Encoder`.
    blocks
        Transformer blocks.
    prefix
        Number of tokens before those of the patches.
    patch_px
        Side of a patch, px.
    """

    def __init__(self, net: Any, spec: dict[str, Any], dim: int, *, blocks: nn.ModuleList, prefix: int, patch_px: int) -> None:
        super().__init__(net, spec, dim)
        self._blocks: list[Any] = [*blocks]
        self._prefix, self._patch_px = prefix, patch_px

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) with values 0–1 into vectors (B, dim)."""
        out = self.net(self.normalize(images))
        vector: Tensor = out if isinstance(out, Tensor) else out.pooler_output
        return vector

    def trace(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector, and the patch tokens that enter the attention of the last block as a map."""
        # Before the last attention, because later patch tokens do not reach the class token and have no gradient.
        h, w = (side // self._patch_px for side in images.shape[-2:])
        grids: list[Tensor] = []

        def expose(_module: nn.Module, _inputs: Any, tokens: Tensor) -> Tensor:
            grid = tokens[:, self._prefix :].transpose(1, 2).reshape(len(tokens), -1, h, w)
            grids.append(grid)
            return torch.cat([tokens[:, : self._prefix], grid.flatten(2).transpose(1, 2)], dim=1)

        handle = self._blocks[-1].norm1.register_forward_hook(expose)
        try:
            return self(images), grids[0]
        finally:
            handle.remove()

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embeddings, of each block, and of the final norm."""
        inside = [list(block.parameters()) for block in self._blocks]
        known = {id(parameter) for block in inside for parameter in block}
        rest = [(name, parameter) for name, parameter in self.net.named_parameters() if id(parameter) not in known]
        final = [parameter for name, parameter in rest if name.startswith(("norm.", "fc_norm."))]
        return [[parameter for name, parameter in rest if not name.startswith(("norm.", "fc_norm."))], *inside, final]

    def checkpoint_gradients(self) -> None:
        """Recompute activations in the backward pass, which saves memory and takes time."""
        # timm and transformers name the switch differently.
        if hasattr(self.net, "set_grad_checkpointing"):
            self.net.set_grad_checkpointing()
        else:
            self.net.gradient_checkpointing_enable()


class ConvEncoder(Encoder):
    """A convolutional network; the vector is the mean of its last map, and the mean around the centre of that map.

    A few thousand cells are too few to find out that the cell in the middle is the one to classify. A Gaussian window with a σ of a
    tenth of the side adds that knowledge.
    """

    def __init__(self, net: Any, spec: dict[str, Any], channels: int) -> None:
        # Channels last, because convolutions on the CPU are faster in that layout.
        super().__init__(net.to(memory_format=torch.channels_last), spec, 2 * channels)

    def trace(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled vector (B, dim) and the last feature map (B, channels, h, w)."""
        images = self.normalize(images).contiguous(memory_format=torch.channels_last)
        grid: Tensor = self.net.forward_features(images)
        center = (grid * _center_window(grid)).sum((2, 3))
        return torch.cat([grid.mean((2, 3)), center], dim=1), grid

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the stem, of each stage, and an empty list for what follows."""
        stages = [list(stage.parameters()) for stage in self.net.stages]
        known = {id(parameter) for stage in stages for parameter in stage}
        return [[parameter for parameter in self.net.parameters() if id(parameter) not in known], *stages, []]

    def checkpoint_gradients(self) -> None:
        """Keep all activations, because those of a small network fit into memory."""


def _center_window(grid: Tensor) -> Tensor:
    ys, xs = ((torch.arange(side, device=grid.device) + 0.5) / side - 0.5 for side in grid.shape[2:])
    window = torch.exp(-(ys[:, None] ** 2 + xs[None] ** 2) / (2 * _CENTER_WIDTH**2))
    return window / window.sum()


def assemble(spec: dict[str, Any]) -> Encoder:
    """Build the encoder that `spec` describes, with random weights.

    Parameters
    ----------
    spec
        As in `Encoder`; `library` is `timm`, `transformers` or `own`.

    Raises
    ------
    ValueError
        If it describes no network of these, or something that would be downloaded.
    """
    check_spec(spec)
    return {"timm": _timm, "transformers": _transformers, "own": _own}[spec["library"]](spec)


def check_spec(spec: dict[str, Any]) -> None:
    """Raise a `ValueError` unless `spec` describes a network that is built here and now: a file may have been written by anyone."""
    library, architecture, arguments = (spec.get(key) for key in ("library", "architecture", "arguments"))
    known = {"own": "tiny-resnet", "transformers": "dinov3_vit"}.get(str(library))
    if architecture != known if known else library != "timm" or not _in_timm(str(architecture)):
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


def _in_timm(architecture: str) -> bool:
    return bool(re.fullmatch("[a-z0-9_]{1,80}", architecture) and timm.is_model(architecture))


def _number(value: Any) -> float:
    """Return the size of a number; 0 for anything else, infinity for NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return abs(float(value)) if value == value else float("inf")


def plain_spec(library: str, architecture: str, arguments: dict[str, Any], mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Return the description of an encoder, in plain values that a checkpoint can hold."""
    return {"library": library, "architecture": architecture, "arguments": arguments, "mean": list(mean), "std": list(std)}


def _timm(spec: dict[str, Any]) -> Encoder:
    arguments = {key: _LAYERS.get(value, value) if isinstance(value, str) else value for key, value in spec["arguments"].items()}
    net: Any = timm.create_model(spec["architecture"], num_classes=0, **arguments)
    if not hasattr(net, "blocks"):
        return ConvEncoder(net, spec, net.num_features)
    patch_px = net.patch_embed.patch_size[0]
    return TokenEncoder(net, spec, net.num_features, blocks=net.blocks, prefix=net.num_prefix_tokens, patch_px=patch_px)


def _own(spec: dict[str, Any]) -> Encoder:
    net = TinyResNet()
    return ConvEncoder(net, spec, net.num_features)


def _transformers(spec: dict[str, Any]) -> Encoder:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    try:
        config = DINOv3ViTConfig(**spec["arguments"])
    # Of any class, because the arguments may come from a file of anyone, and transformers checks them in its own ways.
    except Exception as error:
        raise ValueError(f"not a configuration of DINOv3: {str(error).strip().splitlines()[-1].strip()}") from error
    return wrap_dinov3(DINOv3ViTModel(config), spec)


def wrap_dinov3(net: Any, spec: dict[str, Any]) -> Encoder:
    """Build an encoder from a transformers `DINOv3ViTModel`; its vector is `pooler_output`, the normed class token."""
    config = net.config
    prefix = 1 + config.num_register_tokens
    return TokenEncoder(net, spec, config.hidden_size, blocks=net.model.layer, prefix=prefix, patch_px=config.patch_size)
