"""Torch datasets over patch and feature files: what is decoded once stays in memory, the rest is read batch by batch."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, require
from nuclass_pipeline.schemas import LABELS, SPLIT

logger = logging.getLogger(__name__)

CHUNK_CACHE = {"rdcc_nbytes": 256 * 2**20, "rdcc_nslots": 130_003}


class CellBatch(NamedTuple):
    """Crops (B, 3, S, S) uint8; contexts alike, or features (B, D) float32, or None; organ, label (−1: no class) and cell, each (B,)."""

    image: Tensor
    context: Tensor | None
    organ: Tensor
    label: Tensor
    cell: Tensor


@dataclass(frozen=True)
class SlideFiles:
    """The files of one slide; `context` holds windows or the features of a frozen encoder."""

    patches: Path
    labels: Path
    split: Path
    organ: str
    context: Path | None = None


@dataclass
class CacheBudget:
    """Bytes still free for decoded patches."""

    free: float

    @classmethod
    def of_gb(cls, gb: float) -> "CacheBudget":
        """Start with this many GB."""
        return cls(gb * 1e9)

    def take_rows(self, rows: int, row_bytes: int) -> int:
        """Reserve as many of `rows` as fit, and return their number."""
        fitting = min(rows, int(self.free // row_bytes))
        self.free -= fitting * row_bytes
        return fitting


def resize(images: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize images (N, S, S, 3) to (N, side_px, side_px, 3), bilinear with antialiasing: the one resize of the package."""
    if images.shape[1] == side_px:
        return images
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    smaller = interpolate(planes, size=(side_px, side_px), mode="bilinear", antialias=True)
    return smaller.permute(0, 2, 3, 1).contiguous().numpy()


class PatchReader:
    """Images, resized to `side_px`, or features of chosen rows of one file; as many as `memory` allows are kept.

    Parameters
    ----------
    path
        HDF5 file with `images` or `feature`.
    rows
        Rows of the file (N,), in any order.
    side_px
        Side of the images given out.
    memory
        Budget shared with other files.
    """

    def __init__(self, path: Path, rows: NDArray[np.int64], side_px: int, memory: CacheBudget) -> None:
        self.path, self.rows, self.side_px = path, rows, side_px
        self._values: h5py.Dataset | None = None
        self._source: h5py.Dataset | None = None
        self._owner = -1
        with h5py.File(path, "r") as file:
            self._name = "images" if "images" in file else "feature"
            shape = (side_px, side_px, 3) if self._name == "images" else file["feature"].shape[1:]
            dtype = file[self._name].dtype
        self._empty = np.empty((0, *shape), dtype)
        kept = memory.take_rows(len(rows), int(np.prod(shape)) * dtype.itemsize)
        self._cache = self._read(np.arange(kept))
        self.close()

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """Return images (B, 3, S, S) uint8 or features (B, D) float32 at these positions of `rows`."""
        kept = len(self._cache)
        if len(positions) and positions.max() < kept:
            values = self._cache[positions]
        else:
            values = np.empty((len(positions), *self._empty.shape[1:]), self._empty.dtype)
            inside = positions < kept
            values[inside] = self._cache[positions[inside]]
            values[~inside] = self._read(positions[~inside])
        tensor = torch.from_numpy(values)
        return tensor.permute(0, 3, 1, 2) if self._name == "images" else tensor.float()

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._values, self._source = None, None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None, "_source": None}

    def _open(self) -> h5py.Dataset:
        # A handle inherited by a loader process shares its file position with the parent's.
        if self._values is None or self._owner != os.getpid():
            self._values, self._owner = h5py.File(self.path, "r")[self._name], os.getpid()
            self._source = open_source(self._values, self.path)
        return self._values

    def _read(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        values = np.empty((len(positions), *self._empty.shape[1:]), self._empty.dtype)
        if not len(positions):
            return values
        source = self._open()
        for place in np.argsort(self.rows[positions], kind="stable"):
            row = source[int(self.rows[positions[place]])]
            values[place] = resize(row[None], self.side_px)[0] if self._name == "images" else row
        return values


def open_source(values: h5py.Dataset, path: Path) -> h5py.Dataset | None:
    """Open the image that virtual windows point into, with a cache for its decoded chunks.

    HDF5 shares the chunks of a dataset that is open twice in a process, so windows are then cut from decoded chunks: on a compressed image
    a 1024² window takes 0.7 ms instead of 9.

    Raises
    ------
    UserError
        If the image is not where the windows say: HDF5 itself would give empty windows.
    """
    layout = values.id.get_create_plist()
    if not values.is_virtual or not layout.get_virtual_count():
        return None
    source = path.parent / layout.get_virtual_filename(0)
    if not source.is_file():
        raise UserError(path, "images", f"its windows point into {source}, which does not exist", "Put it back, or make the patches again.")
    return h5py.File(source, "r", **CHUNK_CACHE)[layout.get_virtual_dsetname(0)]


class CellDataset(Dataset[CellBatch]):
    """The cells of chosen parts of several slides.

    Parameters
    ----------
    slides
        Their files; cell ids are only unique within a slide.
    parts
        Parts of the split to take.
    classes
        Names of the label indices.
    organs
        Names of the organ indices.
    image_px, context_px
        Sides to which crops and contexts are resized.
    memory
        Budget for decoded patches.
    labelled
        Take only cells whose label is in `classes`; otherwise all, with label −1 for the rest.

    Raises
    ------
    UserError
        If a slide's organ is unknown, a file is unfit, or no cell is left.
    """

    def __init__(
        self,
        slides: Sequence[SlideFiles],
        *,
        parts: Sequence[str],
        classes: Sequence[str],
        organs: Sequence[str],
        image_px: int,
        memory: CacheBudget,
        context_px: int = 0,
        labelled: bool = True,
    ) -> None:
        tables = [_located_cells(slide, parts, classes if labelled else None) for slide in slides]
        for slide in slides:
            if slide.organ not in organs:
                raise UserError(slide.patches, "organ", f"{slide.organ!r} is unknown to the model", f"It knows {', '.join(organs)}.")
        self.cells = pd.concat([table.assign(slide=number) for number, table in enumerate(tables)], ignore_index=True)
        if self.cells.empty:
            raise UserError(
                slides[0].split, "part", f"no cell to use in {', '.join(parts)}", "Check the labels, the split and the patch files."
            )
        self.labels = pd.Index(list(classes)).get_indexer(pd.Index(self.cells["label"]))
        self.organs = np.array([list(organs).index(slide.organ) for slide in slides])[self.cells["slide"].to_numpy()]
        self._slide = self.cells["slide"].to_numpy()
        self._position = self.cells.groupby("slide").cumcount().to_numpy()
        # Contexts first: kept features are worth most per byte.
        self._contexts = [
            PatchReader(s.context, t["context_row"].to_numpy(), context_px, memory)
            for s, t in zip(slides, tables, strict=True)
            if s.context is not None
        ]
        self._images = [PatchReader(s.patches, t["row"].to_numpy(), image_px, memory) for s, t in zip(slides, tables, strict=True)]

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: int) -> CellBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> CellBatch:
        """Return a whole batch."""
        index = np.asarray(indices, dtype=np.int64)
        context = self._gather(self._contexts, index) if self._contexts else None
        organ, label = (torch.from_numpy(values[index]).long() for values in (self.organs, self.labels))
        return CellBatch(self._gather(self._images, index), context, organ, label, torch.from_numpy(index))

    def counts(self, classes: int) -> Tensor:
        """Return the number of cells of each class (classes,)."""
        return torch.bincount(torch.from_numpy(self.labels), minlength=classes)

    def fingerprint(self) -> str:
        """Hash what the data set holds: slides, cells, labels and their order."""
        joined = "\n".join(
            f"{slide}\t{cell}\t{label}" for slide, cell, label in zip(self._slide, self.cells["cell_id"], self.labels, strict=True)
        )
        return hashlib.sha256(joined.encode()).hexdigest()

    def _gather(self, sources: list[PatchReader], index: NDArray[np.int64]) -> Tensor:
        slides = self._slide[index]
        present = np.unique(slides).tolist()
        order = np.concatenate([np.flatnonzero(slides == slide) for slide in present])
        parts = [sources[slide].read(self._position[index[slides == slide]]) for slide in present]
        joined: Tensor = torch.cat(parts)[torch.from_numpy(np.argsort(order))]
        return joined


