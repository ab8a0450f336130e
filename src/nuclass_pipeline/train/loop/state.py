"""The state of a training on the disk: what an interrupted one resumes from, and the best weights of the same timeline."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader

from nuclass_pipeline.io import whole_file
from nuclass_pipeline.train.history import MONITOR
from nuclass_pipeline.train.loaders import EpochShuffle

LAST = "last.ckpt"


class TrainingState(Checkpoint):
    """Saves the state at the end of each epoch and every few minutes, and the weights of each validation that is the best so far.

    Best weights stay until a state is saved that names others. So the state on the disk always finds its own, and those of a future that
    is done again are never used.

    Parameters
    ----------
    folder
        Where the files are written.
    minutes
        Time between two states within an epoch; 0 saves one after each step.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder, self.seconds = folder, 60 * minutes
        self.epoch, self.batches, self.validations, self.stopped = 0, 0, 0, False
        self.best, self.score = "", float("-inf")
        self._saved = time.monotonic()

    @property
    def best_path(self) -> Path:
        """File of the best weights."""
        return self.folder / self.best

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save the state within an epoch; Lightning calls this."""
        done = batch_idx + 1
        stepped = done % trainer.accumulate_grad_batches == 0
        # Not before a validation or the end of an epoch, because a training that is resumed there would leave them out.
        due = done % int(trainer.val_check_batch or 1) == 0 or done == trainer.num_training_batches
        late = stepped and not due and time.monotonic() >= self._saved + self.seconds
        # By the clock of any process, because all of them take part in saving.
        if stepped and not due and trainer.strategy.reduce_boolean_decision(late, all=False):
            self._save(trainer, trainer.current_epoch, done)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save weights that are better than all before; Lightning calls this."""
        score = float(trainer.callback_metrics[MONITOR])
        self.validations += 1
        if score > self.score:
            self.best, self.score = f"best-{self.validations}.ckpt", score
            _write(trainer, self.best_path, weights_only=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state at the end of an epoch; Lightning calls this."""
        self.stopped = trainer.should_stop
        self._save(trainer, trainer.current_epoch + 1, 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close a training at once whose patience had run out when it was interrupted; Lightning calls this."""
        trainer.should_stop = trainer.should_stop or self.stopped

    def _save(self, trainer: L.Trainer, epoch: int, batches: int) -> None:
        self.epoch, self.batches = epoch, batches
        _write(trainer, self.folder / LAST)
        for old in self.folder.glob("best-*.ckpt") if trainer.is_global_zero else ():
            if old.name != self.best:
                old.unlink()
        self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to know; Lightning saves it."""
        return {name: getattr(self, name) for name in ("epoch", "batches", "validations", "stopped", "best", "score")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of an interrupted training; Lightning calls this."""
        vars(self).update(state_dict)


def _write(trainer: L.Trainer, path: Path, *, weights_only: bool = False) -> None:
    # Called in all processes, because their generators are saved; the first one writes.
    with whole_file(path) if trainer.is_global_zero else nullcontext(path) as partial:
        trainer.save_checkpoint(partial, weights_only=weights_only)


def skip_done(loader: DataLoader[Any], state: Path) -> None:
    """Start a loader after the last batch that a state has seen."""
    # Without reading the weights, which take gigabytes.
    done = torch.load(state, mmap=True, map_location="cpu", weights_only=True)["callbacks"][TrainingState.__qualname__]
    if isinstance(loader.sampler, EpochShuffle):
        loader.sampler.start(done["epoch"], done["batches"] * int(loader.batch_size or 1))
