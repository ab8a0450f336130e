"""The global path: the vector of the crop and that of a wide context window (arXiv 2511.13586)."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nuclass_pipeline.config.models import GlobalConfig
from nuclass_pipeline.models import checkpoint
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.models.layers import ClassifierHead, Projection, Standardization
from nuclass_pipeline.models.local import LocalClassifier, LocalOutput, build_local


class GlobalOutput(NamedTuple):
    """Outputs of the global path for B cells.

    Attributes
    ----------
    feature
        (B, 2 · projection) projected vectors `[û; ĉ]` of crop and context.
    logits
        (B, C) logits of this path.
    local_logits
        (B, C) logits of the inner local path.
    inner_gate
        (B, 1) weight of `logits` in the fused logits of the objective, 0–1.
    """

    feature: Tensor
    logits: Tensor
    local_logits: Tensor
    inner_gate: Tensor


class GlobalClassifier(nn.Module):
    """A further trained copy of the local path, a context encoder, a projection of each, and a head on both.

    Parameters
    ----------
    local
        The local path. The projection takes the vector of its encoder *before* conditioning; the rest yields p_local for the objective.
    encoder
        Context encoder; None when it is frozen, and its features (B, context_dim) replace the images.
    context_dim
        Size of the context vector.
    classes
        Number of classes C.
    config
        Size of the projections, dropout, α, and whether the context is used.
    """

    alpha: Tensor

    def __init__(self, local: LocalClassifier, encoder: Encoder | None, context_dim: int, *, classes: int, config: GlobalConfig) -> None:
        super().__init__()
        size = config.projection
        self.local, self.encoder, self.context_dim = local, encoder, context_dim
        self.standardize = Standardization(context_dim) if config.standardize else nn.Identity()
        self.local_projection = Projection(local.dim, size)
        self.context_projection = Projection(context_dim, size)
        self.head = ClassifierHead(2 * size, classes, config.dropout)
        self.inner_gate = nn.Sequential(nn.Linear(2 * size + 1, 256), nn.SiLU(), nn.Linear(256, 1), nn.Sigmoid())
        self.context_dropout, self.use_context = config.context_dropout, config.use_context
        # In the checkpoint, because the public reference used the α of the first epoch at inference.
        self.register_buffer("alpha", torch.tensor(config.alpha_final))

    def forward(
        self, image: Tensor, context: Tensor, organ: Tensor, *, label: Tensor | None = None, alpha: float | None = None
    ) -> GlobalOutput:
        """Classify crops (B, 3, S, S) in their contexts.

        Parameters
        ----------
        image
            Crops, values 0–1, or the features (B, dim) of a frozen encoder.
        context
            Windows (B, 3, S, S), values 0–1, or the features (B, context_dim) of a frozen encoder.
        organ
            Organ indices (B,), −1 if unknown.
        label
            True classes (B,), in training only: p_local(y) is an input of the inner gate. Without them that input is 0, and no score
            may depend on the inner gate.
        alpha
            Scale of the context in the first epochs; without it the final scale of the checkpoint.
        """
        if not self.use_context:
            vector = context.new_zeros(len(context), self.context_dim)
        else:
            vector = self.encoder(context) if self.encoder is not None else context
        return self.classify(self.local(image, organ), vector, label=label, alpha=alpha)

    def classify(self, inner: LocalOutput, vector: Tensor, *, label: Tensor | None = None, alpha: float | None = None) -> GlobalOutput:
        """Classify from the output of the inner local path and context vectors (B, context_dim)."""
        vector = self.standardize(vector)
        # One draw for all cells, because the public reference drops the context of whole batches.
        if not self.use_context or (self.training and torch.rand(()) < self.context_dropout):
            vector = torch.zeros_like(vector)
        u, c = self.local_projection(inner.raw), self.context_projection(vector)
        logits = self.head(torch.cat([u, c * (self.alpha if alpha is None else alpha)], dim=-1))
        feature = torch.cat([u, c], dim=-1)
        return GlobalOutput(feature, logits, inner.logits, self._inner_gate(feature, inner.logits, label))

    def _inner_gate(self, feature: Tensor, local_logits: Tensor, label: Tensor | None) -> Tensor:
        truth = feature.new_zeros(len(feature), 1)
        if label is not None:
            truth = local_logits.float().softmax(-1).gather(1, label[:, None]).to(feature.dtype)
        gate: Tensor = self.inner_gate(torch.cat([feature, truth], dim=-1))
        return gate


def restore_global(path: Path | str) -> tuple[GlobalClassifier, checkpoint.CheckpointMetadata]:
    """Rebuild the global path from its checkpoint, in evaluation mode, without frozen encoders.

    Raises
    ------
    UserError
        If the file is missing, broken or of another model.
    """
    return checkpoint.restore(path, "global", _build)


def _build(meta: checkpoint.CheckpointMetadata) -> GlobalClassifier:
    local = build_local(meta)
    encoder = assemble(meta.context) if meta.context else None
    config = meta.global_ or GlobalConfig()
    return GlobalClassifier(local, encoder, meta.dims["context"], classes=len(meta.classes), config=config)
