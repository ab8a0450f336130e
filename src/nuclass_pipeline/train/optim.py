"""Parameter groups and learning rates, and the schedule of the context's scale."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from nuclass_pipeline.models.encoders import Encoder

# Spared by name, because these are not vectors; timm and transformers name them differently.
EMBEDDINGS = ("pos_embed", "cls_token", "reg_token", "register_tokens", "mask_token")


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with one learning rate.

    Attributes
    ----------
    parameters
        The parameters.
    lr
        Learning rate after the warm-up.
    start
        Optimiser step at which the warm-up begins.
    """

    parameters: Sequence[nn.Parameter]
    lr: float
    start: int = 0


def layer_learning_rates(depth: int, base: float, decay: float) -> list[float]:
    """Return the learning rates of the embeddings, of `depth` blocks and of what follows the last block.

    Each is `base · decay^(distance from the last block)`, as in BEiT (arXiv 2106.08254) and arXiv 2511.13586.
    """
    return [base * decay**depth, *(base * decay ** (depth - 1 - block) for block in range(depth)), base]


def encoder_param_groups(encoder: Encoder, base: float, decay: float, start: int = 0) -> list[ParamGroup]:
    """Return one group per block of an encoder, with rates from `layer_learning_rates`."""
    blocks = encoder.blocks()
    return [ParamGroup(block, lr, start) for block, lr in zip(blocks, layer_learning_rates(len(blocks) - 2, base, decay), strict=True)]


def no_decay_ids(model: nn.Module) -> set[int]:
    """Return the ids of parameters without weight decay: biases, norms, scales, embeddings and special tokens."""
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return embedded | {id(p) for name, p in model.named_parameters() if p.ndim <= 1 or name.endswith(EMBEDDINGS)}


def make_optimizer(
    model: nn.Module, groups: Sequence[ParamGroup], weight_decay: float, warmup_steps: int, cosine_steps: int = 0
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """Build AdamW and the schedule of its learning rates.

    Parameters
    ----------
    model
        The model.
    groups
        Groups that hold every parameter of `model` exactly once, frozen or not. AdamW skips a parameter without a gradient, so one
        that is unfrozen later need not be added.
    weight_decay
        Weight decay, except for the parameters of `no_decay_ids`.
    warmup_steps
        Optimiser steps of the linear warm-up.
    cosine_steps
        Optimiser steps after which the cosine reaches 0; 0 keeps the rate constant after the warm-up.
    """
    spared = no_decay_ids(model)
    # Merged, because the public reference's hundreds of groups with one tensor each slow every step down.
    merged: dict[tuple[float, float, int], list[nn.Parameter]] = {}
    for group in groups:
        for parameter in group.parameters:
            decay = 0.0 if id(parameter) in spared else weight_decay
            merged.setdefault((group.lr, decay, group.start), []).append(parameter)
    optimizer = torch.optim.AdamW([{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay, _), params in merged.items()])
    return optimizer, LambdaLR(optimizer, [schedule(warmup_steps, start, cosine_steps) for _, _, start in merged])


def warmup(steps: int, start: int = 0) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the optimiser step: 0 → 1 over `steps` from `start`, then 1."""
    return lambda step: min(1.0, max(0, step - start + 1) / max(1, steps))


def schedule(warmup_steps: int, start: int, cosine_steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the optimiser step: the warm-up, times half a cosine if `cosine_steps`."""
    rise = warmup(warmup_steps, start)
    if not cosine_steps:
        return rise
    return lambda step: rise(step) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / cosine_steps)))


def alpha_schedule(epoch: int, initial: float, final: float, epochs: int) -> float:
    """Return the scale α of the context in an epoch: linear from `initial` to `final` over `epochs`, then `final`."""
    return final if epoch >= epochs else initial + (final - initial) * epoch / epochs
