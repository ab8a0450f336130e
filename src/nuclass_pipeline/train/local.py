"""Train the local path (arXiv 2511.13586)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import LocalConfig
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.frozen import FrozenFeatures
from nuclass_pipeline.models.local import LocalClassifier, LocalOutput
from nuclass_pipeline.train.augment import AugmentRanges
from nuclass_pipeline.train.cell_task import (
    CellTask,
    TrainingCells,
    frozen_features,
    observed_classes,
    pixel_size,
    set_frozen,
    slide_files,
    window_field,
)
from nuclass_pipeline.train.dataset import CellBatch
from nuclass_pipeline.train.engine import FitSettings, fingerprint, fit_model, remove_resume_state, save_best
from nuclass_pipeline.train.features.standardization import set_standardization
from nuclass_pipeline.train.loop.processes import batch_share, start_training
from nuclass_pipeline.train.losses import class_weights, smoothed_cross_entropy
from nuclass_pipeline.train.optim import ParamGroup, encoder_param_groups
from nuclass_pipeline.vocabulary import embedded_organs

STAGE_VERSION = 2


class LocalTask(CellTask):
    """Training of the local path; validations score its logits."""

    model: LocalClassifier
    weights: Tensor

    def __init__(self, model: LocalClassifier, weights: Tensor, config: LocalConfig, seed: int) -> None:
        super().__init__(model, classes=len(weights), optim=config.optim, seed=seed)
        self.config, self.augmented, self.ranges = config, config.augment, AugmentRanges(stain=config.stain_jitter)
        self.organ_dropout = config.organ_dropout
        self.register_buffer("weights", weights)

    def start_epoch(self, epoch: int) -> None:
        """Train the encoder once its frozen epochs are over."""
        set_frozen(self.model.backbone, epoch < self.config.freeze_backbone_epochs)

    def param_groups(self) -> list[ParamGroup]:
        """Return the encoder's blocks with rates that decay by layer, and the rest with the head's rate."""
        optim, model = self.config.optim, self.model
        # Warmed up from its first trained step, because the warm-up would else be over while the encoder is frozen.
        start = self.steps_before(self.config.freeze_backbone_epochs)
        rest = [*model.conditioning.parameters(), *model.head.parameters()]
        if model.backbone is None:
            return [ParamGroup(rest, optim.lr_head)]
        return [*encoder_param_groups(model.backbone, optim.lr_backbone, optim.layer_decay, start), ParamGroup(rest, optim.lr_head)]

    def training_loss(self, batch: CellBatch) -> Tensor:
        """Return the cross-entropy with class weights and label smoothing."""
        return batch_share(self.weights[batch.label]) * self._loss(self._forward(batch).logits, batch.label)

    def predict_batch(self, batch: CellBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same loss, logits (B, C) and labels (B,)."""
        logits = self._forward(batch).logits
        return self._loss(logits, batch.label), logits, batch.label

    def _forward(self, batch: CellBatch) -> LocalOutput:
        output: LocalOutput = self.model(batch.image, batch.organ)
        return output

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return smoothed_cross_entropy(logits, label, self.config.label_smoothing, self.weights)


def train_local(
    *,
    patches: Sequence[Path],
    labels: Sequence[Path],
    splits: Sequence[Path],
    organs: Sequence[str],
    classes: Sequence[str],
    config: LocalConfig,
    compute: Compute,
    seed: int,
    device: str,
    checkpoint: Path,
    history: Path,
    resume: Path,
    curves: Path | None = None,
) -> None:
    """Train the local path on the subset `train` of the slides and keep the weights with the best macro-F1 on `val`.

    Parameters
    ----------
    patches, labels, splits, organs
        Local crops, or features of a frozen encoder; table of labels, table of the split and organ of each training slide.
    classes
        Classes that may be trained; those without a training cell are left out of the model.
    config
        Encoder, optimiser and objective.
    compute, device
        Precision, processes and their loader processes, memory for patches, time between saved states, and device.
    seed
        Seed of the first weights, dropout, augmentation and the order of cells.
    checkpoint, history, resume, curves
        Checkpoint with the best weights; table of validations; folder for the state of an unfinished training, which is removed at the
        end; and folder for scores, speed and memory over the training, or None.

    Raises
    ------
    UserError
        If an input file is missing or broken, or the weights of the encoder are, or features are those of another encoder.
    """
    start_training(seed, compute.devices)
    slides = slide_files(patches, labels, splits, organs)
    trained, known = observed_classes(slides, "train", classes), embedded_organs(organs)
    model, features = _build_model(config, patches, len(trained), len(known))
    data = TrainingCells.open(slides, compute, classes=trained, organs=known, image_px=config.backbone.image_px)
    set_standardization(model.standardize, data.train, "image")
    task = LocalTask(model, class_weights(data.train.counts(len(trained)), config.class_balance), config, seed)
    identity = fingerprint("local", config.model_dump(), trained, data.fingerprint(), seed, STAGE_VERSION, features)
    frozen_epochs = 0 if features else config.freeze_backbone_epochs
    settings = FitSettings(config.optim, compute, device, resume, identity, frozen_epochs, curves)
    names = {"classes": tuple(trained), "organs": known, "trained_organs": tuple(dict.fromkeys(organs))}
    meta = CheckpointMetadata(kind="local", **names, **_own_entries(model, config, patches, features), seed=seed)
    save_best(model, meta, fit_model(task, *data.loaders(config.optim, compute, seed), settings), checkpoint, history)
    remove_resume_state(resume)


def _build_model(config: LocalConfig, patches: Sequence[Path], classes: int, organs: int) -> tuple[LocalClassifier, FrozenFeatures | None]:
    features = frozen_features(patches, config.backbone, "local_um") if config.backbone.freeze else None
    backbone = None if features else build_backbone(config.backbone)
    dim = features.dim if features else 0
    return LocalClassifier(backbone, classes=classes, organs=organs, config=config, dim=dim), features


def _own_entries(model: LocalClassifier, config: LocalConfig, patches: Sequence[Path], features: FrozenFeatures | None) -> dict[str, Any]:
    """Return what the metadata say of the local path."""
    windows = {"mpp": pixel_size(patches), "local_um": window_field(patches, "local_um")}
    spec = model.backbone.spec if model.backbone else None
    return {"local": config, "backbone": spec, "local_features": features, "dims": {"local": model.dim}} | windows
