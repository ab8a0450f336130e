"""Training of the gate of the paper, a small network on the outputs of both paths (arXiv 2511.13586)."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.models.gate import Gate
from nuclass_pipeline.models.mixture import mix
from nuclass_pipeline.train.engine import FitSettings, TrainingTask, fit_model
from nuclass_pipeline.train.gates.outputs import FeatureFile, PathOutputs, PathOutputsDataset
from nuclass_pipeline.train.history import FitResult
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.losses import gate_loss
from nuclass_pipeline.train.optim import ParamGroup


class GateTask(TrainingTask):
    """Training of the gate; validations score the mixture."""

    model: Gate

    def __init__(self, model: Gate, classes: int, config: GateConfig, seed: int) -> None:
        super().__init__(model, classes=classes, optim=config.optim, seed=seed)
        self.config = config

    def param_groups(self) -> list[ParamGroup]:
        """Return all parameters of the gate with one learning rate."""
        return [ParamGroup(list(self.model.parameters()), self.config.optim.lr_head)]

    def training_loss(self, batch: PathOutputs) -> Tensor:
        """Return the sum of the gate's four terms."""
        return gate_loss(self.model(*batch[:4]), batch.local_p, batch.global_p, batch.label, self.config).total

    def predict_batch(self, batch: PathOutputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same loss, the mixture (B, C), and labels (B,)."""
        logit = self.model(*batch[:4])
        loss = gate_loss(logit, batch.local_p, batch.global_p, batch.label, self.config).total
        return loss, mix(torch.sigmoid(logit), batch.local_p, batch.global_p), batch.label


def fit_mlp(
    slides: Sequence[FeatureFile],
    labels: Sequence[Path],
    splits: Sequence[Path],
    config: GateConfig,
    seed: int,
    device: str,
    curves: Path | None,
) -> tuple[Gate, FitResult]:
    """Train on the subset `gate`, and return the gate with the best macro-F1 of the mixture on `val`, on the CPU.

    Raises
    ------
    UserError
        If a file is damaged, or a subset has no labelled cell.
    """
    torch.manual_seed(seed)
    meta = slides[0].meta
    for slide in slides:
        slide.check()
    train, validation = (PathOutputsDataset(slides, labels, splits, subset) for subset in ("gate", "val"))
    model = Gate(meta.feature_dims["local"], meta.feature_dims["global"], config)
    loaders = (make_loader(train, config.optim.batch_size, 0, shuffle_seed=seed), make_loader(validation, config.optim.batch_size, 0))
    # Without a state to resume, because training on cached outputs takes minutes.
    with tempfile.TemporaryDirectory() as scratch:
        settings = FitSettings(config.optim, Compute(precision="32-true"), device, Path(scratch), "gate", curves=curves)
        result = fit_model(GateTask(model, len(meta.classes), config, seed), *loaders, settings)
    return model.cpu(), result
