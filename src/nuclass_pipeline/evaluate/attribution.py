"""Where in the image the evidence for a prediction lies, for a few cells per slide.

Gradient-weighted class activation (Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391) on each encoder's last spatial map.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.evaluation import AttributionConfig
from nuclass_pipeline.config.models import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require, write_table
from nuclass_pipeline.schemas import ATTRIBUTION
from nuclass_pipeline.vocabulary import UNRESOLVED

if TYPE_CHECKING:
    from torch import Tensor

    from nuclass_pipeline.models.encoders import Encoder
    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier
    from nuclass_pipeline.train.dataset import CellBatch

EXPLAINED_SUBSETS = ("val", "heldout")


def explain_cells(
    *,
    patches: Path,
    contexts: Path,
    labels: Path,
    split: Path,
    organ: str,
    slide: str,
    local: Path,
    global_: Path,
    config: AttributionConfig,
    seed: int,
    device: str,
    attribution: Path,
) -> None:
    """Write maps of both paths for some validation or held-out cells of a slide, spread over its classes.

    Parameters
    ----------
    patches, contexts, labels, split, organ, slide
        Windows, tables, organ and name of the slide; `contexts` holds windows also where the context encoder is frozen.
    local, global_
        Checkpoints.
    config, seed
        How many cells, and which.
    device
        Device to run on.
    attribution
        What is written.

    Raises
    ------
    UserError
        If a file is unfit, or the weights of a frozen context encoder are missing.
    """
    from nuclass_pipeline.train.dataset import SlideFiles
    from nuclass_pipeline.train.features import open_cells, restore_classifiers

    (narrow, wide), meta = restore_classifiers(local, global_)
    if wide.encoder is None and meta.global_ is not None:
        wide.encoder = frozen_encoder(meta.global_.context)
    dataset = open_cells(SlideFiles(patches, labels, split, organ, contexts), meta, EXPLAINED_SUBSETS)
    explainer = Explainer(narrow.to(device), wide.to(device), meta.classes, device)
    sides_um = [field_px(path) * meta.mpp for path in (patches, contexts)]
    ids, names = (dataset.cells[column].tolist() for column in ("cell_id", "label"))
    rows = [
        {"slide": slide, "cell_id": ids[cell], "label": names[cell], "field_um": side_um, **found}
        for cell in choose_cells(dataset.cells["label"], config.cells, seed)
        for side_um, found in zip(sides_um, explainer.explain(dataset[cell]), strict=True)
    ]
    write_table(pd.DataFrame(rows)[[column.name for column in ATTRIBUTION.columns]], attribution, ATTRIBUTION)


def choose_cells(labels: "pd.Series[str]", count: int, seed: int) -> list[int]:
    """Return up to `count` positions, spread evenly over the labels (all but Unresolved) and random within them."""
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels.iloc[order]
    turn = shuffled.groupby(shuffled).cumcount()
    ranked = pd.DataFrame({"position": order, "turn": turn.to_numpy(), "label": shuffled.to_numpy()})
    return ranked[ranked["label"] != UNRESOLVED].sort_values(["turn", "label"])["position"].head(count).tolist()


class Explainer:
    """Both paths, ready to point at their evidence.

    Parameters
    ----------
    local, global_
        The paths in inference mode, the latter with its context encoder.
    classes
        Names of the columns.
    device
        Where they are.
    """

    def __init__(self, local: "LocalClassifier", global_: "GlobalClassifier", classes: tuple[str, ...], device: str) -> None:
        self.local, self.global_, self.classes, self.device = local, global_, classes, device

    def explain(self, batch: "CellBatch") -> list[dict[str, Any]]:
        """Return predicted class, model, PNG and heat of path local on the crop and of path global on the context of one cell."""
        from nuclass_pipeline.train.cell_task import as_float

        if batch.context is None:
            raise ValueError("path global needs a context")
        image, context, organ = as_float(batch.image).to(self.device), as_float(batch.context).to(self.device), batch.organ.to(self.device)
        local, global_ = self._local(image, organ), self._global(image, context, organ)
        return [
            {"model": "local", "image": to_png(batch.image[0]), **local},
            {"model": "global", "image": to_png(batch.context[0]), **global_},
        ]

    def _local(self, image: "Tensor", organ: "Tensor") -> dict[str, Any]:
        vector, grid = self.local.backbone.trace(image.requires_grad_())
        return self._evidence(self.local.classify(vector, organ).logits, grid)

    def _global(self, image: "Tensor", context: "Tensor", organ: "Tensor") -> dict[str, Any]:
        if self.global_.encoder is None:
            raise ValueError("path global lacks its context encoder")
        vector, grid = self.global_.encoder.trace(context.requires_grad_())
        return self._evidence(self.global_.classify(self.global_.local(image, organ), vector).logits, grid)

    def _evidence(self, logits: "Tensor", grid: "Tensor") -> dict[str, Any]:
        best = int(logits.argmax())
        return {"predicted": self.classes[best], "heat": grad_cam(logits[0, best], grid).ravel().tolist()}


def grad_cam(score: "Tensor", grid: "Tensor") -> NDArray[np.float32]:
    """Return `ReLU(Σ_k mean(∂score/∂A_k)·A_k)` of a map A (1, channels, h, w), scaled to 0–1, as (h, w)."""
    import torch

    (gradient,) = torch.autograd.grad(score, grid)
    heat = (gradient.mean((2, 3), keepdim=True) * grid).sum(1)[0].relu().detach().float()
    span = heat.max() - heat.min()
    scaled: NDArray[np.float32] = ((heat - heat.min()) / span if span > 0 else torch.zeros_like(heat)).cpu().numpy()
    return scaled


def frozen_encoder(config: BackboneConfig) -> "Encoder":
    """Build a context encoder that is not part of the checkpoint."""
    from nuclass_pipeline.models.backbones import build_backbone

    return build_backbone(config.model_copy(update={"gradient_checkpointing": False})).eval()


def field_px(path: Path) -> int:
    """Return the side of the windows in a patch file, px.

    Raises
    ------
    UserError
        If it holds features instead.
    """
    with h5py.File(require(path), "r") as file:
        if "images" not in file:
            raise UserError(path, "images", "the dataset is missing", "Maps are drawn over images: give the patch file.")
        return int(file["images"].shape[1])


def to_png(image: "Tensor") -> bytes:
    """Encode an image (3, S, S) uint8."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(stream, "PNG")
    return stream.getvalue()
