"""The local path: the crop of the cell through an encoder, FiLM by organ, and a classifier (arXiv 2511.13586)."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from nuclass_pipeline.config.models import LocalConfig
from nuclass_pipeline.models import checkpoint
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.models.layers import ClassifierHead, FiLM


class LocalOutput(NamedTuple):
    """Outputs of the local path for B cells.

    Attributes
    ----------
    raw
        (B, dim) vectors of the encoder.
    feature
        (B, dim) features after FiLM.
    logits
        (B, C) logits.
    """

    raw: Tensor
    feature: Tensor
    logits: Tensor


class LocalClassifier(nn.Module):
    """Encoder → FiLM → head.

    Parameters
    ----------
    backbone
        Encoder of the crop.
    classes, organs
        Number of classes C and of organs.
    config
        Size of the organ embedding, and dropout.
    """

    def __init__(self, backbone: Encoder, *, classes: int, organs: int, config: LocalConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.film = FiLM(backbone.dim, organs, config.organ_dim)
        self.head = ClassifierHead(backbone.dim, classes, config.dropout)

    def forward(self, image: Tensor, organ: Tensor) -> LocalOutput:
        """Classify crops (B, 3, S, S) with values 0–1 of organs (B,)."""
        return self.classify(self.backbone(image), organ)

    def classify(self, raw: Tensor, organ: Tensor) -> LocalOutput:
        """Classify vectors (B, dim) of the encoder."""
        feature = self.film(raw, organ)
        return LocalOutput(raw, feature, self.head(feature))


def restore_local(path: Path | str) -> tuple[LocalClassifier, checkpoint.CheckpointMetadata]:
    """Rebuild the local path from its checkpoint alone, in evaluation mode.

    Raises
    ------
    UserError
        If the file is missing, broken or of another model.
    """
    return checkpoint.restore(path, "local", _build)


def _build(meta: checkpoint.CheckpointMetadata) -> LocalClassifier:
    return LocalClassifier(assemble(meta.backbone), classes=len(meta.classes), organs=len(meta.organs), config=meta.local)
