"""Maps of the image regions behind a prediction, for a few cells per slide.

Gradient-weighted class activation (Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391) on each encoder's last spatial map.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.evaluation import AttributionConfig
from nuclass_pipeline.config.models import BackboneConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_h5, write_table
from nuclass_pipeline.schemas import ATTRIBUTION
from nuclass_pipeline.vocabulary import UNRESOLVED

if TYPE_CHECKING:
    from torch import Tensor

    from nuclass_pipeline.models.encoders import Encoder
    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier
    from nuclass_pipeline.train.dataset import CellBatch

# Without `train` and `gate`, because a map should show what the models do on cells that no weight was fitted to.
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
    """Write maps of both paths for some validation or held-out cells of a slide, spread evenly over its labels.

    Parameters
    ----------
    patches, contexts, labels, split, organ, slide
        Patch files, tables, organ and name of the slide; `contexts` holds windows even if the context encoder is frozen.
    local, global_
        Checkpoints of the local and the global path.
    config
        Number of cells.
    seed
        Seed of their choice.
    device
        `cpu` or `cuda`.
    attribution
        Table with two rows per cell, one for each path: predicted class, image (PNG) and map.

    Raises
    ------
    UserError
        If a file is missing or broken, or the weights of a frozen context encoder are missing.
    """
    from nuclass_pipeline.train.dataset import SlideFiles
    from nuclass_pipeline.train.features import open_cells, restore_classifiers

    (local_model, global_model), meta = restore_classifiers(local, global_)
    if global_model.encoder is None and meta.global_ is not None:
        global_model.encoder = frozen_encoder(meta.global_.context)
    dataset = open_cells(SlideFiles(patches, labels, split, organ, contexts), meta, EXPLAINED_SUBSETS)
    explainer = Explainer(local_model.to(device), global_model.to(device), meta.classes, device)
    sides_um = [field_px(path) * meta.mpp for path in (patches, contexts)]
    ids, names = (dataset.cells[column].tolist() for column in ("cell_id", "label"))
    rows = [
        {"slide": slide, "cell_id": ids[cell], "label": names[cell], "field_um": side_um, **found}
        for cell in choose_cells(dataset.cells["label"], config.cells, seed)
        for side_um, found in zip(sides_um, explainer.explain(dataset[cell]), strict=True)
    ]
    write_table(pd.DataFrame(rows)[[column.name for column in ATTRIBUTION.columns]], attribution, ATTRIBUTION)


def choose_cells(labels: "pd.Series[str]", count: int, seed: int) -> list[int]:
    """Return up to `count` positions in `labels`, spread evenly over all labels but Unresolved, and random within each."""
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels.iloc[order]
    turn = shuffled.groupby(shuffled).cumcount()
    ranked = pd.DataFrame({"position": order, "turn": turn.to_numpy(), "label": shuffled.to_numpy()})
    return ranked[ranked["label"] != UNRESOLVED].sort_values(["turn", "label"])["position"].head(count).tolist()


class Explainer:
    """Both paths with the method to explain a cell.

    Parameters
    ----------
    local, global_
        The paths in evaluation mode, the latter with its context encoder.
    classes
        Class names, in the order of the logits.
    device
        Device of the paths.
    """

    def __init__(self, local: "LocalClassifier", global_: "GlobalClassifier", classes: tuple[str, ...], device: str) -> None:
        self.local, self.global_, self.classes, self.device = local, global_, classes, device

    def explain(self, batch: "CellBatch") -> list[dict[str, Any]]:
        """Return two rows for a batch of one cell: the local path on the crop, the global path on the context.

        Each holds `model`, `image` (PNG), `predicted` and `heat`, the map row by row.
        """
        from nuclass_pipeline.train.cell_task import as_float

        if batch.context is None:
            raise ValueError("the global path needs a context")
        image, context, organ = as_float(batch.image).to(self.device), as_float(batch.context).to(self.device), batch.organ.to(self.device)
        local, global_ = self._local(image, organ), self._global(image, context, organ)
        return [
            {"model": "local", "image": to_png(batch.image[0]), **local},
            {"model": "global", "image": to_png(batch.context[0]), **global_},
        ]

    def _local(self, image: "Tensor", organ: "Tensor") -> dict[str, Any]:
        # Gradients of the input, because a frozen encoder would else build no graph back to its map.
        vector, grid = self.local.backbone.trace(image.requires_grad_())
        return self._explained(self.local.classify(vector, organ).logits, grid)

    def _global(self, image: "Tensor", context: "Tensor", organ: "Tensor") -> dict[str, Any]:
        if self.global_.encoder is None:
            raise ValueError("the global path has no context encoder")
        vector, grid = self.global_.encoder.trace(context.requires_grad_())
        return self._explained(self.global_.classify(self.global_.local(image, organ), vector).logits, grid)

    def _explained(self, logits: "Tensor", grid: "Tensor") -> dict[str, Any]:
        top = int(logits.argmax())
        return {"predicted": self.classes[top], "heat": grad_cam(logits[0, top], grid).ravel().tolist()}


def grad_cam(score: "Tensor", grid: "Tensor") -> NDArray[np.float32]:
    """Return `ReLU(Σ_k mean(∂score/∂A_k)·A_k)` of a map A (1, channels, h, w), scaled to 0–1, as (h, w)."""
    import torch

    (gradient,) = torch.autograd.grad(score, grid)
    heat = (gradient.mean((2, 3), keepdim=True) * grid).sum(1)[0].relu().detach().float()
    span = heat.max() - heat.min()
    scaled: NDArray[np.float32] = ((heat - heat.min()) / span if span > 0 else torch.zeros_like(heat)).cpu().numpy()
    return scaled


def frozen_encoder(config: BackboneConfig) -> "Encoder":
    """Build a context encoder that is not part of the checkpoint, in evaluation mode."""
    from nuclass_pipeline.models.backbones import build_backbone

    return build_backbone(config.model_copy(update={"gradient_checkpointing": False})).eval()


def field_px(path: Path) -> int:
    """Return the side of the windows in a patch file, px.

    Raises
    ------
    UserError
        If the file is missing, broken or holds no images.
    """
    with open_h5(path) as file:
        if "images" not in file:
            raise UserError(path, "images", "the dataset is missing", "Name the patch file: maps are drawn over its images.")
        return int(file["images"].shape[1])


def to_png(image: "Tensor") -> bytes:
    """Return an image (3, S, S) uint8 as PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(stream, "PNG")
    return stream.getvalue()
