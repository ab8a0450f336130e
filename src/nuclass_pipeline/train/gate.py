"""Train the gate on what the frozen paths said about cells they were not trained on (arXiv 2511.13586)."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.gate import Gate, mix
from nuclass_pipeline.train.dataset import join_cells
from nuclass_pipeline.train.engine import FitSettings, TrainingTask, fit_model, save_best
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.losses import gate_loss
from nuclass_pipeline.train.optim import ParamGroup


class PathOutputs(NamedTuple):
    """What both paths say about cells: features (B, ·), probabilities (B, C), and the label (B,)."""

    local_feature: Tensor
    global_feature: Tensor
    local_p: Tensor
    global_p: Tensor
    label: Tensor


class PathOutputsDataset(Dataset[PathOutputs]):
    """Opinions in memory, given out as whole batches."""

    def __init__(self, opinions: PathOutputs) -> None:
        self.opinions = opinions

    def __len__(self) -> int:
        return len(self.opinions.label)

    def __getitems__(self, indices: Sequence[int]) -> PathOutputs:
        """Return a whole batch."""
        return PathOutputs(*(tensor[list(indices)] for tensor in self.opinions))


class GateTask(TrainingTask):
    """The gate in training; checks score the mixture."""

    model: Gate

    def __init__(self, model: Gate, classes: int, config: GateConfig, seed: int) -> None:
        super().__init__(model, classes=classes, optim=config.optim, seed=seed)
        self.config = config

    def rates(self) -> list[ParamGroup]:
        """Train all of the gate at one rate."""
        return [ParamGroup(list(self.model.parameters()), self.config.optim.lr_head)]

    def training_loss(self, batch: PathOutputs) -> Tensor:
        """Return the sum of the gate's four terms."""
        return gate_loss(self.model(*batch[:4]), batch.local_p, batch.global_p, batch.label, self.config).total

    def predict_batch(self, batch: PathOutputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same loss, the mixture, and labels."""
        logit = self.model(*batch[:4])
        loss = gate_loss(logit, batch.local_p, batch.global_p, batch.label, self.config).total
        return loss, mix(torch.sigmoid(logit), batch.local_p, batch.global_p), batch.label


def train_gate(
    *,
    features: Sequence[Path],
    labels: Sequence[Path],
    splits: Sequence[Path],
    config: GateConfig,
    seed: int,
    checkpoint: Path,
    history: Path,
) -> None:
    """Train the gate on part `gate` of the slides and keep the weights with the best macro-F1 of the mixture on part `val`.

    Parameters
    ----------
    features
        Files of `embed_cells`.
    labels, splits
        Labels and splits of the same slides.
    config, seed
        How to train.
    checkpoint, history
        What is written.

    Raises
    ------
    UserError
        If a file is unfit, or a part has no labelled cell.
    """
    torch.manual_seed(seed)
    slides = [FeatureFile.open(path) for path in features]
    taught = slides[0].meta
    if odd := next((slide for slide in slides if slide.meta != taught), None):
        raise UserError(odd.path, "meta", f"made by other models than {slides[0].path}", "Make all features with the same checkpoints.")
    train, validation = (PathOutputsDataset(read_path_outputs(slides, labels, splits, part)) for part in ("gate", "val"))
    model = Gate(taught.dims["local"], taught.dims["global"], config)
    loaders = (make_loader(train, config.optim.batch_size, 0, shuffle_seed=seed), make_loader(validation, config.optim.batch_size, 0))
    with tempfile.TemporaryDirectory() as scratch:
        plan = FitSettings(config.optim, "cpu", "32-true", Path(scratch), "gate")
        best = fit_model(GateTask(model, len(taught.classes), config, seed), *loaders, plan)
    save_best(model, taught.model_copy(update={"kind": "gate", "gate": config, "seed": seed}), best, checkpoint, history)


@dataclass(frozen=True)
class FeatureFile:
    """A file of `embed_cells`: its cells (N,) and the metadata of path global."""

    path: Path
    cells: "pd.Index[str]"
    meta: CheckpointMetadata

    @classmethod
    def open(cls, path: Path) -> "FeatureFile":
        """Read cells and metadata.

        Raises
        ------
        UserError
            If the file is missing or was not written by `embed_cells`.
        """
        try:
            with h5py.File(require(path), "r") as file:
                return cls(path, pd.Index(file["cell_id"].asstr()[:]), CheckpointMetadata.model_validate_json(file.attrs["meta"]))
        except (OSError, KeyError, ValueError) as error:
            raise UserError(path, "file", f"not a file of embed_cells ({error})", "Remove it and run embed_cells again.") from error

    def read(self, rows: NDArray[np.int64]) -> list[Tensor]:
        """Return the four tensors of `Opinions` without the label, at these rows, in float32."""
        with h5py.File(self.path, "r") as file:
            return [torch.from_numpy(file[name][:][rows].astype(np.float32)) for name in PathOutputs._fields[:4]]


def read_path_outputs(slides: Sequence[FeatureFile], labels: Sequence[Path], splits: Sequence[Path], part: str) -> PathOutputs:
    """Read what the paths say about the labelled cells of one part of all slides.

    Raises
    ------
    UserError
        If there is none.
    """
    classes = slides[0].meta.classes
    columns = []
    for slide, label_file, split_file in zip(slides, labels, splits, strict=True):
        cells = join_cells(label_file, split_file, [part], classes)
        rows = slide.cells.get_indexer(pd.Index(cells["cell_id"]))
        label = torch.from_numpy(pd.Index(list(classes)).get_indexer(pd.Index(cells["label"]))).long()
        columns.append([*slide.read(rows[rows >= 0]), label[torch.from_numpy(rows >= 0)]])
    opinions = PathOutputs(*(torch.cat(tensors) for tensors in zip(*columns, strict=True)))
    if not len(opinions.label):
        raise UserError(splits[0], "part", f"no labelled cell in part {part}", "Check the labels and the split.")
    return opinions
