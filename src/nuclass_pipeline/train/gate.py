"""Train the gate on the outputs of the frozen paths for cells that they were not trained on (arXiv 2511.13586)."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, damaged_h5, first_line, open_h5
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.gate import Gate, mix
from nuclass_pipeline.train.dataset import join_cells
from nuclass_pipeline.train.engine import FitSettings, TrainingTask, fit_model, save_best
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.losses import gate_loss
from nuclass_pipeline.train.optim import ParamGroup

# Far above the rounding of a softmax in float32.
MAX_SUM_ERROR = 1e-3
"""How far the probabilities of a cell may sum from 1."""


class PathOutputs(NamedTuple):
    """Outputs of both paths for B cells.

    Attributes
    ----------
    local_feature
        (B, dim) feature of the local path, after FiLM.
    global_feature
        (B, 2 · projection) feature `[û; ĉ]` of the global path.
    local_p, global_p
        (B, C) probabilities.
    label
        (B,) class indices.
    """

    local_feature: Tensor
    global_feature: Tensor
    local_p: Tensor
    global_p: Tensor
    label: Tensor


class PathOutputsDataset(Dataset[PathOutputs]):
    """Outputs of both paths in memory, in whole batches."""

    def __init__(self, outputs: PathOutputs) -> None:
        self.outputs = outputs

    def __len__(self) -> int:
        return len(self.outputs.label)

    def __getitems__(self, indices: Sequence[int]) -> PathOutputs:
        """Return a whole batch."""
        return PathOutputs(*(tensor[list(indices)] for tensor in self.outputs))


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
    """Train the gate on the subset `gate` of the slides and keep the weights with the best macro-F1 of the mixture on `val`.

    Parameters
    ----------
    features
        Files of `embed_cells`, one per slide.
    labels, splits
        Tables of labels and of the split of the same slides.
    config
        Sizes of the gate, its optimiser and the terms of its loss.
    seed
        Seed of the first weights, dropout and the order of cells.
    checkpoint, history
        Checkpoint with the best weights, and the table of validations.

    Raises
    ------
    UserError
        If a file is missing or broken, the files come from different checkpoints, or a subset has no labelled cell.
    """
    torch.manual_seed(seed)
    slides = [FeatureFile.open(path) for path in features]
    meta = slides[0].meta
    if odd := next((slide for slide in slides if slide.meta != meta), None):
        problem = f"the features come from other checkpoints than {slides[0].path}"
        raise UserError(odd.path, "meta", problem, "Remove both files and run again.")
    train, validation = (PathOutputsDataset(read_path_outputs(slides, labels, splits, subset)) for subset in ("gate", "val"))
    model = Gate(meta.dims["local"], meta.dims["global"], config)
    loaders = (make_loader(train, config.optim.batch_size, 0, shuffle_seed=seed), make_loader(validation, config.optim.batch_size, 0))
    # On the CPU and without a state to resume, because training on cached outputs takes seconds.
    with tempfile.TemporaryDirectory() as scratch:
        settings = FitSettings(config.optim, "cpu", "32-true", Path(scratch), "gate")
        result = fit_model(GateTask(model, len(meta.classes), config, seed), *loaders, settings)
    save_best(model, meta.model_copy(update={"kind": "gate", "gate": config, "seed": seed}), result, checkpoint, history)


@dataclass(frozen=True)
class FeatureFile:
    """A file of `embed_cells`.

    Attributes
    ----------
    path
        The file.
    cells
        (N,) cell ids, in the order of its rows.
    meta
        Metadata of the global path.
    """

    path: Path
    cells: "pd.Index[str]"
    meta: CheckpointMetadata

    @classmethod
    def open(cls, path: Path) -> "FeatureFile":
        """Read cells and metadata.

        Raises
        ------
        UserError
            If the file is missing, broken, lacks a dataset or was not written by `embed_cells`.
        """
        try:
            with open_h5(path) as file:
                found = cls(path, pd.Index(file["cell_id"].asstr()[:]), CheckpointMetadata.model_validate_json(file.attrs["meta"]))
                if missing := [name for name in PathOutputs._fields[:4] if name not in file]:
                    raise UserError(path, missing[0], "the dataset is missing", "Remove the file and run again.")
                if list(file.attrs.get("classes", found.meta.classes)) != list(found.meta.classes):
                    raise UserError(path, "classes", "the attribute differs from that in meta", "Remove the file and run again.")
                return found
        except READ_ERRORS as error:
            raise UserError(path, "file", f"not a file of embed_cells ({first_line(error)})", "Remove it and run again.") from error

    def read(self, rows: Integers) -> list[Tensor]:
        """Return the features and probabilities of `PathOutputs` at these rows (B,), in float32.

        Raises
        ------
        UserError
            If the file is damaged in the middle, or its values are not those of the models that it names.
        """
        try:
            with open_h5(self.path) as file:
                # Whole datasets first, because HDF5 selects scattered rows slowly and only in increasing order.
                found = {name: file[name][:].astype(np.float32) for name in PathOutputs._fields[:4]}
        except (OSError, KeyError) as error:
            raise damaged_h5(self.path, error) from error
        for name, values in found.items():
            if problem := self._problem(name, values):
                raise UserError(self.path, name, problem, "Remove the file and run again.")
        return [torch.from_numpy(values[rows]) for values in found.values()]

    def _problem(self, name: str, values: NDArray[np.float32]) -> str | None:
        """Return what is wrong with a dataset, or None."""
        path, kind = name.split("_")
        columns = len(self.meta.classes) if kind == "p" else self.meta.dims[path]
        if values.shape != (len(self.cells), columns):
            return f"has the shape {values.shape}, not {(len(self.cells), columns)}, as the cells and the models need"
        if not np.isfinite(values).all():
            return "a value is not finite"
        if kind == "p" and len(values) and np.abs(values.sum(axis=1) - 1).max() > MAX_SUM_ERROR:
            return "the probabilities of a cell do not sum to 1"
        return None


def read_path_outputs(slides: Sequence[FeatureFile], labels: Sequence[Path], splits: Sequence[Path], subset: str) -> PathOutputs:
    """Read the outputs of both paths for the labelled cells of one subset of all slides.

    Raises
    ------
    UserError
        If there is no such cell.
    """
    classes = slides[0].meta.classes
    columns = []
    for slide, label_file, split_file in zip(slides, labels, splits, strict=True):
        cells = join_cells(label_file, split_file, [subset], classes)
        rows = slide.cells.get_indexer(pd.Index(cells["cell_id"]))
        label = torch.from_numpy(pd.Index(list(classes)).get_indexer(pd.Index(cells["label"]))).long()
        columns.append([*slide.read(rows[rows >= 0]), label[torch.from_numpy(rows >= 0)]])
    outputs = PathOutputs(*(torch.cat(tensors) for tensors in zip(*columns, strict=True)))
    if not len(outputs.label):
        raise UserError(
            splits[0], "subset", f"no labelled cell in subset {subset}", f"Check the labels, or raise split.fractions.{subset}."
        )
    return outputs
