"""Image encoders behind one interface, built from a plain description that a checkpoint can hold."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nuclass_pipeline.config.backbones.registry import Pool
from nuclass_pipeline.models.networks.pooling import pool_map
from nuclass_pipeline.models.networks.specs import check_spec
from nuclass_pipeline.runtime import load_entry

_FINAL = ("norm.", "fc_norm.", "layernorm.", "post_layernorm.")
# As text, because loading timm and transformers takes seconds, and a network needs one of them.
_BUILDERS = {
    "timm": "models.networks.timm_networks:build_timm",
    "transformers": "models.networks.hugging_face:build_hugging_face",
    "own": "models.networks.tiny:build_tiny",
}


class Encoder(nn.Module):
    """An image encoder that normalises its own input.

    Parameters
    ----------
    net
        The network, without classifier.
    spec
        Plain description from which `assemble` builds the same network: `library`, `architecture`, `arguments`, `mean` and `std`
        of the red, green and blue input values, and `layers` and `pool` if they are not those of the network.
    dim
        Size of the feature vector.

    Attributes
    ----------
    pool
        What the vector takes of a layer.
    """

    mean: Tensor
    std: Tensor
    pool: Pool

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

    @property
    def step_px(self) -> int:
        """Side of the largest cells of the maps that vectors are pooled from, px of the images."""
        raise NotImplementedError

    def read_layers(self, images: Tensor) -> list[tuple[Tensor, float]]:
        """Return the maps (B, channels, h, w) that vectors are pooled from, each with the side of its cells, px of the images."""
        raise NotImplementedError

    def finish(self, part: Tensor) -> Tensor:
        """Return a pooled part of a vector (B, channels) as the network's own head would take it."""
        return part

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters from input to output: those of the embeddings, of each block, and of what follows the last block."""
        raise NotImplementedError

    def checkpoint_gradients(self) -> None:
        """Recompute activations in the backward pass, which saves memory and takes time."""
        # timm and transformers name the switch differently.
        if hasattr(self.net, "set_grad_checkpointing"):
            self.net.set_grad_checkpointing()
        elif hasattr(self.net, "gradient_checkpointing_enable"):
            self.net.gradient_checkpointing_enable()

    def normalize(self, images: Tensor) -> Tensor:
        """Return images with values 0–1 standardised by the mean and deviation of the encoder's training images."""
        return (images - self.mean) / self.std


