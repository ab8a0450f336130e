"""Learning rates: layer-wise decay, warm-up, and the schedule of the context's scale."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from nuclass_pipeline.models.encoders import Encoder

EMBEDDINGS = ("pos_embed", "cls_token", "reg_token", "register_tokens", "mask_token")


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with one learning rate, warmed up from optimiser step `start`."""

    parameters: Sequence[nn.Parameter]
    lr: float
    start: int = 0


def layer_learning_rates(depth: int, base: float, decay: float) -> list[float]:
    """Return the rates of embeddings, `depth` blocks and what follows: `base · decay^(distance from the last block)`.

    BEiT (arXiv 2106.08254), as used in arXiv 2511.13586.
    """
    return [base * decay**depth, *(base * decay ** (depth - 1 - block) for block in range(depth)), base]


def encoder_param_groups(encoder: Encoder, base: float, decay: float, start: int = 0) -> list[ParamGroup]:
    """Give every block of an encoder its rate."""
    blocks = encoder.blocks()
    return [ParamGroup(block, lr, start) for block, lr in zip(blocks, layer_learning_rates(len(blocks) - 2, base, decay), strict=True)]


def no_decay_ids(model: nn.Module) -> set[int]:
    """Return the ids of parameters that weight decay would harm: biases, norms, scales, embeddings and special tokens."""
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return embedded | {id(p) for name, p in model.named_parameters() if p.ndim <= 1 or name.endswith(EMBEDDINGS)}


def make_optimizer(
    model: nn.Module, rates: Sequence[ParamGroup], weight_decay: float, warmup_steps: int, cosine_steps: int = 0
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """Build AdamW with one group per (rate, decay, start), and its linear warm-up to a rate that is constant, or falls as a cosine.

    The cosine reaches 0 after `cosine_steps` optimiser steps; 0 keeps the rate constant.

    Every parameter of `model` must be in exactly one of `rates`, frozen or not: a parameter without gradient is skipped by AdamW,
    and one that is unfrozen later is then already known to it.
    """
    spared = no_decay_ids(model)
    groups: dict[tuple[float, float, int], list[nn.Parameter]] = {}
    for rate in rates:
        for parameter in rate.parameters:
            decay = 0.0 if id(parameter) in spared else weight_decay
            groups.setdefault((rate.lr, decay, rate.start), []).append(parameter)
    optimizer = torch.optim.AdamW([{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay, _), params in groups.items()])
    return optimizer, LambdaLR(optimizer, [schedule(warmup_steps, start, cosine_steps) for _, _, start in groups])


def warmup(steps: int, start: int = 0) -> Callable[[int], float]:
    """Return the factor of the rate at an optimiser step: 0 → 1 over `steps` from `start`, then 1."""
    return lambda step: min(1.0, max(0, step - start + 1) / max(1, steps))


def schedule(warmup_steps: int, start: int, cosine_steps: int) -> Callable[[int], float]:
    """Return the factor of the rate at an optimiser step: the warm-up times half a cosine over all `cosine_steps`, if any."""
    rise = warmup(warmup_steps, start)
    if not cosine_steps:
        return rise
    return lambda step: rise(step) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / cosine_steps)))


def alpha_schedule(epoch: int, initial: float, final: float, epochs: int) -> float:
    """Return the scale of the context in an epoch: linear from `initial` to `final` over `epochs`, then `final`."""
    return final if epoch >= epochs else initial + (final - initial) * epoch / epochs
