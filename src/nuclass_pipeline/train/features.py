"""Features and probabilities of frozen networks, computed once per slide."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import IDS_DIGEST, digest_ids, read_table, whole_file
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.frozen import FrozenFeatures, build_frozen
from nuclass_pipeline.models.global_ import GlobalClassifier, restore_global
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from nuclass_pipeline.models.neighbors import Places
from nuclass_pipeline.runtime import track
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.train.augment import turned_views
from nuclass_pipeline.train.cell_task import as_float, check_windows, pixel_size, window_field
from nuclass_pipeline.train.dataset import CellBatch, CellDataset, SlideFiles, read_ids
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.patch_reader import CacheBudget, PatchReader
from nuclass_pipeline.train.tiles import embed_tiles

logger = logging.getLogger(__name__)

STAGE_VERSION = 1

# Without `train`, because the paths are right nearly everywhere on the cells that they were trained on.
EMBEDDED_SUBSETS = ("gate", "val", "heldout")
FEATURE_BATCH = 64
SHARED = {
    "classes": "classes",
    "organs": "organs",
    "mpp": "pixel sizes",
    "local_um": "sides of the crops",
    "local_features": "features of the local encoder",
}
"""What both paths must have in common, and how it is named."""
MAX_HALF = 65504
"""Largest finite number of half precision."""


class WindowDataset(Dataset[Tensor]):
    """All windows of a file in its order, in batches (B, 3, side_px, side_px) uint8.

    Parameters
    ----------
    path
        Patch file.
    rows
        Number of its windows.
    side_px
        Side to which windows are resized, px.
    """

    def __init__(self, path: Path, rows: int, side_px: int) -> None:
        # No cache, because every window is read once.
        self.windows, self.rows = PatchReader(path, np.arange(rows), side_px, CacheBudget(0)), rows

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Return a whole batch."""
        return self.windows.read(np.asarray(indices))


class RowsWriter:
    """Writer of the datasets of one HDF5 file, batch by batch.

    Parameters
    ----------
    file
        File open for writing.
    rows
        Rows of each dataset.
    """

    def __init__(self, file: h5py.File, rows: int) -> None:
        self.file, self.rows, self._next = file, rows, 0

    def append(self, **values: NDArray[Any]) -> None:
        """Add the same number of rows to each dataset; the first call creates the datasets."""
        count = len(next(iter(values.values())))
        for name, block in values.items():
            if name not in self.file:
                shape = (self.rows, *block.shape[1:])
                # In one piece, because the gate reads single rows.
                self.file.create_dataset(name, shape, block.dtype)
            self.file[name][self._next : self._next + count] = block
        self._next += count


def embed_windows(*, patches: Path, config: BackboneConfig, compute: Compute, device: str, features: Path) -> None:
    """Write the feature of every crop or context window of a slide, by a frozen encoder.

    Parameters
    ----------
    patches
        File of the N windows.
    config
        Name, weights and image size of the encoder.
    compute, device
        Precision, loader processes and device.
    features
        HDF5 with `cell_id` and `feature` float16, in the order of the windows: (N, dim), or (N, V, dim) with V views of each window,
        of which the first is the window as it is. Its attributes say what they depend on.

    Raises
    ------
    UserError
        If the patch file is missing or broken, or the weights are.
    """
    ids = read_ids(patches)
    warnings = [] if config.weights_files else ["frozen with random weights, so its features are those of an untrained network"]
    for warning in warnings:
        logger.warning("%s: %s", config.name, warning)
    encoder = build_frozen(config).to(device)
    mpp = pixel_size([patches])
    described = FrozenFeatures.of(config, field_um=window_field([patches], "field_um"), mpp=mpp, dim=encoder.dim, spec=encoder.spec)
    with whole_file(features) as partial, h5py.File(partial, "w") as file, running(device, compute):
        write_ids(file, ids)
        file.attrs.update(described.attributes | {"warnings": json.dumps(warnings)})
        if config.tile_um is not None:
            stored = file.create_dataset("feature", (len(ids), encoder.dim), np.float16)
            for rows, found in embed_tiles(encoder, patches, config, mpp, compute.workers, device):
                # One by one, because HDF5 selects scattered rows slowly.
                for row, feature in zip(rows, _half(found), strict=True):
                    stored[row] = feature
            return
        writer, windows = RowsWriter(file, len(ids)), WindowDataset(patches, len(ids), config.image_px)
        for images in track(make_loader(windows, FEATURE_BATCH, compute.workers), len(windows), "cells", FEATURE_BATCH):
            found = [_half(encoder(view)) for view in turned_views(as_float(images.to(device)), config.views)]
            writer.append(feature=found[0] if config.views == 1 else np.stack(found, axis=1))


