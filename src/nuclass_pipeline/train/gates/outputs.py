"""Outputs of the frozen paths, which gates are trained on and run on."""

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

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, damaged_h5, find_rows, first_line, open_h5, read_id_index
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.neighbors import Places
from nuclass_pipeline.train.dataset import join_cells

# Far above the rounding of a softmax in float32.
MAX_SUM_ERROR = 1e-3
"""How far the probabilities of a cell may sum from 1."""
READ_ROWS = 4096
"""Rows of features that are read at once."""


class PathOutputs(NamedTuple):
    """Outputs of both paths for B cells.

    Attributes
    ----------
    local_feature
        (B, feature_dim) feature of the local path, with the organ.
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
                found = cls(path, read_id_index(file["cell_id"]), CheckpointMetadata.model_validate_json(file.attrs["meta"]))
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
        found = {name: np.empty((len(rows), self._columns(name)), np.float32) for name in names}
        with open_h5(self.path) as file:
            # In whole blocks, because HDF5 selects scattered rows slowly and only in increasing order.
            for start in range(0, len(self.cells), READ_ROWS):
                if (inside := (rows >= start) & (rows < start + READ_ROWS)).any():
                    block = slice(int(rows[inside].min()), int(rows[inside].max()) + 1)
                    for name, values in found.items():
                        values[inside] = self._block(file, name, block)[rows[inside] - block.start]
        return [torch.from_numpy(values) for values in found.values()]

    def check(self) -> None:
        """Check all its values.

        Raises
        ------
        UserError
            If the file is damaged in the middle, or its values are not those of the models that it names.
        """
        with open_h5(self.path) as file:
            for start in range(0, len(self.cells), READ_ROWS):
                for name in PathOutputs._fields[:4]:
                    self._block(file, name, slice(start, start + READ_ROWS))

    def _block(self, file: h5py.File, name: str, rows: slice) -> NDArray[np.float32]:
        try:
            values: NDArray[np.float32] = file[name][rows].astype(np.float32)
            shape = file[name].shape
        except (OSError, KeyError) as error:
            raise damaged_h5(self.path, error) from error
        if problem := self._problem(name, shape, values):
            raise UserError(self.path, name, problem, "Remove the file and run again.")
        return values

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
        rows = find_rows(pd.Index(cells["cell_id"]), self.cells.to_series()).astype(np.int64)
        label = pd.Index(list(self.meta.classes)).get_indexer(pd.Index(cells["label"]))
        return rows[rows >= 0], label[rows >= 0]

    def _columns(self, name: str) -> int:
        path, kind = name.split("_")
        return len(self.meta.classes) if kind == "p" else self.meta.feature_dims[path]

    def _problem(self, name: str, shape: tuple[int, ...], values: NDArray[np.float32]) -> str | None:
        """Return what is wrong with a dataset of this shape, or with some of its rows; or None."""
        if shape != (wanted := (len(self.cells), self._columns(name))):
            return f"has the shape {shape}, not {wanted}, as the cells and the models need"
        if not np.isfinite(values).all():
            return "a value is not finite"
        if name.endswith("_p") and len(values) and np.abs(values.sum(axis=1) - 1).max() > MAX_SUM_ERROR:
            return "the probabilities of a cell do not sum to 1"
        return None


class PathOutputsDataset(Dataset[PathOutputs]):
    """Outputs of both paths for the labelled cells of one subset of all slides, read from their files in whole batches.

    Raises
    ------
    UserError
        If there is no such cell, or a file is damaged or not that of its models.
    """

    def __init__(self, slides: Sequence[FeatureFile], labels: Sequence[Path], splits: Sequence[Path], subset: str) -> None:
        files = zip(slides, labels, splits, strict=True)
        located = [slide.labeled_rows(label_file, split_file, subset) for slide, label_file, split_file in files]
        self.rows, self.labels = (np.concatenate(columns) for columns in zip(*located, strict=True))
        self.slide = np.repeat(np.arange(len(slides)), [len(rows) for rows, _ in located])
        if not len(self.rows):
            raise no_labeled_cell(splits[0], subset)
        self.slides, self._files = slides, [open_h5(slide.path) for slide in slides]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> PathOutputs:
        """Return a whole batch."""
        columns = {name: self._read(name, indices) for name in PathOutputs._fields[:4]}
        return PathOutputs(**columns, label=torch.from_numpy(self.labels[list(indices)]).long())

    def _read(self, name: str, indices: Sequence[int]) -> Tensor:
        # Row by row, because HDF5 selects scattered rows slowly, and from the file, because a large study has gigabytes of features.
        rows = (self._files[self.slide[index]][name][int(self.rows[index])] for index in indices)
        return torch.from_numpy(np.stack([*rows]).astype(np.float32))


def no_labeled_cell(split: Path, subset: str) -> UserError:
    """Return the error for a subset without a labelled cell in any slide."""
    return UserError(split, "subset", f"no labelled cell in subset {subset}", f"Check the labels, or raise split.fractions.{subset}.")
