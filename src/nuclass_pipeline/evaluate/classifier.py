"""The trained models as one object that classifies images in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.attribution import frozen_encoder
from nuclass_pipeline.evaluate.predict import prediction_table

if TYPE_CHECKING:
    from nuclass_pipeline.models.checkpoint import CheckpointMetadata
    from nuclass_pipeline.models.gate import Gate
    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier


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
    """

    local: "LocalClassifier"
    global_: "GlobalClassifier"
    gate: "Gate"
    meta: "CheckpointMetadata"
    device: str

    def classify(self, crops: NDArray[np.uint8], contexts: NDArray[np.uint8], organ: str) -> pd.DataFrame:
        """Return class probabilities of cells.

        Parameters
        ----------
        crops
            (N, 224, 224, 3) RGB around each cell, at `meta.mpp` µm per pixel.
        contexts
            (N, 1024, 1024, 3) RGB around the same cells, at the same scale.
        organ
            One of `meta.organs`.

        Returns
        -------
        One row per cell: `predicted`, `gate_weight` (of the global path), and `p_<class>` of the gate.

        Raises
        ------
        UserError
            If the models were not trained with this organ.
        """
        import torch

        from nuclass_pipeline.models.gate import mix
        from nuclass_pipeline.train.dataset import CellBatch
        from nuclass_pipeline.train.features import run_classifiers, running
        from nuclass_pipeline.train.patch_reader import resize

        if organ not in self.meta.organs:
            raise UserError("classify", "organ", f"{organ!r} is not an organ of the model", f"Use one of {', '.join(self.meta.organs)}.")
        context_px = self.meta.global_.context.image_px if self.meta.global_ else contexts.shape[1]
        sides = ((crops, self.meta.local.backbone.image_px), (contexts, context_px))
        image, context = (torch.from_numpy(resize(pixels, side_px)).permute(0, 3, 1, 2) for pixels, side_px in sides)
        organs, labels = torch.full((len(crops),), self.meta.organs.index(organ)), torch.full((len(crops),), -1)
        run = run_classifiers(self.local, self.global_, self.device)
        with running(self.device, Compute(precision="32-true")):
            found = run(CellBatch(image, context, organs, labels, torch.arange(len(crops))))
            # float16 in between, as in the feature files that the gate was trained on.
            tensors = [torch.from_numpy(found[name]).float() for name in ("local_feature", "global_feature", "local_p", "global_p")]
            g = torch.sigmoid(self.gate(*tensors))
            p = mix(g, tensors[2], tensors[3])
        return prediction_table(pd.DataFrame(index=range(len(crops))), p.numpy(), g.numpy(), self.meta.classes)


def load_classifier(models: Path, seed: int = 0, device: str = "cpu") -> CellClassifier:
    """Load the models of a seed from the folder `models` of a run.

    Raises
    ------
    UserError
        If a checkpoint is missing or broken, or the checkpoints do not belong together.
    """
    from nuclass_pipeline.models.gate import restore_gate
    from nuclass_pipeline.train.features import restore_classifiers

    local, global_, gate = (models / name / f"seed-{seed}" / "best.ckpt" for name in ("local", "global", "gate"))
    (local_model, global_model), meta = restore_classifiers(local, global_)
    if global_model.encoder is None and meta.global_ is not None:
        global_model.encoder = frozen_encoder(meta.global_.context)
    return CellClassifier(local_model.to(device), global_model.to(device), restore_gate(gate)[0], meta, device)
