"""Outputs of the frozen paths, which gates are trained on and run on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, damaged_h5, first_line, open_h5
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.neighbors import Places
from nuclass_pipeline.train.dataset import join_cells

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

    def read(self, rows: Integers, names: Sequence[str] = PathOutputs._fields[:4]) -> list[Tensor]:
        """Return features and probabilities of `PathOutputs` at these rows (B,), in float32; all four, or those named.

        Raises
        ------
        UserError
            If the file is damaged in the middle, or its values are not those of the models that it names.
        """
        try:
            with open_h5(self.path) as file:
                # Whole datasets first, because HDF5 selects scattered rows slowly and only in increasing order.
                found = {name: file[name][:].astype(np.float32) for name in names}
        except (OSError, KeyError) as error:
            raise damaged_h5(self.path, error) from error
        for name, values in found.items():
            if problem := self._problem(name, values):
                raise UserError(self.path, name, problem, "Remove the file and run again.")
        return [torch.from_numpy(values[rows]) for values in found.values()]

    def read_places(self) -> Places:
        """Return where its cells are.

        Raises
        ------
        UserError
            If the file lacks the places, as one of an earlier version does, or is damaged, or they are not those of its cells.
        """
        try:
            with open_h5(self.path) as file:
                if missing := [name for name in Places._fields if name not in file]:
                    problem = "the dataset is missing, and the gate of kind neighbors needs it"
                    raise UserError(self.path, missing[0], problem, "Remove the file and run again.")
                places = Places(file["xy_um"][:].astype(np.float64), file["image"][:].astype(np.int64))
        except (OSError, KeyError) as error:
            raise damaged_h5(self.path, error) from error
        for name, values, shape in zip(Places._fields, places, ((len(self.cells), 2), (len(self.cells),)), strict=True):
            if values.shape != shape:
                raise UserError(self.path, name, f"has the shape {values.shape}, not {shape}", "Remove the file and run again.")
            if not np.isfinite(values).all():
                raise UserError(self.path, name, "a value is not finite", "Remove the file and run again.")
        return places

    def labeled_rows(self, labels: Path, split: Path, subset: str) -> tuple[Integers, Integers]:
        """Return the rows (B,) of the labelled cells of a subset, and their class indices (B,)."""
        cells = join_cells(labels, split, [subset], self.meta.classes)
        rows = self.cells.get_indexer(pd.Index(cells["cell_id"]))
        label = pd.Index(list(self.meta.classes)).get_indexer(pd.Index(cells["label"]))
        return rows[rows >= 0], label[rows >= 0]

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
    columns = []
    for slide, label_file, split_file in zip(slides, labels, splits, strict=True):
        rows, label = slide.labeled_rows(label_file, split_file, subset)
        columns.append([*slide.read(rows), torch.from_numpy(label).long()])
    outputs = PathOutputs(*(torch.cat(tensors) for tensors in zip(*columns, strict=True)))
    if not len(outputs.label):
        raise no_labeled_cell(splits[0], subset)
    return outputs


def no_labeled_cell(split: Path, subset: str) -> UserError:
    """Return the error for a subset without a labelled cell in any slide."""
    return UserError(split, "subset", f"no labelled cell in subset {subset}", f"Check the labels, or raise split.fractions.{subset}.")
