"""Vision networks of transformers as encoders."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from nuclass_pipeline.models.encoders import Encoder, MapEncoder, TokenEncoder

WINDOWED = ("swin", "swinv2", "convnext", "convnextv2", "resnet")
"""Kinds with a map for each stage."""
_NORMS = ("norm", "layernorm", "post_layernorm")


class HubTokenEncoder(TokenEncoder):
    """A vision transformer of transformers."""

    def read_tokens(self, images: Tensor) -> Tensor:
        """Return the normed tokens (B, tokens, channels) of the last layer, from normalised images."""
        tokens: Tensor = self.net(images, **_options(self.net)).last_hidden_state
        # CLIP norms the class token alone, and hands out the others as they are.
        return self._norm[0](tokens) if hasattr(self.net, "post_layernorm") else tokens

    def finish(self, part: Tensor) -> Tensor:
        """Return a pooled part of a vector as it is."""
        return part


class HubMapEncoder(MapEncoder):
    """A network of transformers with stages; without `layers` in `spec`, all of them are used."""

    def __init__(self, net: Any, spec: dict[str, Any]) -> None:
        count = len(net.config.depths)
        self.layers = list(spec.get("layers") or range(count))
        if self.layers[-1] >= count:
            raise ValueError(f"it has no layer {self.layers[-1]}: its layers are 0 to {count - 1}")
        side, parameter = 224, next(net.parameters())
        net.eval()
        with torch.no_grad():
            maps = _stage_maps(net, torch.zeros(1, 3, side, side, device=parameter.device), self.layers)
        net.train()
        super().__init__(net, spec | {"layers": self.layers}, [grid.shape[1] for grid in maps])

    def read_maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps (B, channels, h, w) of the stages, from normalised images."""
        return _stage_maps(self.net, images, self.layers)

    def blocks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the stem, of each stage, and of what follows."""
        encoder = self.net.encoder
        stages = [list(stage.parameters()) for stage in (encoder.stages if hasattr(encoder, "stages") else encoder.layers)]
        known = {id(parameter) for stage in stages for parameter in stage}
        rest = [(name, parameter) for name, parameter in self.net.named_parameters() if id(parameter) not in known]
        final = [parameter for name, parameter in rest if name.startswith(tuple(f"{norm}." for norm in _NORMS))]
        return [[parameter for name, parameter in rest if not name.startswith(tuple(f"{norm}." for norm in _NORMS))], *stages, final]


def _options(net: Any) -> dict[str, Any]:
    return {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in inspect.signature(net.forward).parameters else {}


def _stage_maps(net: Any, images: Tensor, layers: list[int]) -> list[Tensor]:
    out = net(images, output_hidden_states=True, **_options(net))
    maps = getattr(out, "reshaped_hidden_states", None) or out.hidden_states
    # The first is that of the embeddings.
    return [maps[layer + 1] for layer in layers]


def model_class(kind: str) -> tuple[Any, dict[str, Any]]:
    """Return the class of transformers for a kind of network, and what it is made with beside its configuration."""
    import transformers

    if kind == "clip_vision_model":
        return transformers.CLIPVisionModel, {}
    # Without the pooler of ViT, because its class token is the vector, and many files hold no pooler.
    return transformers.MODEL_MAPPING[transformers.CONFIG_MAPPING[kind]], {"add_pooling_layer": False} if kind == "vit" else {}


def make_config(kind: str, arguments: dict[str, Any]) -> Any:
    """Return the configuration of a kind of network.

    Raises
    ------
    ValueError
        If the arguments are not those of one.
    """
    import transformers

    try:
        return transformers.CONFIG_MAPPING[kind](**arguments)
    # Of any class, because the arguments may come from a file of anyone, and transformers checks them in its own ways.
    except Exception as error:
        raise ValueError(f"not a configuration of {kind}: {str(error).strip().splitlines()[-1].strip()}") from error


def build_hugging_face(spec: dict[str, Any]) -> Encoder:
    """Build the encoder of a network of transformers that `spec` describes, with random weights."""
    model, options = model_class(spec["architecture"])
    return wrap_hugging_face(model(make_config(spec["architecture"], spec["arguments"]), **options), spec)


def wrap_hugging_face(net: Any, spec: dict[str, Any]) -> Encoder:
    """Return the encoder of a network of transformers; blocks after the last layer that it uses are removed from a plain transformer."""
    config = net.config
    if spec["architecture"] in WINDOWED:
        return HubMapEncoder(net, spec)
    blocks = next(
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers and name.endswith(("layer", "layers"))
    )
    return HubTokenEncoder(
        net,
        spec,
        config.hidden_size,
        blocks=blocks,
        prefix=1 + (getattr(config, "num_register_tokens", 0) or 0),
        patch_px=config.patch_size,
        norm=next(module for name, module in net.named_children() if name in _NORMS),
    )
