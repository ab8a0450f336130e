"""Features and probabilities of both trained paths for the cells of a slide, which the gate reads."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, whole_file
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.global_ import GlobalClassifier, restore_global
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from nuclass_pipeline.models.neighbors import Places
from nuclass_pipeline.runtime import track
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.train.cell_task import as_float, check_windows
from nuclass_pipeline.train.dataset import CellBatch, CellDataset, SlideFiles
from nuclass_pipeline.train.features.files import RowsWriter, running, to_half, write_ids
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.patch_reader import CacheBudget

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
            "local_feature": to_half(local_out.feature),
            "global_feature": to_half(global_out.feature),
            "local_p": local_out.logits.float().softmax(-1).cpu().numpy(),
            "global_p": global_out.logits.float().softmax(-1).cpu().numpy(),
        }

    return run


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
