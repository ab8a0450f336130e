"""The cells of several slides as a torch dataset, with their labels and patches."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import IDS_DIGEST, READ_ERRORS, digest_ids, file_state, first_line, open_window_file, read_compact, read_keys
from nuclass_pipeline.models.layers import UNKNOWN
from nuclass_pipeline.schemas import LABELS, SPLIT
from nuclass_pipeline.train.patch_reader import CacheBudget, FeatureReader, PatchReader, open_windows, patch_bytes
from nuclass_pipeline.vocabulary import UNKNOWN_ORGAN

logger = logging.getLogger(__name__)

RUN_CELLS = 64
"""Neighbouring cells whose windows share decoded blocks."""
WHOLE_SHUFFLE_BYTES = 4 * 10**9
"""Decoded patches up to which each epoch is one uniform shuffle; not `compute.cache_gb`, because hardware must not change results."""


class CellBatch(NamedTuple):
    """A batch of B cells.

    Attributes
    ----------
    image
        (B, 3, S, S) crops: uint8 from the loader, values 0–1 on the device; or (B, D) float32 features of a frozen encoder, (B, V, D)
        from the loader of a training with V views.
    context
        (B, 3, S, S) windows, or features likewise; or None.
    organ
        (B,) organ indices; −1 for the unknown organ.
    label
        (B,) class indices; −1 for a label that is not a class of the model.
    cell
        (B,) rows of `CellDataset.cells`.
    """

    image: Tensor
    context: Tensor | None
    organ: Tensor
    label: Tensor
    cell: Tensor


@dataclass(frozen=True)
class SlideFiles:
    """The files of one slide.

    Attributes
    ----------
    patches
        Local crops, or the features of a frozen encoder (HDF5).
    labels
        Table of labels.
    split
        Table of the split.
    organ
        Organ of the slide.
    context
        Context windows, or the features of a frozen context encoder (HDF5); None where the model needs no context.
    """

    patches: Path
    labels: Path
    split: Path
    organ: str
    context: Path | None = None


class CellDataset(Dataset[CellBatch]):
    """The cells of chosen subsets of several slides.

    Parameters
    ----------
    slides
        Their files; cell ids are only unique within a slide.
    subsets
        Subsets of the split to take.
    classes
        Names of the label indices.
    organs
        Names of the organ indices.
    image_px, context_px
        Sides to which crops and contexts are resized, px.
    memory
        Budget for decoded patches.
    labelled
        Take only cells whose label is in `classes`; otherwise all, with label −1 for the rest.
    all_views
        Return the features of all views of a window, where there are several; otherwise those of the window as it is.

    Attributes
    ----------
    cells
        Table of the N cells: `cell_id`, `label`, `subset`, the rows of their patches, and `slide`, the number of the slide.
    patch_bytes
        Memory of all patches that are cut from images when they are decoded, bytes.
    labels, organs
        (N,) class indices, −1 for a label that is not in `classes`, and organ indices, −1 for the unknown organ.

    Raises
    ------
    UserError
        If a slide's organ is unknown, a file is missing or broken, or no cell is left.
    """

    def __init__(
        self,
        slides: Sequence[SlideFiles],
        *,
        subsets: Sequence[str],
        classes: Sequence[str],
        organs: Sequence[str],
        image_px: int,
        memory: CacheBudget,
        context_px: int = 0,
        labelled: bool = True,
        all_views: bool = False,
    ) -> None:
        tables = [_located_cells(slide, subsets, classes if labelled else None) for slide in slides]
        for slide in slides:
            if slide.organ not in (*organs, UNKNOWN_ORGAN):
                remedy = f"Set the organ of the slide to one of {', '.join(organs)}."
                raise UserError(slide.patches, "organ", f"{slide.organ!r} is not an organ of the model", remedy)
        counts = [len(table) for table in tables]
        # Categories again, because those of the slides differ.
        self.cells = pd.concat(tables, ignore_index=True).astype({"label": "category", "subset": "category"})
        self.cells["slide"] = np.repeat(np.arange(len(slides), dtype=np.int16), counts)
        if self.cells.empty:
            remedy = "Check that the labels, the split and the patch files are of the same slide."
            raise UserError(slides[0].split, "subset", f"no usable cell in subset {', '.join(subsets)}", remedy)
        codes = pd.Index(list(classes)).get_indexer(self.cells["label"].cat.categories).astype(np.int16)
        # Returned to the system, because Arrow keeps what the tables took, four times as much as the cells.
        pa.default_memory_pool().release_unused()
        self.labels = codes[self.cells["label"].cat.codes]
        indices = [UNKNOWN if slide.organ == UNKNOWN_ORGAN else list(organs).index(slide.organ) for slide in slides]
        self.organs = np.array(indices, np.int16)[self.cells["slide"].to_numpy()]
        self._slide = self.cells["slide"].to_numpy()
        self._position = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        pairs = zip(slides, counts, strict=True)
        self.patch_bytes = sum(
            n * patch_bytes(path, px) for s, n in pairs for path, px in ((s.context, context_px), (s.patches, image_px)) if path
        )
        memory.take_blocks(self.patch_bytes)
        # Contexts first, because each of their bytes in memory saves more reading than a byte of a crop.
        self._contexts = [
            open_windows(s.context, t["context_row"].to_numpy(np.int32), context_px, memory, all_views=all_views)
            for s, t in zip(slides, tables, strict=True)
            if s.context is not None
        ]
        self._images = [
            open_windows(s.patches, t["row"].to_numpy(np.int32), image_px, memory, all_views=all_views)
            for s, t in zip(slides, tables, strict=True)
        ]
        # Dropped, because they are those of the last patches that were kept, and loader processes would start with them.
        memory.blocks.clear()

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

    def runs(self) -> list[Integers] | None:
        """Return the indices of all cells in runs of `RUN_CELLS` neighbours, or None where reading them in runs saves nothing.

        It saves decoding where patches are windows of images and take more than `WHOLE_SHUFFLE_BYTES`, so that few machines keep them.
        """
        readers = [reader for reader in self._contexts or self._images if isinstance(reader, PatchReader)]
        readers = readers or [reader for reader in self._images if isinstance(reader, PatchReader)]
        orders = [order for reader in readers if (order := reader.tile_order()) is not None]
        if self.patch_bytes <= WHOLE_SHUFFLE_BYTES or len(orders) < len(self._images):
            return None
        counts = np.bincount(self._slide, minlength=len(orders))
        starts = np.cumsum(counts) - counts
        cut = (np.split(start + order, range(RUN_CELLS, len(order), RUN_CELLS)) for start, order in zip(starts, orders, strict=True))
        return [run for parts in cut for run in parts if len(run)]

    def counts(self, classes: int) -> Tensor:
        """Return the number of cells of each class (classes,)."""
        return torch.bincount(torch.from_numpy(self.labels), minlength=classes)

    def fingerprint(self) -> str:
        """Return a hash of the slides, cells, labels and organs, of their order, and of the state of the files of windows or features."""
        rows = zip(self._slide, self.cells["cell_id"], self.labels, self.organs, strict=True)
        joined = "\n".join(f"{slide}\t{cell}\t{label}\t{organ}" for slide, cell, label, organ in rows)
        # By time too, because pixels that are made again may differ in content alone.
        states = [file_state(*reader.holders) for reader in (*self._contexts, *self._images)]
        return hashlib.sha256("\n".join([joined, *states]).encode()).hexdigest()

    def _gather(self, readers: list[FeatureReader | PatchReader], index: Integers) -> Tensor:
        slides = self._slide[index]
        present = np.unique(slides).tolist()
        order = np.concatenate([np.flatnonzero(slides == slide) for slide in present])
        blocks = [readers[slide].read(self._position[index[slides == slide]]) for slide in present]
        joined: Tensor = torch.cat(blocks)[torch.from_numpy(np.argsort(order))]
        return joined


def join_cells(labels: Path, split: Path, subsets: Sequence[str], classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Return `cell_id, label, subset` of the cells in `subsets`, with a label in `classes` if given; the index is the row of the split."""
    cells = _with_labels(labels, split)
    chosen = cells["subset"].isin(subsets)
    if classes is not None:
        chosen &= cells["label"].isin(list(classes))
    return cells[chosen]


