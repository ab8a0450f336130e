"""Frozen networks run once over a slide, and what they say is kept."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.global_ import GlobalClassifier, restore_global
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from nuclass_pipeline.train.cell_task import as_float, feature_dim
from nuclass_pipeline.train.dataset import CacheBudget, CellBatch, CellDataset, PatchReader, SlideFiles, read_ids
from nuclass_pipeline.train.loaders import make_loader

logger = logging.getLogger(__name__)

STAGE_VERSION = 1

EMBEDDED_SUBSETS = ("gate", "val", "heldout")
FEATURE_BATCH = 64
CHUNK_ROWS = 64


class WindowDataset(Dataset[Tensor]):
    """All windows of a file in its order, given out as whole batches (B, 3, side_px, side_px) uint8."""

    def __init__(self, path: Path, rows: int, side_px: int) -> None:
        self.windows, self.rows = PatchReader(path, np.arange(rows), side_px, CacheBudget(0)), rows

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Return a whole batch."""
        return self.windows.read(np.asarray(indices))


class RowsWriter:
    """Datasets of one HDF5 file, filled from the first row on."""

    def __init__(self, file: h5py.File, rows: int) -> None:
        self.file, self.rows, self._next = file, rows, 0

    def append(self, **values: NDArray[Any]) -> None:
        """Add the same number of rows to each dataset, making it at its first rows."""
        count = len(next(iter(values.values())))
        for name, block in values.items():
            if name not in self.file:
                shape = (self.rows, *block.shape[1:])
                self.file.create_dataset(name, shape, block.dtype, chunks=(min(CHUNK_ROWS, self.rows), *shape[1:]))
            self.file[name][self._next : self._next + count] = block
        self._next += count


def embed_context(*, patches: Path, config: BackboneConfig, compute: Compute, device: str, features: Path) -> None:
    """Write the frozen context encoder's vector of every window of a slide.

    Parameters
    ----------
    patches
        File of context windows.
    config
        The encoder.
    compute, device
        Precision and device.
    features
        HDF5 with `cell_id` and `feature` (N, dim) float16, in the order of the windows.

    Raises
    ------
    UserError
        If the patch file is unfit, or the weights are missing.
    """
    ids = read_ids(patches)
    encoder = build_backbone(config).to(device).eval()
    windows = WindowDataset(patches, len(ids), config.image_px)
    with whole_file(features) as partial, h5py.File(partial, "w") as file, running(device, compute):
        write_ids(file, ids)
        file.attrs.update(encoder=config.name, image_px=config.image_px)
        writer = RowsWriter(file, len(ids))
        for images in progress(make_loader(windows, FEATURE_BATCH, compute.workers), features.name):
            writer.append(feature=_half(encoder(as_float(images.to(device)))))


def embed_cells(
    *,
    patches: Path,
    contexts: Path,
    labels: Path,
    split: Path,
    organ: str,
    local: Path,
    global_: Path,
    compute: Compute,
    device: str,
    features: Path,
) -> None:
    """Run both paths, as in use, over every cell that neither trained them nor lies in a guard band.

    Parameters
    ----------
    patches, contexts, labels, split, organ
        Files and organ of the slide; `contexts` holds windows, or features where the context encoder is frozen.
    local, global_
        Checkpoints.
    compute, device
        Precision, loader processes and device.
    features
        HDF5 with `cell_id`, `local_feature` (after FiLM) and `global_feature` (`[û; ĉ]`) in float16, `local_p` and `global_p` (N, C)
        in float32; the attribute `classes` names their columns.

    Raises
    ------
    UserError
        If a file is unfit or the checkpoints do not belong together.
    """
    paths, meta = restore_classifiers(local, global_)
    if paths[1].encoder is None:
        feature_dim([contexts])
    dataset = open_cells(SlideFiles(patches, labels, split, organ, contexts), meta, EMBEDDED_SUBSETS)
    with whole_file(features) as partial, h5py.File(partial, "w") as file, running(device, compute):
        write_ids(file, dataset.cells["cell_id"].to_numpy())
        file.attrs.update(classes=list(meta.classes), meta=meta.model_dump_json())
        writer = RowsWriter(file, len(dataset))
        run = run_classifiers(paths[0].to(device), paths[1].to(device), device)
        for batch in progress(make_loader(dataset, FEATURE_BATCH, compute.workers), features.name):
            writer.append(**run(batch))


def restore_classifiers(local: Path, global_: Path) -> tuple[tuple[LocalClassifier, GlobalClassifier], CheckpointMetadata]:
    """Rebuild both paths; the metadata is path global's, which includes path local's.

    Raises
    ------
    UserError
        If they differ in classes or organs.
    """
    (narrow, local_meta), (wide, meta) = restore_local(local), restore_global(global_)
    if (local_meta.classes, local_meta.organs, local_meta.mpp) != (meta.classes, meta.organs, meta.mpp):
        raise UserError(
            global_, "classes", f"differ in classes, organs or pixel size from {local}", "Train path global on this path local."
        )
    return (narrow, wide), meta


def open_cells(slide: SlideFiles, meta: CheckpointMetadata, parts: Sequence[str]) -> CellDataset:
    """Open all cells of a slide's parts as the models want them, whatever their label; nothing is kept in memory."""
    sides = {"image_px": meta.local.backbone.image_px, "context_px": meta.global_.context.image_px if meta.global_ else 0}
    return CellDataset([slide], parts=parts, classes=meta.classes, organs=meta.organs, memory=CacheBudget(0), labelled=False, **sides)


def run_classifiers(local: LocalClassifier, global_: GlobalClassifier, device: str) -> Callable[[CellBatch], dict[str, NDArray[Any]]]:
    """Return a function from a batch to the rows of `embed_cells`."""

    def run(batch: CellBatch) -> dict[str, NDArray[Any]]:
        image, organ = as_float(batch.image.to(device)), batch.organ.to(device)
        narrow = local(image, organ)
        wide = global_(image, None if batch.context is None else as_float(batch.context.to(device)), organ)
        return {
            "local_feature": _half(narrow.feature),
            "global_feature": _half(wide.feature),
            "local_p": narrow.logits.float().softmax(-1).cpu().numpy(),
            "global_p": wide.logits.float().softmax(-1).cpu().numpy(),
        }

    return run


@contextmanager
def running(device: str, compute: Compute) -> Iterator[None]:
    """Run networks without gradients in the configured precision."""
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=compute.precision == "bf16-mixed"):
        yield


def progress(batches: Any, name: str) -> Iterable[Any]:
    """Yield batches and log every tenth part of the way."""
    total = len(batches)
    for number, batch in enumerate(batches, start=1):
        yield batch
        if number * 10 // total > (number - 1) * 10 // total:
            logger.info("%s: %d %%", name, 100 * number // total)


def write_ids(file: h5py.File, ids: NDArray[np.object_]) -> None:
    """Write the cells of a feature file, in the order of its rows."""
    file.create_dataset("cell_id", data=np.asarray(ids, dtype=object), dtype=h5py.string_dtype())


def _half(values: Tensor) -> NDArray[np.float16]:
    half: NDArray[np.float16] = values.float().clamp(-65504, 65504).half().cpu().numpy()
    return half
