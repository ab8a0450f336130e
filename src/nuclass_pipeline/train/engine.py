"""One training loop for all models: validations, early stopping, best weights, history, and resuming after an interruption."""

import hashlib
import json
import logging
import math
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import OptimConfig
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.train.history import MONITOR, FitResult, History, Patience
from nuclass_pipeline.train.loop.processes import gather, mean_of_processes, process_rank, run_processes
from nuclass_pipeline.train.loop.state import LAST, TrainingState, skip_done
from nuclass_pipeline.train.loop.throughput import Throughput, open_curves
from nuclass_pipeline.train.optim import ParamGroup, make_optimizer

logger = logging.getLogger(__name__)


class TrainingTask(L.LightningModule):
    """Training of a model; subclasses define the loss of a batch and the prediction that validations score.

    Parameters
    ----------
    model
        The model; its best weights are kept.
    classes
        Number of classes.
    optim
        Settings of the optimiser and of the loop.
    seed
        Seed of the training. With the number of the epoch it seeds the generators, so a resumed run repeats the uninterrupted one.
    """

    generator: torch.Generator

    def __init__(self, model: nn.Module, *, classes: int, optim: OptimConfig, seed: int) -> None:
        super().__init__()
        self.model, self.optim, self.seed = model, optim, seed
        # Of the whole batch in each process, because one process alone logs it.
        self.train_loss, self.val_loss = MeanMetric(sync_on_compute=False), MeanMetric()
        # Saved, because an epoch that is resumed goes on with the losses of its first batches.
        self.train_loss.persistent(True)
        self._draws: dict[str, Any] = {}
        self.macro_f1 = MulticlassF1Score(classes, average="macro")
        self.accuracy = MulticlassAccuracy(classes, average="micro")

    def training_loss(self, batch: Any) -> Tensor:
        """Return the objective of a batch."""
        raise NotImplementedError

    def predict_batch(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the validation loss, probabilities or logits (B, C), and labels (B,)."""
        raise NotImplementedError

    def param_groups(self) -> list[ParamGroup]:
        """Return every parameter of the model with its learning rate."""
        raise NotImplementedError

    def start_epoch(self, epoch: int) -> None:
        """Freeze or unfreeze modules for an epoch."""

    def steps_before(self, epoch: int) -> int:
        """Return the number of optimiser steps before an epoch."""
        return epoch * math.ceil(self.trainer.num_training_batches / self.optim.accumulate)

    def configure_optimizers(self) -> Any:
        """Build AdamW and its warm-up; Lightning calls this."""
        # Loaders first, because the schedule needs the number of batches, which Lightning counts after this call.
        self.trainer.fit_loop.setup_data()
        cosine_steps = self.steps_before(self.optim.max_epochs) if self.optim.schedule == "cosine" else 0
        optimizer, schedule = make_optimizer(
            self.model, self.param_groups(), self.optim.weight_decay, self.optim.warmup_steps, cosine_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; Lightning calls this."""
        seed = _epoch_seed(self.seed, self.current_epoch)
        torch.manual_seed(seed)
        # On a GPU alone, because the context of a whole batch is dropped by a draw on the CPU.
        if rank := process_rank()[0]:
            torch.cuda.manual_seed(_epoch_seed(seed, rank))
        self.generator = torch.Generator().manual_seed(seed)
        self.start_epoch(self.current_epoch)

    def on_train_start(self) -> None:
        """Restore the generators within an epoch that was interrupted; Lightning calls this."""
        if self._draws:
            self.start_epoch(self.current_epoch)
            self.generator = torch.Generator()
            self.generator.set_state(self._draws["own"])
            torch.set_rng_state(self._draws["torch"])
            # Devices beyond those of the saved state go on with their own generators.
            if (rank := process_rank()[0]) < len(self._draws["cuda"]):
                torch.cuda.set_rng_state(self._draws["cuda"][rank])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the states of the generators; Lightning calls this."""
        cuda = gather(torch.cuda.get_rng_state()) if self.device.type == "cuda" else []
        checkpoint["draws"] = {"own": self.generator.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the states of the generators until the training starts; Lightning calls this."""
        self._draws = checkpoint["draws"]

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Return the objective; Lightning calls this."""
        loss = self.training_loss(batch)
        self.train_loss.update(mean_of_processes(loss.detach()))
        return loss

    def on_validation_start(self) -> None:
        """Set the running statistics to those of the first process, which the checkpoint keeps; Lightning calls this."""
        if process_rank()[1] > 1:
            for buffer in self.model.buffers():
                distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Any, index: int) -> None:
        """Add a batch to the scores of the validation; Lightning calls this."""
        loss, scores, label = self.predict_batch(batch)
        # Weighted, because the last batch of a validation is smaller.
        self.val_loss.update(loss, weight=len(label))
        self.macro_f1.update(scores.float(), label)
        self.accuracy.update(scores.float(), label)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation; Lightning calls this."""
        for name, metric in (
            ("train_loss", self.train_loss),
            ("val_loss", self.val_loss),
            (MONITOR, self.macro_f1),
            ("val_accuracy", self.accuracy),
        ):
            self.log(name, metric.compute())
            metric.reset()


@dataclass(frozen=True)
class FitSettings:
    """Settings of a training.

    Attributes
    ----------
    optim
        Settings of the optimiser and of the loop.
    compute
        Precision, devices, cores, and the time between two states within an epoch; 0 minutes save one after each step.
    device
        `cpu` or `cuda`.
    resume
        Folder for the state of the training.
    fingerprint
        Hash of data, configuration and seed; a state with another one is discarded.
    patient_from
        First epoch whose validations count for early stopping.
    curves
        Folder for the curves of the training; None writes none.
    """

    optim: OptimConfig
    compute: Compute
    device: str
    resume: Path
    fingerprint: str
    patient_from: int = 0
    curves: Path | None = None


def fit_model(task: TrainingTask, train: DataLoader[Any], validation: DataLoader[Any], settings: FitSettings) -> FitResult:
    """Train until patience or epochs run out, leave the best weights in `task.model`, and return their score and the history.

    The state is saved at the end of each epoch, and every `checkpoint_minutes` within it. A state with the same fingerprint is resumed; on
    the CPU the training then ends with the weights of an uninterrupted one. Any other state is discarded.

    Parameters
    ----------
    task
        The model and its objective.
    train, validation
        Loaders of the training and of the validation cells.
    settings
        Loop, hardware and state.
    """
    if resumed := _prepare_resume(settings):
        skip_done(train, resumed)
    compute, optim = settings.compute, settings.optim
    if compute.devices > 1:
        effective = optim.batch_size * optim.accumulate
        each = optim.batch_size // compute.devices
        logger.info("%d devices: %d cells of each batch on each, %d cells per optimizer step", compute.devices, each, effective)
        cells = len(train.dataset)  # type: ignore[arg-type]
        if left := cells % optim.batch_size % compute.devices:
            logger.info("%d of %d cells are left out of each epoch, others in each, because all devices get the same number", left, cells)

    def train_here(rank: int) -> tuple[Path, FitResult]:
        if rank:
            logging.disable(logging.INFO)
        # By timm, because Lightning's conversion drops the activations that timm keeps within norms.
        if compute.devices > 1 and settings.device.startswith("cuda"):
            convert_sync_batchnorm(task)  # type: ignore[no-untyped-call]
        history, state = History(), TrainingState(settings.resume, compute.checkpoint_minutes)
        trainer = _trainer(settings, rank, [history, Throughput(), Patience(optim.patience, settings.patient_from), state])
        with warnings.catch_warnings(), suppress(SystemExit):
            warnings.filterwarnings("ignore", message=_USUAL)
            trainer.fit(task, train, validation, ckpt_path=resumed, weights_only=True)
        # Lightning returns or exits after Ctrl-C; raised again, because the job says why it ended, and no unfinished model is a result.
        if trainer.interrupted:
            raise KeyboardInterrupt
        return state.best_path, history.best()

    best, result = run_processes(train_here, compute.devices, compute.threads)
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    return result


def save_best(model: nn.Module, meta: CheckpointMetadata, result: FitResult, checkpoint: Path, history: Path) -> None:
    """Write a checkpoint with the best weights, and the table of validations."""
    save_checkpoint(checkpoint, model, meta.model_copy(update={"epoch": result.epoch, "score": result.score}))
    with whole_file(history) as partial:
        result.history.to_parquet(partial, index=False)


def fingerprint(*values: Any) -> str:
    """Return a hash of JSON-like values; a saved state is resumed only if it has the same."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def remove_resume_state(resume: Path) -> None:
    """Remove the state of a finished training."""
    shutil.rmtree(resume, ignore_errors=True)


_USUAL = r".*(many workers|number of training batches|not resumable|Checkpoint directory|LeafSpec|sync_dist|broadcast_buffers).*"
"""Warnings of Lightning about what is meant."""


def _trainer(settings: FitSettings, rank: int, callbacks: Sequence[Callback]) -> L.Trainer:
    several = settings.compute.devices > 1
    # Unused parameters, because encoders are frozen for some epochs, and the context of some batches is dropped.
    strategy = DDPStrategy(cluster_environment=LightningEnvironment(), find_unused_parameters=True, broadcast_buffers=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return L.Trainer(
        accelerator="gpu" if settings.device.startswith("cuda") else "cpu",
        devices=settings.compute.devices,
        strategy=strategy if several else "auto",
        # Loaders share the cells out, because Lightning's sampler would repeat some.
        use_distributed_sampler=False,
        precision=settings.compute.precision,
        max_epochs=settings.optim.max_epochs,
        val_check_interval=1 / settings.optim.checks_per_epoch,
        accumulate_grad_batches=settings.optim.accumulate,
        gradient_clip_val=settings.optim.clip_norm or None,
        # No trial validation, because the history would gain a row for untrained weights.
        num_sanity_val_steps=0,
        logger=open_curves(settings.curves if rank == 0 else None),
        enable_model_summary=False,
        enable_progress_bar=rank == 0 and sys.stderr.isatty(),
        callbacks=list(callbacks),
    )


def _prepare_resume(settings: FitSettings) -> Path | None:
    mark, last = settings.resume / "fingerprint", settings.resume / LAST
    if last.exists() and mark.exists() and mark.read_text() == settings.fingerprint:
        logger.info("resuming from %s", last)
        return last
    if last.exists():
        logger.info("%s belongs to another configuration or to other data: starting from the beginning", last)
    remove_resume_state(settings.resume)
    with whole_file(mark) as partial:
        partial.write_text(settings.fingerprint)
    return None


def _epoch_seed(seed: int, epoch: int) -> int:
    # A hash, because the sum of both would give epoch 1 of seed 0 the draws of epoch 0 of seed 1.
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:4], "big")
