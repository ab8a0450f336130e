"""The trained models as one object that classifies images in memory."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.predict import prediction_table
from nuclass_pipeline.io import first_line, require
from nuclass_pipeline.layout import BASE, USUAL_PX

if TYPE_CHECKING:
    from nuclass_pipeline.models.checkpoint import CheckpointMetadata
    from nuclass_pipeline.models.gate import Gate
    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier
    from nuclass_pipeline.models.neighbors import NeighborGate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellClassifier:
    """The local path, the global path and the gate of one seed.

    Attributes
    ----------
    local, global_, gate
        The models, in evaluation mode.
    meta
        Classes, organs and pixel size (µm) that they were trained with.
    device
        Device that they run on.
    crop_px, context_px
        Sides of the crops and contexts that `classify` takes, px.
    """

    local: "LocalClassifier"
    global_: "GlobalClassifier"
    gate: "Gate | NeighborGate"
    meta: "CheckpointMetadata"
    device: str
    crop_px: int = USUAL_PX[0]
    context_px: int = USUAL_PX[1]

    def classify(self, crops: NDArray[np.uint8], contexts: NDArray[np.uint8], organ: str, xy_um: Floats | None = None) -> pd.DataFrame:
        """Return class probabilities of cells.

        Parameters
        ----------
        crops
            (N, crop_px, crop_px, 3) uint8, RGB around each cell, at `meta.mpp` µm per pixel.
        contexts
            (N, context_px, context_px, 3) uint8, RGB around the same cells, at the same scale.
        organ
            One of `meta.usable_organs`. Models trained with organ dropout take any other organ as unknown, with a warning.
        xy_um
            (N, 2) centroids in one image, µm. The gate of kind neighbors needs them, and with them all cells of the image at once.

        Returns
        -------
        One row per cell: `predicted`, `gate_weight` (of the global path), and `p_<class>` of the gate.

        Raises
        ------
        UserError
            If the images have another type or shape, their numbers differ, the organ is not an organ of the models, or the gate needs
            centroids that are not given.
        """
        import torch

        from nuclass_pipeline.models.mixture import mix
        from nuclass_pipeline.models.neighbors import NeighborGate, Places
        from nuclass_pipeline.train.dataset import CellBatch
        from nuclass_pipeline.train.features.cells import run_classifiers
        from nuclass_pipeline.train.features.files import running
        from nuclass_pipeline.train.patch_reader import resize

        crops, contexts = checked_pixels("crops", crops, self.crop_px), checked_pixels("contexts", contexts, self.context_px)
        if len(crops) != len(contexts):
            problem = f"found {len(contexts)} contexts for {len(crops)} crops"
            raise UserError("classify", "contexts", problem, "Pass one context per crop, in the same order.")
        index = checked_organ(organ, self.meta)
        # Before the paths run, because that takes long.
        xy_um = checked_places(xy_um, len(crops)) if isinstance(self.gate, NeighborGate) else np.empty((0, 2))
        context_px = self.meta.global_.context.image_px if self.meta.global_ else contexts.shape[1]
        sides = ((crops, self.meta.local.backbone.image_px), (contexts, context_px))
        image, context = (torch.from_numpy(resize(pixels, side_px)).permute(0, 3, 1, 2) for pixels, side_px in sides)
        organs, labels = torch.full((len(crops),), index), torch.full((len(crops),), -1)
        run = run_classifiers(self.local, self.global_, self.device)
        with running(self.device, Compute(precision="32-true")):
            found = run(CellBatch(image, context, organs, labels, torch.arange(len(crops))))
            # float16 in between, as in the feature files that the gate was trained on.
            tensors = [torch.from_numpy(found[name]).float() for name in ("local_feature", "global_feature", "local_p", "global_p")]
            if isinstance(self.gate, NeighborGate):
                g, p = self.gate.fuse(tensors[3], Places(xy_um, np.zeros(len(crops), np.int64)))
            else:
                g = torch.sigmoid(self.gate(*tensors))
                p = mix(g, tensors[2], tensors[3])
        return prediction_table(pd.DataFrame(index=range(len(crops))), p.numpy(), g.numpy(), self.meta.classes)


def load_classifier(models: Path, seed: int = 0, device: str = "cpu", owners: Mapping[str, str] | None = None) -> CellClassifier:
    """Load the models of a seed from the folder `models` of a run: of the base, or of the variant in `owners` for each model.

    Raises
    ------
    UserError
        If a checkpoint is missing or broken, the checkpoints do not belong together, or torch cannot use the device.
    """
    from nuclass_pipeline.models.frozen import attach_encoders
    from nuclass_pipeline.models.gate import restore_gate
    from nuclass_pipeline.train.features.cells import restore_classifiers

    _check_device(device)
    remedy = "Choose the seed of a trained model, or run the workflow."
    local, global_, gate = (
        require(models / (owners or {}).get(name, BASE) / name / f"seed-{seed}" / "best.ckpt", remedy) for name in MODELS
    )
    (local_model, global_model), meta = restore_classifiers(local, global_)
    for warning in attach_encoders(local_model, global_model, meta):
        logger.warning(warning)
    models_ = local_model.to(device), global_model.to(device), restore_gate(gate)[0]
    sides = (round((side_um or 0) / meta.mpp) for side_um in (meta.local_um, meta.context_um))
    return CellClassifier(*models_, meta, device, *sides)


def checked_organ(organ: str, meta: "CheckpointMetadata") -> int:
    """Return the index of an organ in the embedding of the models, −1 for one that they take as unknown, which is logged.

    Raises
    ------
    UserError
        If it is not an organ of the models, and they know no unknown one.
    """
    from nuclass_pipeline.train.features.cells import organ_warnings

    if (used := meta.organ_for(organ)) is None:
        remedy = f"Use one of {', '.join(meta.usable_organs)}."
        raise UserError("classify", "organ", f"{organ!r} is not an organ of the model", remedy)
    organ_warnings(organ, meta)
    return meta.organ_index(used)


def checked_pixels(name: str, pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Return images (N, side_px, side_px, 3) that torch can read, if they are RGB in uint8.

    Raises
    ------
    UserError
        If they have another type or shape, with what was found.
    """
    remedy = f"Pass a NumPy array of RGB images with dtype uint8 and shape (N, {side_px}, {side_px}, 3), N ≥ 1."
    # Of other libraries too, because they may hold floats or channels first.
    if not isinstance(pixels, np.ndarray):
        raise UserError("classify", name, f"found a {type(pixels).__name__}, not a NumPy array", remedy)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (side_px, side_px, 3) or not len(pixels):
        raise UserError("classify", name, f"found dtype {pixels.dtype} and shape {pixels.shape}", remedy)
    # A copy where needed, because torch cannot read a flipped view.
    return np.ascontiguousarray(pixels)


def checked_places(xy_um: Floats | None, cells: int) -> Floats:
    """Return centroids (N, 2), if they are given for all cells and finite.

    Raises
    ------
    UserError
        If they are not.
    """
    remedy = f"Pass the centroids of the cells in µm, an array of shape ({cells}, 2)."
    if xy_um is None:
        raise UserError("classify", "xy_um", "missing, and the gate is of kind neighbors", remedy)
    try:
        places = np.asarray(xy_um, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError("classify", "xy_um", f"not an array of numbers ({first_line(error)})", remedy) from error
    if places.shape != (cells, 2):
        raise UserError("classify", "xy_um", f"found shape {places.shape}", remedy)
    if not np.isfinite(places).all():
        raise UserError("classify", "xy_um", "a value is not finite", remedy)
    return places


def _check_device(device: str) -> None:
    import torch

    try:
        # Written and read, because some devices have a name but no memory.
        torch.zeros(1, device=torch.device(device)).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        remedy = "Use cpu, or cuda where `nuclass doctor` finds a GPU."
        raise UserError("load_classifier", "device", f"torch cannot use {device!r} ({first_line(error)})", remedy) from error
