"""Maps of the image regions behind a prediction, for a few cells per slide.

Gradient-weighted class activation (Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391) on each encoder's last spatial map. Glass and
lumens are masked, and `masked_share` is how much of the map lay there.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.config.evaluation import AttributionConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import ATTRIBUTION, PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

if TYPE_CHECKING:
    from torch import Tensor

    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier
    from nuclass_pipeline.train.dataset import CellBatch

# Without `train` and `gate`, because a map should show what the models do on cells that no weight was fitted to.
EXPLAINED_SUBSETS = ("val", "heldout")
# By colour and not by the brightest pixels, because a window at the edge of the image is padded with white, and glass is darker.
DARKEST_GLASS = 200
"""Smallest value of glass in any color, 0–255. Lumens and empty cracks count as glass."""
MAX_TINT = 15
"""Largest difference between the colors of glass; eosin, even if pale, has more."""


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
    gate: Path,
    config: AttributionConfig,
    device: str,
    attribution: Path,
) -> None:
    """Write maps of both paths for some validation or held-out cells of a slide, chosen by `choose_cells`.

    Parameters
    ----------
    patches, contexts, labels, split, organ, slide
        Patch files, tables, organ and name of the slide; both patch files hold windows even if an encoder is frozen.
    local, global_
        Checkpoints of the local and the global path.
    gate
        The gate's predictions of the slide, which decide the choice.
    config
        Number of cells.
    device
        `cpu` or `cuda`.
    attribution
        Table with two rows per cell, one for each path: predicted class, image (PNG), its tissue (PNG), map and its masked share.

    Raises
    ------
    UserError
        If a file is missing or broken, the weights of a frozen encoder are missing or others, or the gate has no prediction of a cell.
    """
    from nuclass_pipeline.models.frozen import attach_encoders
    from nuclass_pipeline.train.cell_task import check_windows, window_field
    from nuclass_pipeline.train.dataset import SlideFiles
    from nuclass_pipeline.train.features.cells import open_cells, restore_classifiers

    (local_model, global_model), meta = restore_classifiers(local, global_)
    for path, name in ((patches, "local_um"), (contexts, "context_um")):
        check_windows(path, meta, name)
    warnings = attach_encoders(local_model, global_model, meta)
    dataset = open_cells(SlideFiles(patches, labels, split, organ, contexts), meta, EXPLAINED_SUBSETS)
    explainer = Explainer(local_model.to(device), global_model.to(device), meta.classes, device)
    sides_um = [window_field([patches], "local_um"), window_field([contexts], "context_um")]
    cells = _with_gate(dataset.cells[["cell_id", "label"]], gate)
    rows = [
        {"slide": slide, "field_um": side_um, **cells.iloc[cell].to_dict(), **found}
        for cell in choose_cells(cells, config.cells)
        for side_um, found in zip(sides_um, explainer.explain(dataset[cell]), strict=True)
    ]
    columns = [column.name for column in ATTRIBUTION.columns]
    write_table(pd.DataFrame(rows, columns=columns), attribution, ATTRIBUTION, warnings)


def _with_gate(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add the class that the gate predicts, and its probability, to cells with `cell_id` and `label`."""
    table = read_table(path, PREDICTIONS)
    found = table[["cell_id"]].assign(gate_predicted=table["predicted"], gate_probability=table.filter(regex="^p_").max(axis=1))
    joined = cells.reset_index(drop=True).merge(found, on="cell_id", how="left", validate="one_to_one")
    if joined["gate_predicted"].isna().any():
        missing = joined.loc[joined["gate_predicted"].isna(), "cell_id"].iloc[0]
        raise UserError(path, "cell_id", f"{missing!r} has no prediction", "Remove the file and run again.")
    return joined


