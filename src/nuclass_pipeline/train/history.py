"""The validations of a training: their table, the best of them, when they end it, and the progress in the log."""

import time
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback, EarlyStopping

from nuclass_pipeline.runtime import PROGRESS_S, log_progress

MONITOR = "val_macro_f1"


@dataclass
class FitResult:
    """Result of a training.

    Attributes
    ----------
    epoch
        Epoch of the best weights.
    score
        Their macro-F1 on the validation cells.
    history
        One row per validation: epoch, optimiser step, losses, scores and the highest learning rate.
    """

    epoch: int
    score: float
    history: pd.DataFrame


@dataclass
class History(Callback):
    """One row per validation, kept across interruptions, and the progress of the training in the log."""

    rows: list[dict[str, float]] = field(default_factory=list)
    batches: int = 0
    shown: float = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log where the training starts; Lightning calls this."""
        self._log(trainer, "begins")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the progress within a long epoch; Lightning calls this."""
        self.batches = batch_idx + 1
        if time.monotonic() >= self.shown + PROGRESS_S:
            self._log(trainer, f"train loss {float(pl_module.train_loss.compute()):.3f}")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count batches from the first; Lightning calls this."""
        self.batches = 0

    def _log(self, trainer: L.Trainer, text: str, more: str = "") -> None:
        epochs, batches = int(trainer.max_epochs or 1), int(trainer.num_training_batches)
        if self.rows:
            text += f", val macro-F1 {self.rows[-1][MONITOR]:.3f}, best {max(row[MONITOR] for row in self.rows):.3f}"
        more = f" (batch {self.batches} of {batches})" if 0 < self.batches < batches else more
        share = (trainer.current_epoch + self.batches / batches) / epochs
        log_progress(share, f"epoch {trainer.current_epoch + 1} of {epochs}: {text}{more}")
        self.shown = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row; Lightning calls this."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        # The highest, because the rates of an encoder's blocks differ by layer.
        lr = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **values, "lr": lr}
        self.rows.append(row)
        self._log(trainer, f"train loss {row['train_loss']:.3f}", f", val loss {row['val_loss']:.3f}")

    def state_dict(self) -> dict[str, Any]:
        """Return the rows for a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint."""
        self.rows = state_dict["rows"]

    def best(self) -> FitResult:
        """Return the first validation with the highest macro-F1."""
        frame = pd.DataFrame(self.rows)
        top = frame.iloc[int(frame[MONITOR].to_numpy().argmax())]
        columns = ["epoch", "step", "train_loss", "val_loss", MONITOR, "val_accuracy", "lr"]
        return FitResult(int(top["epoch"]), float(top[MONITOR]), frame[columns])


class Patience(EarlyStopping):
    """Early stopping that ignores validations before epoch `patient_from`, when the encoder is still frozen."""

    def __init__(self, patience: int, patient_from: int) -> None:
        super().__init__(MONITOR, patience=patience, mode="max", check_on_train_epoch_end=False)
        self.patient_from = patient_from

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validation; Lightning calls this."""
        # Not from the start as in the public reference, because a training could then end before the encoder is trained.
        if trainer.current_epoch >= self.patient_from:
            super().on_validation_end(trainer, pl_module)
