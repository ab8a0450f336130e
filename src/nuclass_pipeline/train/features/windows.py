"""Features of all windows of a slide by a frozen encoder."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.models.frozen import FrozenFeatures, build_frozen
from nuclass_pipeline.runtime import track
from nuclass_pipeline.train.augment import turned_views
from nuclass_pipeline.train.cell_task import as_float, pixel_size, window_field
from nuclass_pipeline.train.dataset import read_ids
from nuclass_pipeline.train.features.files import RowsWriter, running, to_half, write_ids
from nuclass_pipeline.train.features.tiles import embed_tiles
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.patch_reader import CacheBudget, PatchReader, resize_batch

logger = logging.getLogger(__name__)

STAGE_VERSION = 1

WINDOW_BATCH = 64
RESIZING = "cuda"
"""Devices that resize windows in whole batches; others get them resized by the loader."""


class WindowDataset(Dataset[Tensor]):
    """All windows of a file in its order, in batches (B, 3, side_px, side_px) uint8.

    Parameters
    ----------
    path
        Patch file.
    rows
        Number of its windows.
    side_px
        Side to which windows are resized, px; None leaves them as they are in the file.
    """

    def __init__(self, path: Path, rows: int, side_px: int | None) -> None:
        # No cache, because every window is read once.
        self.windows, self.rows = PatchReader(path, np.arange(rows), side_px, CacheBudget(0)), rows

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Return a whole batch."""
        return self.windows.read(np.asarray(indices))


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
        writer = RowsWriter(file, len(ids))
        if config.tile_um is None:
            _write_windows(encoder, patches, config, compute, device, writer)
        else:
            for rows, found in embed_tiles(encoder, patches, config, mpp, compute.workers, device):
                writer.put(rows, feature=to_half(found))


def _write_windows(encoder: Encoder, patches: Path, config: BackboneConfig, compute: Compute, device: str, writer: RowsWriter) -> None:
    # Resized on a GPU in whole batches, because the CPU would be the slowest part.
    windows = WindowDataset(patches, writer.rows, None if device.startswith(RESIZING) else config.image_px)
    for images in track(make_loader(windows, WINDOW_BATCH, compute.workers), len(windows), "cells", WINDOW_BATCH):
        values = as_float(resize_batch(images.to(device), config.image_px))
        found = [to_half(encoder(view)) for view in turned_views(values, config.views)]
        writer.append(feature=found[0] if config.views == 1 else np.stack(found, axis=1))
