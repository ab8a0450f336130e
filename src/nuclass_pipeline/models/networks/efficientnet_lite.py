"""EfficientNet-Lite with the weights of TensorFlow: other names of tensors, and a padding of its own."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
NOT_EXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names of layers in the published files → those of timm: outside blocks, in blocks with an expansion, and in those without."""
STEMS = (
    "8ba97205755881fe71b6c14e8e59112d4ab77894047ba6aeffe234055f03eba3",
    "6edbd5ee788f9608d6b00ffa49a466698f27133fa1c18ffdb911056ff16a2ac4",
    "c2ecd9924eecf2e20c7f78bec03473df531cb2f6c559e8fe394dc50e58302c14",
)
"""SHA-256 of the values of the first layer, of Lite0 to 2."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


def rename_lite(state: Mapping[str, Tensor], stages: list[int]) -> dict[str, Tensor]:
    """Return the published tensors under the names of timm.

    Parameters
    ----------
    state
        Tensors by name; those with other names than the published keep them.
    stages
        Number of blocks in each stage of the network.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(stages) for block in range(count)]
    expanded = {name.split(".")[1] for name in state if "_expand_conv" in name}
    return {_rename(name, places, expanded): tensor for name, tensor in state.items()}


def _rename(name: str, places: list[str], expanded: set[str]) -> str:
    first, _, rest = name.partition(".")
    if first in TOP:
        return f"{TOP[first]}.{rest}"
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    names = EXPANDED if found and found[1] in expanded else NOT_EXPANDED
    if not found or int(found[1]) >= len(places) or found[2] not in names:
        return name
    return f"{places[int(found[1])]}.{names[found[2]]}.{found[3]}"


def refuse_other_padding(architecture: str, state: Mapping[str, Any]) -> None:
    """Raise a `ValueError` if weights of TensorFlow are for a network of timm with another padding, into which they fit as well."""
    if not architecture.startswith("efficientnet_lite"):
        return
    first = next((state[name] for name in ("_conv_stem.weight", "conv_stem.weight") if name in state), None)
    known = first is not None and hashlib.sha256(first.float().contiguous().numpy().tobytes()).hexdigest() in STEMS
    if known or "_conv_stem.weight" in state:
        raise ValueError(f"weights of TensorFlow give wrong values in {architecture}, which pads otherwise; use tf_{architecture}")