def choose_cells(cells: pd.DataFrame, count: int) -> list[int]:
    """Return the positions of up to `count` cells: typical ones of the commonest classes, and of those with most errors of the gate.

    Parameters
    ----------
    cells
        Columns label, gate_predicted and gate_probability. Unresolved cells are never chosen.
    count
        Number of cells. Half of them, rounded up, are errors of the gate, if there are as many.

    Returns
    -------
    list of int
        First the cells that the gate has right, one of each class in turn from the commonest class, then the errors, from the class
        with most errors. Of a class, the cell whose probability is the median comes first. No chance is involved.
    """
    # As text, because counts that are looked up by categories are categories too.
    labelled = cells.assign(label=cells["label"].astype(str), position=np.arange(len(cells)))[cells["label"] != UNRESOLVED]
    is_right = labelled["label"] == labelled["gate_predicted"]
    right, wrong = _in_turn(labelled[is_right], labelled["label"]), _in_turn(labelled[~is_right], labelled.loc[~is_right, "label"])
    shown = right[: max(count - len(wrong), count // 2)]
    return [*shown, *wrong[: count - len(shown)]]


def _in_turn(cells: pd.DataFrame, counted: "pd.Series[str]") -> list[int]:
    """Return the positions of cells, one of each class in turn; `counted` are labels, whose commonest comes first."""
    ranked = cells.sort_values(["gate_probability", "position"])
    groups = ranked.groupby("label")["position"]
    # From the median outwards, because a typical cell is shown, and not the best or the worst.
    distance = (groups.cumcount() - (groups.transform("size") - 1) // 2).abs()
    size = ranked["label"].map(counted.value_counts())
    typical = ranked.assign(distance=distance, fewer=-size).sort_values(["distance", "position"])
    ordered = typical.assign(turn=typical.groupby("label").cumcount()).sort_values(["turn", "fewer", "label"])
    return [int(position) for position in ordered["position"]]


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

        Each holds `model`, `image` and `tissue` (PNG), `predicted` with its `probability`, `heat`, the map row by row, and `masked_share`.
        """
        from nuclass_pipeline.train.cell_task import as_float

        if batch.context is None:
            raise ValueError("the global path needs a context")
        image, context, organ = as_float(batch.image).to(self.device), as_float(batch.context).to(self.device), batch.organ.to(self.device)
        found = {"local": self._local(image, organ), "global": self._global(image, context, organ)}
        return [
            _on_tissue(model, to_pixels(pixels[0]), found[model]) for model, pixels in (("local", batch.image), ("global", batch.context))
        ]

    def _local(self, image: "Tensor", organ: "Tensor") -> dict[str, Any]:
        # Gradients of the input, because a frozen encoder would else build no graph back to its map.
        if self.local.backbone is None:
            raise ValueError("the local path has no encoder")
        vector, grid = self.local.backbone.trace(image.requires_grad_())
        return self._explained(self.local.classify(vector, organ).logits, grid)

    def _global(self, image: "Tensor", context: "Tensor", organ: "Tensor") -> dict[str, Any]:
        if self.global_.encoder is None:
            raise ValueError("the global path has no context encoder")
        vector, grid = self.global_.encoder.trace(context.requires_grad_())
        return self._explained(self.global_.classify(self.global_.local(image, organ), vector).logits, grid)

    def _explained(self, logits: "Tensor", grid: "Tensor") -> dict[str, Any]:
        top = int(logits.argmax())
        probability = float(logits[0].detach().float().softmax(-1)[top])
        return {"predicted": self.classes[top], "probability": probability, "heat": grad_cam(logits[0, top], grid)}


def grad_cam(score: "Tensor", grid: "Tensor") -> NDArray[np.float32]:
    """Return `ReLU(Σ_k mean(∂score/∂A_k)·A_k)` of a map A (1, channels, h, w), scaled to 0–1, as (h, w)."""
    import torch

    # Unused by a global path without context, which then has no evidence there.
    (gradient,) = torch.autograd.grad(score, grid, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(grid)
    heat = (gradient.mean((2, 3), keepdim=True) * grid).sum(1)[0].relu().detach().float()
    span = heat.max() - heat.min()
    scaled: NDArray[np.float32] = ((heat - heat.min()) / span if span > 0 else torch.zeros_like(heat)).cpu().numpy()
    return scaled


def find_stained(pixels: NDArray[np.uint8]) -> Booleans:
    """Return where a window (H, W, 3) shows tissue, (H, W): what is dark or colored."""
    # Smoothed, because the noise of a camera must not become specks of tissue; and up to the very edge of the tissue.
    glass = _is_glass(gaussian_filter(pixels.astype(np.float64), (1, 1, 0)))
    return np.asarray(~(glass | (_is_glass(pixels) & binary_dilation(glass, iterations=3))))


def _is_glass(pixels: NDArray[Any]) -> Booleans:
    darkest = pixels.min(axis=2)
    return np.asarray((darkest >= DARKEST_GLASS) & (pixels.max(axis=2) - darkest <= MAX_TINT))


def mask_heat(heat: NDArray[np.floating], tissue: Booleans) -> tuple[NDArray[np.floating], float]:
    """Return a map (h, w), each field times its share of tissue by a mask (H, W), with the largest scaled to 1, and the share removed.

    The share is that of the sum of the map, NaN if this is 0.
    """
    rows, columns = (np.linspace(0, size, parts + 1).astype(int) for size, parts in zip(tissue.shape, heat.shape, strict=True))
    sums = np.add.reduceat(np.add.reduceat(tissue.astype(np.float64), rows[:-1], axis=0), columns[:-1], axis=1)
    kept = heat * sums / np.outer(np.diff(rows), np.diff(columns))
    # At least 0, because rounding can leave a little more than the whole.
    share = max(0.0, 1 - float(kept.sum()) / float(heat.sum())) if heat.sum() > 0 else float("nan")
    return np.asarray(kept / kept.max() if kept.max() > 0 else kept), share


def _on_tissue(model: str, pixels: NDArray[np.uint8], found: dict[str, Any]) -> dict[str, Any]:
    tissue = find_stained(pixels)
    heat, share = mask_heat(found["heat"], tissue)
    drawn = {"image": to_png(pixels), "tissue": to_png(tissue), "heat": heat.ravel().tolist(), "masked_share": share}
    return {**found, "model": model, **drawn}


def to_pixels(image: "Tensor") -> NDArray[np.uint8]:
    """Return an image (3, S, S) uint8 as (S, S, 3)."""
    return np.asarray(image.permute(1, 2, 0).cpu().numpy())


def to_png(pixels: NDArray[np.uint8] | Booleans) -> bytes:
    """Return pixels, (S, S, 3) uint8 or (S, S) of a mask, as PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
