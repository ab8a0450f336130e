"""The gate: the weight of the global path in the mixture with the local path, for each cell (arXiv 2511.13586)."""

import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.models import checkpoint
from nuclass_pipeline.models.mixture import path_confidence
from nuclass_pipeline.models.neighbors import NeighborGate

STATISTICS = 8


def statistics(local_p: Tensor, global_p: Tensor) -> Tensor:
    """Return the statistics (B, 8) of both paths' probabilities (B, C).

    They are maxima, entropies and margins, local before global, then the difference of the maxima and its absolute value.
    """
    paired = torch.stack([path_confidence(local_p), path_confidence(global_p)], dim=-1).flatten(1)
    difference = paired[:, 1:2] - paired[:, 0:1]
    return torch.cat([paired, difference, difference.abs()], dim=-1)


class Gate(nn.Module):
    """A small network on both projected features and the eight statistics; σ of its output is the weight of the global path.

    Parameters
    ----------
    local_dim, global_dim
        Sizes of the local path's feature with the organ, and of the global path's feature `[û; ĉ]`.
    config
        Sizes of the layers, and dropout.
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
        """Return the logit (B,) of g, from features (B, ·) and probabilities (B, C) of both paths."""
        projected = [self.local_projection(local_feature), self.global_projection(global_feature)]
        logit: Tensor = self.network(torch.cat([*projected, statistics(local_p, global_p)], dim=-1))
        return logit.squeeze(-1)


def _projection(dim: int, config: GateConfig) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.projection), nn.SiLU(), nn.Dropout(config.dropout))


def restore_gate(path: Path | str) -> tuple[Gate | NeighborGate, checkpoint.CheckpointMetadata]:
    """Rebuild the gate from its checkpoint, in evaluation mode.

    Raises
    ------
    UserError
        If the file is missing, broken or of another model.
    """
    return checkpoint.restore(path, "gate", _build)


def _build(meta: checkpoint.CheckpointMetadata) -> Gate | NeighborGate:
    config = meta.gate or GateConfig()
    if config.kind == "neighbors":
        return NeighborGate(len(meta.classes), config.neighbor_um)
    return Gate(meta.feature_dims["local"], meta.feature_dims["global"], config)