def join_cells(labels: Path, split: Path, parts: Sequence[str], classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Return `cell_id, label, part, block` of the cells in `parts`, with a label in `classes` if given."""
    cells = read_table(split, SPLIT).merge(read_table(labels, LABELS, ["cell_id", "label"]), on="cell_id", validate="one_to_one")
    chosen = cells["part"].isin(parts)
    if classes is not None:
        chosen &= cells["label"].isin(list(classes))
    return cells[chosen].reset_index(drop=True)


def read_ids(path: Path) -> NDArray[np.object_]:
    """Return the cell ids of a patch or feature file (N,).

    Raises
    ------
    UserError
        If the file is missing, broken, or has neither `images` with `keys` nor `feature` with `cell_id`.
    """
    try:
        with h5py.File(require(path), "r") as file:
            for values, ids in (("images", "keys"), ("feature", "cell_id")):
                if values in file and ids in file:
                    names: NDArray[np.object_] = file[ids].asstr()[:]
                    return names
            found = ", ".join(list(file)[:5])
    except OSError as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({error})", "Copy or make the file again.") from error
    raise UserError(path, "images", f"neither patches nor features; found {found}", "See docs/data.md for patch files.")


def _located_cells(slide: SlideFiles, parts: Sequence[str], classes: Sequence[str] | None) -> pd.DataFrame:
    cells = join_cells(slide.labels, slide.split, parts, classes)
    cells["row"] = pd.Index(read_ids(slide.patches)).get_indexer(pd.Index(cells["cell_id"]))
    cells["context_row"] = 0 if slide.context is None else pd.Index(read_ids(slide.context)).get_indexer(pd.Index(cells["cell_id"]))
    located = cells[(cells["row"] >= 0) & (cells["context_row"] >= 0)]
    if len(located) < len(cells):
        logger.warning("%s: %d of %d cells have no patch and are left out", slide.patches, len(cells) - len(located), len(cells))
    return located.sort_values("row", ignore_index=True)
