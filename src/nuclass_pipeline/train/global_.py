"""Train path global on top of path local (arXiv 2511.13586)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GlobalConfig
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.global_ import GlobalClassifier
from nuclass_pipeline.models.local import restore_local
from nuclass_pipeline.train.augment import AugmentRanges
from nuclass_pipeline.train.cell_task import CellTask, TrainingCells, feature_dim, set_frozen, slide_files
from nuclass_pipeline.train.dataset import CellBatch
from nuclass_pipeline.train.engine import FitSettings, fingerprint, fit_model, remove_resume_state, save_best
from nuclass_pipeline.train.losses import class_weights, global_loss, smoothed_cross_entropy
from nuclass_pipeline.train.optim import ParamGroup, alpha_schedule, encoder_param_groups

STAGE_VERSION = 1


class GlobalTask(CellTask):
    """Path global in training; checks score its own logits, which never saw a label."""

    model: GlobalClassifier
    weights: Tensor

    def __init__(self, model: GlobalClassifier, weights: Tensor, config: GlobalConfig, seed: int, *, local_frozen: bool) -> None:
        super().__init__(model, classes=len(weights), optim=config.optim, seed=seed)
        self.config, self.local_frozen = config, local_frozen
        self.augmented, self.limits = config.augment, AugmentRanges(stain=config.stain_jitter)
        self.register_buffer("weights", weights)

    def start_epoch(self, epoch: int) -> None:
        """Train the local encoder once its frozen epochs are over, unless path local kept it frozen too."""
        set_frozen(self.model.local.backbone, self.local_frozen or epoch < self.config.freeze_backbone_epochs)

    def rates(self) -> list[ParamGroup]:
        """Decay both encoders' rates by layer; the rest learns at the head's rate."""
        optim, model = self.config.optim, self.model
        start = self.steps_before(self.config.freeze_backbone_epochs)
        encoders = encoder_param_groups(model.local.backbone, optim.lr_backbone, optim.layer_decay, start)
        if model.encoder is not None:
            encoders += encoder_param_groups(model.encoder, self.config.lr_context, optim.layer_decay)
        known = {id(parameter) for rate in encoders for parameter in rate.parameters}
        return [*encoders, ParamGroup([p for p in model.parameters() if id(p) not in known], optim.lr_head)]

    def training_loss(self, batch: CellBatch) -> Tensor:
        """Return the uncertainty-guided objective."""
        config = self.config
        alpha = alpha_schedule(self.current_epoch, config.alpha_initial, config.alpha_final, config.alpha_epochs)
        out = self.model(batch.image, batch.context, batch.organ, label=batch.label, alpha=alpha)
        return global_loss(out.local_logits, out.logits, out.inner_gate, batch.label, self.weights, config).total

    def predict_batch(self, batch: CellBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return path global's own loss term, logits and labels, with the final α as in use."""
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
) -> None:
    """Train path global on part `train` of the slides and keep the weights with the best macro-F1 on part `val`.

    Parameters
    ----------
    patches, labels, splits, organs
        Files and organ of each training slide.
    contexts
        Their context windows; with a frozen context encoder, their features instead.
    local
        Checkpoint of path local, which gives classes, organs and the first weights.
    config, compute, seed, device
        How to train, and on what.
    checkpoint, history
        What is written.
    resume
        Folder for the state of an unfinished training; removed at the end.

    Raises
    ------
    UserError
        If an input file is unfit, or the weights of the context encoder are missing.
    """
    torch.manual_seed(seed)
    inner, taught = restore_local(local)
    encoder = None if config.context.freeze else build_backbone(config.context)
    context_dim = encoder.dim if encoder else feature_dim(contexts)
    model = GlobalClassifier(inner.train(), encoder, context_dim, classes=len(taught.classes), config=config)
    if taught.local.backbone.gradient_checkpointing:
        inner.backbone.checkpoint_gradients()
    sides = {"image_px": taught.local.backbone.image_px, "context_px": config.context.image_px}
    slides = slide_files(patches, labels, splits, organs, contexts)
    data = TrainingCells.open(slides, compute.cache_gb, classes=taught.classes, organs=taught.organs, **sides)
    weights = class_weights(data.train.counts(len(taught.classes)), config.class_balance)
    task = GlobalTask(model, weights, config, seed, local_frozen=taught.local.backbone.freeze)
    teacher = {name: float(tensor.double().sum()) for name, tensor in inner.state_dict().items()}
    identity = fingerprint("global", config.model_dump(), taught.model_dump(), teacher, data.fingerprint(), seed, STAGE_VERSION)
    plan = FitSettings(config.optim, device, compute.precision, resume, identity, config.freeze_backbone_epochs)
    dims = {**taught.dims, "context": context_dim, "global": 2 * config.projection}
    spec = encoder.spec if encoder else None
    meta = taught.model_copy(update={"kind": "global", "global_": config, "context": spec, "dims": dims, "seed": seed})
    save_best(model, meta, fit_model(task, *data.loaders(config.optim, compute, seed), plan), checkpoint, history)
    remove_resume_state(resume)
