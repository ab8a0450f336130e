"""Speed and memory of a training: in the log, and beside the scores in tables and curves."""

import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

logger = logging.getLogger(__name__)

GB = 1e9


class Throughput(Callback):
    """Cells per second of each epoch without its validations, and the largest memory so far."""

    def __init__(self) -> None:
        self.cells, self.seconds, self._begun = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the beginning; Lightning calls this."""
        self.cells, self.seconds = 0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; Lightning calls this."""
        self._begun = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the cells of a batch; Lightning calls this."""
        now = time.perf_counter()
        cells = trainer.world_size * len(batch.label)
        self.cells, self.seconds, self._begun = self.cells + cells, self.seconds + now - self._begun, now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop the time of a validation; Lightning calls this."""
        self._begun = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch; Lightning calls this."""
        found = {"cells_per_s": self.cells / max(self.seconds, 1e-9)} | peak_memory()
        text = ", ".join([f"{found['cells_per_s']:,.0f} cells/s", *(f"{name} {value:.1f}" for name, value in list(found.items())[1:])])
        logger.info("epoch %d: %s", trainer.current_epoch + 1, text)
        for curves in trainer.loggers:
            curves.log_metrics(found, trainer.global_step)
        self._begun = time.perf_counter()


def peak_memory() -> dict[str, float]:
    """Return the largest memory of this process so far, without its loader processes, and of the GPU if it is used, GB."""
    found = {}
    status = Path("/proc/self/status")
    # Linux's own mark, because that of getrusage is inherited from the process that started this one.
    if status.exists() and (mark := [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]):
        found["peak_gb"] = int(mark[0].split()[1]) * 1024 / GB
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        found["gpu_peak_gb"] = torch.cuda.max_memory_allocated() / GB
    return found


def open_curves(folder: Path | None) -> list[Logger]:
    """Return loggers that write below `folder`, each start of a training in a folder of its own; TensorBoard's where it is installed."""
    if folder is None:
        return []
    # After the last one, because an earlier one may have been removed.
    numbers = [int(path.name.removeprefix("start-")) for path in folder.glob("start-*") if path.name.removeprefix("start-").isdigit()]
    start = f"start-{1 + max(numbers, default=0)}"
    names = ("tensorboard", "tensorboardX")
    boards = [TensorBoardLogger(folder, name="", version=start)] if any(map(importlib.util.find_spec, names)) else []
    return [CSVLogger(folder, name="", version=start), *boards]
