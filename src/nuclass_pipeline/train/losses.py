"""The training objectives as pure functions (arXiv 2511.13586)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

from nuclass_pipeline.config.models import GateConfig, GlobalConfig
from nuclass_pipeline.models.mixture import mix

# Both as in the public reference, because the terms of the losses should be the same there and here.
EPSILON = 1e-8
MEAN_TARGET_BOUND = 1e-3


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Return class weights by the inverse effective number of samples, `(1 − β) / (1 − β^n)` (Cui et al. 2019, arXiv 1901.05555).

    Parameters
    ----------
    counts
        Cells per class (C,).
    beta
        β in [0, 1); 0 weights all observed classes equally, and towards 1 the weights approach 1/n.

    Returns
    -------
    Tensor
        Weights (C,) float32 with mean 1 over observed classes and 0 for the others.
    """
    # Absent classes get no weight, because the formula alone would give them nearly all of it.
    observed = counts > 0
    weights = torch.where(observed, (1 - beta) / (1 - beta ** counts.double().clamp(min=1)), 0.0)
    return (weights * observed.sum() / weights.sum()).float()


def smoothed_cross_entropy(logits: Tensor, label: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of logits (B, C) with label smoothing; with class weights, torch's weighted mean over the labels."""
    return cross_entropy(logits.float(), label, weight=weights, label_smoothing=smoothing)


def uncertainty_weight(local_p: Tensor, label: Tensor, gamma: float) -> Tensor:
    """Return `(1 − p_local(y))^γ` (B,), which is small where the local path is right already."""
    return (1 - local_p.gather(1, label[:, None]).squeeze(1)).clamp(0, 1) ** gamma


class GlobalLoss(NamedTuple):
    """Terms of the global path's objective.

    Attributes
    ----------
    fused
        Weighted term of the fused logits.
    own
        Term of the global path's own logits.
    total
        `fused_weight · fused + λ · own`.
    """

    fused: Tensor
    own: Tensor
    total: Tensor


def global_loss(
    local_logits: Tensor,
    logits: Tensor,
    inner_gate: Tensor,
    label: Tensor,
    weights: Tensor,
    config: GlobalConfig,
    share: Tensor | float = 1.0,
) -> GlobalLoss:
    """Return the global path's objective, which weights cells by how unsure the local path is.

    `mean_i(w_i · CE(z_local + g·z_global, y)) + λ · CE_weighted(z_global, y)` with `w` from `uncertainty_weight`; the first term has
    the weight 1 in the paper.

    Parameters
    ----------
    local_logits, logits
        Logits of the inner local path and of the global path, (B, C).
    inner_gate
        g (B, 1).
    label
        Class indices (B,).
    weights
        Class weights (C,).
    config
        The weights of both terms, γ, the smoothing, and whether gradients pass through `w`.
    share
        `batch_share` of the weighted mean where several processes share a batch; the other term is a plain mean of as many cells in each.
    """
    # Single precision, because probabilities near 1 lose their distance from 1 in bfloat16.
    local_logits, logits = local_logits.float(), logits.float()
    local_p = local_logits.softmax(-1)
    focus = uncertainty_weight(local_p.detach() if config.detach_focus else local_p, label, config.focus_gamma)
    fused_logits = local_logits + inner_gate.float() * logits
    fused = (focus * cross_entropy(fused_logits, label, label_smoothing=config.label_smoothing, reduction="none")).mean()
    own = share * smoothed_cross_entropy(logits, label, config.label_smoothing, weights)
    return GlobalLoss(fused, own, config.fused_weight * fused + config.global_weight * own)


def gate_target(local_p: Tensor, global_p: Tensor, label: Tensor, soft_k: float) -> Tensor:
    """Return the gate's target (B,).

    It is 1 where only the global path is right, 0 where only the local path is, and `σ(k·(p_global(y) − p_local(y)))` elsewhere.
    """
    local_right, global_right = _right(local_p, label), _right(global_p, label)
    soft = torch.sigmoid(soft_k * (_of_label(global_p, label) - _of_label(local_p, label)))
    return torch.where(local_right ^ global_right, global_right.to(soft.dtype), soft).detach()


def gate_weight(local_p: Tensor, global_p: Tensor, label: Tensor, config: GateConfig) -> Tensor:
    """Return the weight of each cell (B,): `1 + boost·[exactly one path right] + scale·|p_global(y) − p_local(y)|^γ`."""
    conflict = (_right(local_p, label) ^ _right(global_p, label)).to(local_p.dtype)
    difference = (_of_label(global_p, label) - _of_label(local_p, label)).abs()
    return 1 + config.conflict_boost * conflict + config.delta_scale * difference**config.delta_gamma


def positive_weight(target: Tensor, cells: int) -> Tensor:
    """Return `(1 − t̄) / t̄` for each cell (B,), with the mean t̄ of every `cells` cells in turn kept away from 0 and 1.

    The public reference has 12 cells on its GPU, and adds up the gradients of 32 such batches for a step. All other terms are means over
    cells, so a batch of 384 with means over 12 has the same gradient.
    """
    mean = torch.cat([part.mean().expand(len(part)) for part in torch.split(target, cells)])
    mean = mean.clamp(MEAN_TARGET_BOUND, 1 - MEAN_TARGET_BOUND)
    return (1 - mean) / mean


def balanced_nll(p: Tensor, label: Tensor) -> Tensor:
    """Return the mean over classes of the mean negative log-likelihood of their cells; p (B, C) are probabilities."""
    loss = -_of_label(p, label).clamp(min=torch.finfo(torch.float32).tiny).log()
    counts = torch.bincount(label, minlength=p.shape[1])
    return (loss / counts[label]).sum() / (counts > 0).sum()


class GateLoss(NamedTuple):
    """Terms of the gate's objective, each with its weight.

    Attributes
    ----------
    mix
        Negative log-likelihood of the mixture.
    target
        Binary cross-entropy between the gate and `gate_target`.
    align
        Divergence of the mixture from the better path.
    entropy
        Entropy of the gate where the paths differ.
    total
        Their sum.
    """

    mix: Tensor
    target: Tensor
    align: Tensor
    entropy: Tensor
    total: Tensor


def gate_loss(logit: Tensor, local_p: Tensor, global_p: Tensor, label: Tensor, config: GateConfig) -> GateLoss:
    """Return the gate's objective.

    Parameters
    ----------
    logit
        Logits of g (B,).
    local_p, global_p
        Probabilities of the frozen paths (B, C).
    label
        Class indices (B,).
    config
        Weights of the terms and of the cells.
    """
    g = torch.sigmoid(logit)
    mixed = mix(g, local_p, global_p)
    target, weight = gate_target(local_p, global_p, label, config.soft_k), gate_weight(local_p, global_p, label, config)
    picked = torch.where(target[:, None] > 0.5, global_p, local_p)
    divergence = (picked * ((picked + EPSILON).log() - (mixed + EPSILON).log())).sum(-1)
    difference = (_of_label(global_p, label) - _of_label(local_p, label)).abs()
    # From the logit, because −g·ln g has no finite gradient once g rounds to 0 or 1.
    entropy = g * softplus(-logit) + (1 - g) * softplus(logit)
    positive = positive_weight(target, config.balance_cells)
    terms = (
        config.weight_mix * (weight * -(_of_label(mixed, label) + EPSILON).log()).mean(),
        config.weight_target * binary_cross_entropy_with_logits(logit, target, weight, pos_weight=positive),
        config.weight_align * (weight * divergence).mean(),
        config.weight_entropy * (entropy * difference).mean(),
    )
    return GateLoss(*terms, torch.stack(terms).sum())


def _of_label(p: Tensor, label: Tensor) -> Tensor:
    return p.gather(1, label[:, None]).squeeze(1)


def _right(p: Tensor, label: Tensor) -> Tensor:
    return p.argmax(-1) == label