def embed_cells(
    *,
    cells: Path,
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
    """Write features and probabilities of both paths for every cell outside the training subset and the buffers.

    Parameters
    ----------
    cells, patches, contexts, labels, split, organ
        Tables, files and organ of the slide; `patches` and `contexts` hold windows, or features where the encoder is frozen.
    local, global_
        Checkpoints of the local and the global path.
    compute, device
        Precision, loader processes and device.
    features
        HDF5 with `cell_id`, `local_feature` (with the organ) and `global_feature` (`[û; ĉ]`) in float16, `local_p` and `global_p` (N, C)
        in float32, `xy_um` (N, 2), and `image` (N,), the number of the image of the cell. The attribute `classes` names the columns.

    Raises
    ------
    UserError
        If a file is missing or broken, the checkpoints differ in classes, organs, pixel size or crops, or the windows or features are
        not those that the models were trained on.
    """
    (local_model, global_model), meta = restore_classifiers(local, global_)
    check_windows(patches, meta, "local_um", meta.local_features)
    check_windows(contexts, meta, "context_um", meta.context_features)
    dataset = open_cells(SlideFiles(patches, labels, split, organ, contexts), meta, EMBEDDED_SUBSETS)
    with whole_file(features) as partial, h5py.File(partial, "w") as file, running(device, compute):
        write_ids(file, dataset.cells["cell_id"].to_numpy())
        file["xy_um"], file["image"] = read_places(cells, dataset.cells["cell_id"])
        file.attrs.update(classes=list(meta.classes), meta=meta.model_dump_json(), warnings=json.dumps(organ_warnings(organ, meta)))
        writer = RowsWriter(file, len(dataset))
        run = run_classifiers(local_model.to(device), global_model.to(device), device)
        for batch in track(make_loader(dataset, FEATURE_BATCH, compute.workers), len(dataset), "cells", FEATURE_BATCH):
            writer.append(**run(batch))


def restore_classifiers(local: Path, global_: Path) -> tuple[tuple[LocalClassifier, GlobalClassifier], CheckpointMetadata]:
    """Rebuild both paths from their checkpoints.

    Returns
    -------
    models
        The local and the global path.
    meta
        Metadata of the global path, which include those of the local path.

    Raises
    ------
    UserError
        If they differ in classes, organs, pixel size, side of the crops, or features of a frozen local encoder, or if those of a frozen
        context encoder are not described.
    """
    (local_model, local_meta), (global_model, meta) = restore_local(local), restore_global(global_)
    for name in ("classes", "organs", "mpp", "local_um", "local_features"):
        if getattr(local_meta, name) != getattr(meta, name):
            problem = f"{SHARED[name]} differ from those of {local}"
            raise UserError(global_, name, problem, "Train the global path again, on this checkpoint of the local path.")
    if global_model.encoder is None and meta.context_features is None:
        problem = "an earlier version wrote it, without what the features of its context encoder depend on"
        raise UserError(global_, "context_features", problem, "Train the global path again.")
    return (local_model, global_model), meta


def organ_warnings(organ: str, meta: CheckpointMetadata) -> list[str]:
    """Return and log a warning if cells of `organ` are classified as of an unknown organ, although an organ could matter."""
    if organ in meta.usable_organs or meta.local.conditioning == "none":
        return []
    text = f"no training slide is of {organ}, so the models take its organ as unknown"
    logger.warning(text)
    return [text]


def open_cells(slide: SlideFiles, meta: CheckpointMetadata, subsets: Sequence[str]) -> CellDataset:
    """Open all cells of these subsets of a slide, whatever their label, with the image sizes of the models; no patch is cached.

    Raises
    ------
    UserError
        If the models know neither the organ of the slide nor an unknown one, or a file is missing or broken.
    """
    if (organ := meta.organ_for(slide.organ)) is None:
        problem = f"no training slide is of {slide.organ}, and the models were trained without organ dropout"
        remedy = f"Set the organ of the slide to one of {', '.join(meta.usable_organs)}, or train with local.organ_dropout."
        raise UserError(slide.patches, "organ", problem, remedy)
    slide = replace(slide, organ=organ)
    sides: dict[str, Any] = {"image_px": meta.local.backbone.image_px, "context_px": meta.global_.context.image_px if meta.global_ else 0}
    return CellDataset([slide], subsets=subsets, classes=meta.classes, organs=meta.organs, memory=CacheBudget(0), labelled=False, **sides)


def run_classifiers(local: LocalClassifier, global_: GlobalClassifier, device: str) -> Callable[[CellBatch], dict[str, NDArray[Any]]]:
    """Return a function from a batch to the rows that `embed_cells` writes."""

    def run(batch: CellBatch) -> dict[str, NDArray[Any]]:
        image, organ = as_float(batch.image.to(device)), batch.organ.to(device)
        local_out = local(image, organ)
        global_out = global_(image, None if batch.context is None else as_float(batch.context.to(device)), organ)
        return {
            "local_feature": _half(local_out.feature),
            "global_feature": _half(global_out.feature),
            "local_p": local_out.logits.float().softmax(-1).cpu().numpy(),
            "global_p": global_out.logits.float().softmax(-1).cpu().numpy(),
        }

    return run


@contextmanager
def running(device: str, compute: Compute) -> Iterator[None]:
    """Run networks without gradients in the configured precision."""
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=compute.precision == "bf16-mixed"):
        yield


def read_places(path: Path, ids: "pd.Series[str]") -> Places:
    """Return where these N cells are, from the table of cells; a slide without a column `image` is one image.

    Raises
    ------
    UserError
        If the table is missing or broken, or lacks one of the cells.
    """
    table = read_table(path, CELLS).set_index("cell_id")
    if len(absent := pd.Index(ids).difference(table.index)):
        problem = f"{len(absent)} cells of the split are missing, the first is {absent[0]}"
        raise UserError(path, "cell_id", problem, "Remove the table and the split, and run again.")
    table = table.loc[ids.tolist()]
    image = pd.factorize(table["image"])[0] if "image" in table else np.zeros(len(table), np.int64)
    return Places(table[["x_um", "y_um"]].to_numpy(np.float64), image)


def write_ids(file: h5py.File, ids: NDArray[np.object_]) -> None:
    """Write the cell ids (N,) of a feature file in the order of its rows, and their hash."""
    file.create_dataset("cell_id", data=np.asarray(ids, dtype=object), dtype=h5py.string_dtype())
    file.attrs[IDS_DIGEST] = digest_ids(ids)


def _half(values: Tensor) -> NDArray[np.float16]:
    # Clamped, because an infinite feature becomes NaN in the gate's layer norm.
    half: NDArray[np.float16] = values.float().clamp(-MAX_HALF, MAX_HALF).half().cpu().numpy()
    return half
