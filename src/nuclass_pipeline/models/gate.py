"""The gate: how much of path global to mix into path local, cell by cell (arXiv 2511.13586)."""

import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.models import checkpoint

STATISTICS = 8


def path_confidence(p: Tensor) -> Tensor:
    """Return max probability, entropy / ln C and top-2 margin of probabilities (B, C), as (B, 3)."""
    top = p.topk(2, dim=-1).values
    entropy = torch.special.entr(p).sum(-1) / torch.log(torch.tensor(float(p.shape[-1]), device=p.device))
    return torch.stack([top[:, 0], entropy, top[:, 0] - top[:, 1]], dim=-1)


def statistics(local_p: Tensor, global_p: Tensor) -> Tensor:
    """Return the statistics (B, 8): maxima, entropies and margins, local before global, then the maxima's difference and its size."""
    paired = torch.stack([path_confidence(local_p), path_confidence(global_p)], dim=-1).flatten(1)
    difference = paired[:, 1:2] - paired[:, 0:1]
    return torch.cat([paired, difference, difference.abs()], dim=-1)


def mix(g: Tensor, local_p: Tensor, global_p: Tensor) -> Tensor:
    """Mix probabilities (B, C) by the weight `g` (B,) of the global path: `(1 − g)·p_local + g·p_global`."""
    return (1 - g[:, None]) * local_p + g[:, None] * global_p


class Gate(nn.Module):
    """A small network on both projected features and the eight statistics; σ of its output is the weight of path global.

    Parameters
    ----------
    local_dim, global_dim
        Sizes of the post-FiLM feature and of `[û; ĉ]`.
    config
        Sizes and dropout.
    """

    def __init__(self, local_dim: int, global_dim: int, config: GateConfig) -> None:
        super().__init__()
        self.local_projection = _projection(local_dim, config)
        self.global_projection = _projection(global_dim, config)
        sizes = (2 * config.projection + STATISTICS, *config.hidden)
        layers = [
            layer
            for before, after in itertools.pairwise(sizes)
            for layer in (nn.Linear(before, after), nn.SiLU(), nn.Dropout(config.dropout))
        ]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, local_feature: Tensor, global_feature: Tensor, local_p: Tensor, global_p: Tensor) -> Tensor:
        """Return the logit (B,) of the global path's weight."""
        projected = [self.local_projection(local_feature), self.global_projection(global_feature)]
        logit: Tensor = self.network(torch.cat([*projected, statistics(local_p, global_p)], dim=-1))
        return logit.squeeze(-1)


def _projection(dim: int, config: GateConfig) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.projection), nn.SiLU(), nn.Dropout(config.dropout))


def restore_gate(path: Path | str) -> tuple[Gate, checkpoint.CheckpointMetadata]:
    """Rebuild the gate from its checkpoint."""
    meta, state = checkpoint.load_checkpoint(path, "gate")
    model = Gate(meta.dims["local"], meta.dims["global"], meta.gate or GateConfig())
    model.load_state_dict(state)
    return model.eval(), meta
