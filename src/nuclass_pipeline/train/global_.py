"""Train the global path, starting from the local path (arXiv 2511.13586)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nuclass_pipeline.config.backbones.section import views_differ
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GlobalConfig, LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.frozen import FrozenFeatures
from nuclass_pipeline.models.global_ import GlobalClassifier
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from nuclass_pipeline.train.augment import AugmentRanges
from nuclass_pipeline.train.cell_task import (
    CellTask,
    TrainingCells,
    check_windows,
    frozen_features,
    set_frozen,
    slide_files,
    window_field,
)
from nuclass_pipeline.train.dataset import CellBatch
from nuclass_pipeline.train.engine import FitSettings, fingerprint, fit_model, remove_resume_state, save_best
from nuclass_pipeline.train.features.standardization import set_standardization
from nuclass_pipeline.train.loop.processes import batch_share, start_training
from nuclass_pipeline.train.losses import class_weights, global_loss, smoothed_cross_entropy
from nuclass_pipeline.train.optim import ParamGroup, alpha_schedule, encoder_param_groups

STAGE_VERSION = 2


class GlobalTask(CellTask):
    """Training of the global path; validations score its own logits, which do not depend on the label."""

    model: GlobalClassifier
    weights: Tensor

    def __init__(self, model: GlobalClassifier, weights: Tensor, config: GlobalConfig, seed: int, *, local: LocalConfig) -> None:
        super().__init__(model, classes=len(weights), optim=config.optim, seed=seed)
        self.config, self.local_frozen, self.organ_dropout = config, local.backbone.freeze, local.organ_dropout
        self.augmented, self.ranges = config.augment, AugmentRanges(stain=config.stain_jitter)
        self.register_buffer("weights", weights)

    def start_epoch(self, epoch: int) -> None:
        """Train the local encoder once its frozen epochs are over, unless the local path kept it frozen too."""
        set_frozen(self.model.local.backbone, self.local_frozen or epoch < self.config.freeze_backbone_epochs)

    def param_groups(self) -> list[ParamGroup]:
        """Return the blocks of both encoders with rates that decay by layer, and the rest with the head's rate."""
        optim, model = self.config.optim, self.model
        start = self.steps_before(self.config.freeze_backbone_epochs)
        encoders = []
        if model.local.backbone is not None:
            encoders += encoder_param_groups(model.local.backbone, optim.lr_backbone, optim.layer_decay, start)
        if model.encoder is not None:
            encoders += encoder_param_groups(model.encoder, self.config.lr_context, optim.layer_decay)
        known = {id(parameter) for group in encoders for parameter in group.parameters}
        return [*encoders, ParamGroup([p for p in model.parameters() if id(p) not in known], optim.lr_head)]

    def training_loss(self, batch: CellBatch) -> Tensor:
        """Return the uncertainty-guided objective."""
        config = self.config
        alpha = alpha_schedule(self.current_epoch, config.alpha_initial, config.alpha_final, config.alpha_epochs)
        out = self.model(batch.image, batch.context, batch.organ, label=batch.label, alpha=alpha)
        share = batch_share(self.weights[batch.label])
        return global_loss(out.local_logits, out.logits, out.inner_gate, batch.label, self.weights, config, share).total

    def predict_batch(self, batch: CellBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss term of the global path's own logits, these logits (B, C), and labels (B,)."""
        # Without label and with the final α, because the model runs like this in use; the reference passes the label to the inner gate.
        logits = self.model(batch.image, batch.context, batch.organ).logits
        return smoothed_cross_entropy(logits, batch.label, self.config.label_smoothing, self.weights), logits, batch.label


def train_global(
    *,
    patches: Sequence[Path],
    contexts: Sequence[Path],
    labels: Sequence[Path],
    splits: Sequence[Path],
    organs: Sequence[str],
    local: Path,
    config: GlobalConfig,
    compute: Compute,
    seed: int,
    device: str,
    checkpoint: Path,
    history: Path,
    resume: Path,
    curves: Path | None = None,
) -> None:
    """Train the global path on the subset `train` of the slides and keep the weights with the best macro-F1 on `val`.

    Parameters
    ----------
    patches, labels, splits, organs
        Local crops, or features of a frozen encoder; table of labels, table of the split and organ of each training slide.
    contexts
        Their context windows; with a frozen context encoder, their features instead.
    local
        Checkpoint of the local path: classes, organs and first weights.
    config
        Context encoder, optimiser and objective.
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
        If an input file is missing or broken, or the weights of the context encoder are, or windows or features differ from those
        that the local path was trained on, or the encoder of the run file writes.
    """
    start_training(seed, compute.devices)
    inner, local_meta = restore_local(local)
    features = _features(patches, contexts, local_meta, config)
    model = _build_model(inner, local_meta, config, features)
    sides = {"image_px": local_meta.local.backbone.image_px, "context_px": config.context.image_px}
    slides = slide_files(patches, labels, splits, organs, contexts)
    data = TrainingCells.open(slides, compute, classes=local_meta.classes, organs=local_meta.organs, **sides)
    set_standardization(model.standardize, data.train, "context")
    weights = class_weights(data.train.counts(len(local_meta.classes)), config.class_balance)
    task = GlobalTask(model, weights, config, seed, local=local_meta.local)
    first = local_meta.model_dump(), _weight_sums(inner)
    identity = fingerprint("global", config.model_dump(), *first, data.fingerprint(), seed, STAGE_VERSION, features)
    frozen_epochs = config.freeze_backbone_epochs if inner.backbone else 0
    settings = FitSettings(config.optim, compute, device, resume, identity, frozen_epochs, curves)
    meta = local_meta.model_copy(update=_own_entries(model, config, features, contexts) | {"seed": seed})
    save_best(model, meta, fit_model(task, *data.loaders(config.optim, compute, seed), settings), checkpoint, history)
    remove_resume_state(resume)


def _features(patches: Sequence[Path], contexts: Sequence[Path], meta: CheckpointMetadata, config: GlobalConfig) -> FrozenFeatures | None:
    for path in patches:
        check_windows(path, meta, "local_um", meta.local_features)
    if meta.local_features and views_differ(meta.local_features.views, config.context.views):
        problem = f"is {config.context.views}, and {meta.local_features.views} in the features of the local path"
        raise UserError("run file", "global.context.views", problem, f"Set it to {meta.local_features.views} or 1.")
    return frozen_features(contexts, config.context, "context_um") if config.context.freeze else None


def _own_entries(
    model: GlobalClassifier, config: GlobalConfig, features: FrozenFeatures | None, contexts: Sequence[Path]
) -> dict[str, Any]:
    """Return what the metadata of the global path have beside those of the local path."""
    dims = {"local": model.local.dim, "context": model.context_dim, "global": 2 * config.projection}
    spec = model.encoder.spec if model.encoder else None
    field = {"context_um": window_field(contexts, "context_um"), "context": spec, "context_features": features}
    return {"kind": "global", "global_": config, "dims": dims} | field


def _build_model(
    inner: LocalClassifier, meta: CheckpointMetadata, config: GlobalConfig, features: FrozenFeatures | None
) -> GlobalClassifier:
    encoder = None if features else build_backbone(config.context)
    dim = features.dim if features else encoder.dim if encoder else 0
    # Switched on again, because a restored encoder is built without this setting of the training.
    if meta.local.backbone.gradient_checkpointing and inner.backbone is not None:
        inner.backbone.checkpoint_gradients()
    return GlobalClassifier(inner.train(), encoder, dim, classes=len(meta.classes), config=config)


def _weight_sums(model: nn.Module) -> dict[str, float]:
    # Part of the fingerprint, because two trainings of the local path can have the same metadata and other weights.
    return {name: float(tensor.double().sum()) for name, tensor in model.state_dict().items()}