class TokenEncoder(Encoder):
    """A vision transformer; the vector is pooled from the normed tokens of one layer or several.

    Parameters
    ----------
    net, spec, dim
        As in `Encoder`; `spec` may name `layers` and `pool`, else the vector is the class token of the last layer.
    blocks
        Transformer blocks, in the container that holds them in `net`. Those after the last layer are removed from it.
    prefix
        Number of tokens before those of the patches.
    patch_px
        Side of a patch, px.
    norm
        Norm of the last layer's tokens, which those of earlier layers pass too.
    """

    def __init__(
        self, net: Any, spec: dict[str, Any], dim: int, *, blocks: nn.ModuleList, prefix: int, patch_px: int, norm: nn.Module
    ) -> None:
        self.layers = list(spec.get("layers") or [len(blocks) - 1])
        if self.layers[-1] >= len(blocks):
            raise ValueError(f"it has no layer {self.layers[-1]}: its layers are 0 to {len(blocks) - 1}")
        del blocks[self.layers[-1] + 1 :]
        self.pool = spec.get("pool") or "cls"
        parts = 1 if self.pool in ("cls", "mean") else 2
        super().__init__(net, spec, parts * dim * len(self.layers))
        self._blocks: list[Any] = [*blocks]
        self._norm = [norm]
        self._prefix, self.patch_px = prefix, patch_px

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) with values 0–1 into vectors (B, dim)."""
        parts = [
            part
            for tokens in self._read_tokens(images)
            for part in pool_map(self._map_tokens(tokens, images), self.pool, token=tokens[:, 0])
        ]
        return torch.cat([self.finish(part) for part in parts], dim=1)

    @property
    def step_px(self) -> int:
        """Side of a patch, px."""
        return self.patch_px

    def read_layers(self, images: Tensor) -> list[tuple[Tensor, float]]:
        """Return the patch tokens of the layers as maps, each with the side of a patch, px."""
        return [(self._map_tokens(tokens, images), self.patch_px) for tokens in self._read_tokens(images)]

    def _read_tokens(self, images: Tensor) -> list[Tensor]:
        kept: list[Tensor] = []
        handles = [
            self._blocks[layer].register_forward_hook(lambda _module, _inputs, out: kept.append(out if isinstance(out, Tensor) else out[0]))
            for layer in self.layers[:-1]
        ]
        try:
            last = self.read_tokens(self.normalize(images))
        finally:
            for handle in handles:
                handle.remove()
        return [*(self._norm[0](tokens) for tokens in kept), last]

    def _map_tokens(self, tokens: Tensor, images: Tensor) -> Tensor:
        h, w = (side // self.patch_px for side in images.shape[-2:])
        return tokens[:, self._prefix :].transpose(1, 2).reshape(len(tokens), -1, h, w)

    def read_tokens(self, images: Tensor) -> Tensor:
        """Return the normed tokens (B, tokens, channels) of the last layer, from normalised images."""
        tokens: Tensor = self.net.forward_features(images)
        return tokens

    def finish(self, part: Tensor) -> Tensor:
        """Return a pooled part of a vector (B, channels) as the network's own head would take it."""
        finished: Tensor = self.net.fc_norm(part) if hasattr(self.net, "fc_norm") else part
        return finished

    def trace(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector, and the patch tokens that enter the attention of the last block as a map."""
        # Before the last attention, because later patch tokens do not reach the class token and have no gradient.
        grids: list[Tensor] = []

        def expose(_module: nn.Module, _inputs: Any, tokens: Tensor) -> Tensor:
            grid = self._map_tokens(tokens, images)
            grids.append(grid)
            return torch.cat([tokens[:, : self._prefix], grid.flatten(2).transpose(1, 2)], dim=1)

        handle = first_norm(self._blocks[-1]).register_forward_hook(expose)
        try:
            return self(images), grids[0]
        finally:
            handle.remove()

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embeddings, of each block, and of the final norm."""
        inside = [list(block.parameters()) for block in self._blocks]
        known = {id(parameter) for block in inside for parameter in block}
        rest = [(name, parameter) for name, parameter in self.net.named_parameters() if id(parameter) not in known]
        final = [parameter for name, parameter in rest if name.startswith(_FINAL)]
        return [[parameter for name, parameter in rest if not name.startswith(_FINAL)], *inside, final]


def first_norm(block: nn.Module) -> nn.Module:
    """Return the norm before the attention of a transformer block, which libraries name differently."""
    return next(module for module in block.children() if "norm" in type(module).__name__.lower())


class MapEncoder(Encoder):
    """A network of stages, each with a map; the vector joins what is pooled from the maps of one stage or several.

    Parameters
    ----------
    net, spec
        As in `Encoder`.
    channels
        Channels of the maps that `read_maps` returns.
    """

    def __init__(self, net: Any, spec: dict[str, Any], channels: Sequence[int]) -> None:
        self.pool = spec.get("pool") or "mean+centre"
        # Channels last, because convolutions on the CPU are faster in that layout.
        super().__init__(net.to(memory_format=torch.channels_last), spec, (1 if self.pool == "mean" else 2) * sum(channels))

    def trace(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled vector (B, dim) and the last feature map (B, channels, h, w)."""
        maps = self._read_all(images)
        return torch.cat([part for grid in maps for part in pool_map(grid, self.pool)], dim=1), maps[-1]

    @property
    def step_px(self) -> int:
        """Side of the largest cells of the maps, px of the images, as a small image shows it."""
        with torch.inference_mode():
            blank = torch.zeros(1, 3, PROBE_PX, PROBE_PX, device=self.mean.device)
            return round(max(step_px for _, step_px in self.read_layers(blank)))

    def read_layers(self, images: Tensor) -> list[tuple[Tensor, float]]:
        """Return the maps of the stages, each with the side of its cells, px of the images."""
        return [(grid, _stride(images.shape[-1], grid.shape[-1])) for grid in self._read_all(images)]

    def _read_all(self, images: Tensor) -> list[Tensor]:
        return self.read_maps(self.normalize(images).contiguous(memory_format=torch.channels_last))

    def read_maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps (B, channels, h, w) of the stages, from normalised images."""
        return [self.net.forward_features(images)]

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the stem, of each stage, and an empty list for what follows."""
        stages = [list(stage.parameters()) for stage in self.net.stages]
        known = {id(parameter) for stage in stages for parameter in stage}
        return [[parameter for parameter in self.net.parameters() if id(parameter) not in known], *stages, []]


PROBE_PX = 256
"""Side of the image that shows the sides of the cells of maps: a multiple of all strides in use."""


def _stride(side_px: int, cells: int) -> float:
    """Return the side of a cell of a map, px of the image: a power of 2, because networks halve the side, and round up where it is odd."""
    return float(2 ** round(math.log2(side_px / cells)))


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
    encoder: Encoder = load_entry(_BUILDERS[spec["library"]])(spec)
    return encoder
