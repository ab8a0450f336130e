"""Layers that both paths use."""

from typing import Protocol

import torch
from torch import Tensor, nn

MAX_DEVIATIONS = 10.0
"""Bound of a standardized feature: one that hardly varies in training may lie thousands of deviations off in a new cell."""


UNKNOWN = -1
"""Index of the unknown organ."""


class OrganEmbedding(nn.Embedding):
    """A vector for each organ (organs, organ_dim); that of `UNKNOWN` is 0, the middle of the first ones of all organs."""

    def forward(self, organ: Tensor) -> Tensor:
        """Return the vectors (B, organ_dim) of organ indices (B,)."""
        return super().forward(organ.clamp(min=0)) * (organ != UNKNOWN)[:, None]


class FiLM(nn.Module):
    """Scaling of a normed feature by organ: `LN(f) ⊙ (1 + γ) + β` with γ, β from the organ's embedding.

    Perez et al. 2018 (arXiv 1709.07871), as used in arXiv 2511.13586.

    Parameters
    ----------
    dim
        Size of the feature.
    organs
        Number of organs.
    organ_dim
        Size of the organ embedding.
    """

    def __init__(self, dim: int, organs: int, organ_dim: int) -> None:
        super().__init__()
        hidden = max(64, 2 * organ_dim)
        self.norm = nn.LayerNorm(dim)
        self.embedding = OrganEmbedding(organs, organ_dim)
        self.modulation = nn.Sequential(nn.Linear(organ_dim, hidden), nn.SiLU(), nn.Linear(hidden, 2 * dim))

    def forward(self, feature: Tensor, organ: Tensor) -> Tensor:
        """Return features (B, dim) modulated by organ indices (B,)."""
        gamma, beta = self.modulation(self.embedding(organ)).chunk(2, dim=-1)
        modulated: Tensor = self.norm(feature) * (1 + gamma) + beta
        return modulated


class Concatenation(nn.Module):
    """A normed feature, followed by the organ's embedding: `[LN(f); e]`.

    Parameters
    ----------
    dim, organs, organ_dim
        As for `FiLM`.
    """

    def __init__(self, dim: int, organs: int, organ_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.embedding = OrganEmbedding(organs, organ_dim)

    def forward(self, feature: Tensor, organ: Tensor) -> Tensor:
        """Return features (B, dim + organ_dim) of features (B, dim) and organ indices (B,)."""
        return torch.cat([self.norm(feature), self.embedding(organ)], dim=-1)


class Unconditioned(nn.Module):
    """A normed feature, whatever the organ: `LN(f)`.

    Parameters
    ----------
    dim, organs, organ_dim
        As for `FiLM`; only the first is used.
    """

    def __init__(self, dim: int, organs: int, organ_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, feature: Tensor, organ: Tensor) -> Tensor:
        """Return features (B, dim) normed; organ indices (B,) are ignored."""
        normed: Tensor = self.norm(feature)
        return normed


class _MakesConditioning(Protocol):
    def __call__(self, dim: int, organs: int, organ_dim: int) -> nn.Module: ...


CONDITIONINGS: dict[str, _MakesConditioning] = {"film": FiLM, "concat": Concatenation, "none": Unconditioned}
"""Name in `local.conditioning` → layer between encoder and head."""


class ClassifierHead(nn.Sequential):
    """Two linear layers with SiLU between and dropout before each: (B, dim) → logits (B, classes)."""

    def __init__(self, dim: int, classes: int, dropout: float, hidden: int = 1024) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(dim, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


class Projection(nn.Sequential):
    """LayerNorm and a linear layer: (B, dim) → (B, size)."""

    def __init__(self, dim: int, size: int) -> None:
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, size))


class Standardization(nn.Module):
    """Features of a frozen encoder with mean 0 and standard deviation 1 over the training cells; in front of a path.

    Parameters
    ----------
    dim
        Size of the feature.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        # Buffers, because a path must treat new cells as it treated those of its training.
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def set(self, mean: Tensor, sd: Tensor) -> None:
        """Set means and standard deviations (dim,); a feature that never varies keeps its scale."""
        self.mean.copy_(mean)
        # Relative to the mean, because the deviation of a constant is the error of rounding.
        self.scale.copy_(torch.where(sd > 1e-6 * mean.abs(), 1 / sd, 1.0))

    def forward(self, feature: Tensor) -> Tensor:
        """Return features (B, dim) standardized, within `MAX_DEVIATIONS`."""
        return ((feature - self.mean) * self.scale).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
