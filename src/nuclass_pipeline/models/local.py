"""The local path: the crop of the cell through an encoder, conditioning by organ, and a classifier (arXiv 2511.13586)."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from nuclass_pipeline.config.models import LocalConfig
from nuclass_pipeline.models import checkpoint
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.models.layers import CONDITIONINGS, ClassifierHead, Standardization


class LocalOutput(NamedTuple):
    """Outputs of the local path for B cells.

    Attributes
    ----------
    raw
        (B, dim) vectors of the encoder, standardized if the run file says so.
    feature
        (B, feature_dim) features with the organ.
    logits
        (B, C) logits.
    """

    raw: Tensor
    feature: Tensor
    logits: Tensor


class LocalClassifier(nn.Module):
    """Encoder → conditioning by organ, in the paper FiLM → head.

    Parameters
    ----------
    backbone
        Encoder of the crop; None when it is frozen, and its features (B, dim) replace the images.
    classes, organs
        Number of classes C and of organs.
    config
        How the organ enters, size of its embedding, and dropout.
    dim
        Size of the vector, without an encoder.
    """

    def __init__(self, backbone: Encoder | None, *, classes: int, organs: int, config: LocalConfig, dim: int = 0) -> None:
        super().__init__()
        self.backbone, self.dim = backbone, backbone.dim if backbone is not None else dim
        self.standardize = Standardization(self.dim) if config.standardize else nn.Identity()
        self.conditioning = CONDITIONINGS[config.conditioning](self.dim, organs, config.organ_dim)
        self.head = ClassifierHead(config.feature_dim(self.dim), classes, config.dropout)

    def forward(self, image: Tensor, organ: Tensor) -> LocalOutput:
        """Classify crops (B, 3, S, S) with values 0–1, or features (B, dim) of a frozen encoder, of organs (B,), −1 if unknown."""
        return self.classify(self.backbone(image) if self.backbone is not None else image, organ)

    def classify(self, raw: Tensor, organ: Tensor) -> LocalOutput:
        """Classify vectors (B, dim) of the encoder."""
        raw = self.standardize(raw)
        feature = self.conditioning(raw, organ)
        return LocalOutput(raw, feature, self.head(feature))


def restore_local(path: Path | str) -> tuple[LocalClassifier, checkpoint.CheckpointMetadata]:
    """Rebuild the local path from its checkpoint alone, in evaluation mode, without a frozen encoder.

    Raises
    ------
    UserError
        If the file is missing, broken or of another model.
    """
    return checkpoint.restore(path, "local", build_local)


def build_local(meta: checkpoint.CheckpointMetadata) -> LocalClassifier:
    """Build the local path that metadata describe, with random weights."""
    backbone = assemble(meta.backbone) if meta.backbone else None
    return LocalClassifier(backbone, classes=len(meta.classes), organs=len(meta.organs), config=meta.local, dim=meta.dims["local"])