def _with_labels(labels: Path, split: Path) -> pd.DataFrame:
    cells = read_compact(split, SPLIT, ["cell_id", "subset"])
    labelled = read_compact(labels, LABELS, ["cell_id", "label"])
    # Beside each other where the rows are the same, because a merge takes hundreds of bytes per cell.
    if cells["cell_id"].equals(labelled["cell_id"]):
        cells["label"] = labelled["label"]
    else:
        cells = cells.reset_index().merge(labelled, on="cell_id", validate="one_to_one").set_index("index")
    return cells.astype({"subset": "category", "label": "category"})


def read_ids(path: Path) -> NDArray[np.object_]:
    """Return the cell ids of a patch or feature file (N,).

    Raises
    ------
    UserError
        If the file is missing, broken, or has neither `keys` nor `cell_id`.
    """
    try:
        with open_window_file(path) as file:
            for ids in ("keys", "cell_id"):
                if ids in file:
                    return read_keys(path, file[ids])
            found = ", ".join(list(file)[:5])
    # Around the reading too, because a file that is damaged in the middle can be opened.
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({first_line(error)})", "Remove it and run again.") from error
    remedy = "Compare the file with the patch files of docs/data.md."
    raise UserError(path, "images", f"the file holds neither patches nor features; found {found}", remedy)


def _located_cells(slide: SlideFiles, subsets: Sequence[str], classes: Sequence[str] | None) -> pd.DataFrame:
    cells = join_cells(slide.labels, slide.split, subsets, classes)
    digest = digest_ids(read_compact(slide.split, SPLIT, ["cell_id"])["cell_id"])
    located = cells.reset_index(drop=True)
    for path, column in ((slide.patches, "row"), (slide.context, "context_row")):
        located[column] = np.int32(0) if path is None else _find_rows(path, cells, digest)
        if missing := int((located[column] < 0).sum()):
            logger.warning("%s: %d of %d cells are missing and left out", path, missing, len(cells))
    return located[(located["row"] >= 0) & (located["context_row"] >= 0)].sort_values("row", ignore_index=True)


def _find_rows(path: Path, cells: pd.DataFrame, digest: str) -> NDArray[np.int32]:
    """Return the row of each cell (N,) in a patch or feature file, −1 where it is missing."""
    # By the hash of all ids, because the ids themselves would take most of the memory of a training.
    with open_window_file(path) as file:
        if file.attrs.get(IDS_DIGEST) == digest:
            return cells.index.to_numpy(np.int32)
    return pd.Index(read_ids(path)).get_indexer(pd.Index(cells["cell_id"].astype(object))).astype(np.int32)
