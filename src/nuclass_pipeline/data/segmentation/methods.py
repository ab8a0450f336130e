"""Ways to find the nuclei of one tile: a watershed on haematoxylin, and Cellpose with weights on disk.

Lengths are in µm, so that both hold at any pixel size; the figures of the watershed come from `benchmarks/nuclei.py`.
"""

from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, distance_transform_edt, gaussian_filter
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.morphology import disk, remove_small_holes
from skimage.segmentation import watershed

from nuclass_pipeline.config.study import SegmentationConfig
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.segmentation.tiles import Segmenter
from nuclass_pipeline.errors import UserError

HED_UNIT_OD = 6.0
"""scikit-image gives stains in units of the optical density of one part in a million."""
THRESHOLD_OD = SegmentationConfig().threshold_od
"""Low, so that a pale stain loses nothing: what tells a nucleus is its contrast with the tissue around it."""
AREA_UM2 = (5.0, 100.0)
SMOOTH_UM = 0.3
AROUND_UM = 8.0
CONTRAST_OD = 0.06
"""How much more haematoxylin a nucleus holds than the `AROUND_UM` about it."""
EDGE_SHARE = 0.35
"""Pixels with less of their nucleus' mean contrast are its blurred edge."""
NECK_UM = 0.4
"""Bridges narrower than twice this are cut."""
SEED_SMOOTH_UM = 0.4
SEED_DISTANCE_UM = 1.2

CELLPOSE_REMEDY = (
    "huggingface-cli download mouseland/cellpose-sam cpsam_v2 --local-dir resources/weights/cellpose "
    "(BSD-3-Clause; trained on data under CC-BY-NC) and give the path of the file."
)


def make_segmenter(config: SegmentationConfig, mpp: float, *, gpu: bool) -> Segmenter:
    """Make what `config.method` names, for tiles of `mpp`, µm."""
    if config.method == "cellpose":
        return cellpose_nuclei(config.weights, gpu=gpu)
    return watershed_nuclei(mpp, config.threshold_od)


def haematoxylin_od(tile: RGB) -> NDArray[np.float32]:
    """Return the optical density of haematoxylin, (height, width), of pixels (height, width, 3).

    The stains are unmixed as by Ruifrok and Johnston (2001).
    """
    return np.asarray(rgb2hed(tile)[..., 0] * HED_UNIT_OD, dtype=np.float32)


def watershed_nuclei(mpp: float, threshold_od: float = THRESHOLD_OD, area_um2: tuple[float, float] = AREA_UM2) -> Segmenter:
    """Make a segmenter that needs no trained weights: threshold on haematoxylin, then a watershed from the middles of the nuclei.

    Parameters
    ----------
    mpp
        Pixel size of the tiles, µm.
    threshold_od
        Least optical density of haematoxylin in a nucleus; one value for a whole slide, so that tiles agree.
    area_um2
        Smallest and largest nucleus.
    """

    def segment(tile: RGB) -> NDArray[np.int32]:
        density = gaussian_filter(haematoxylin_od(tile), SMOOTH_UM / mpp, truncate=3)
        # Short of the usual reach of four sigma, so that what lies beyond half the overlap of tiles has no say.
        around = gaussian_filter(density, AROUND_UM / mpp, truncate=2)
        nuclei = (density > threshold_od) & (density > around + CONTRAST_OD)
        mask = binary_opening(nuclei, disk(round(NECK_UM / mpp)))  # type: ignore[no-untyped-call]
        labels = _trim(_split(remove_small_holes(mask, max_size=int(area_um2[1] / mpp**2)), mpp), density - around)
        area = np.bincount(labels.ravel()) * mpp**2
        kept = (area >= area_um2[0]) & (area <= area_um2[1])
        return np.where(kept[labels], labels, 0).astype(np.int32)

    return segment


def _split(mask: NDArray[np.bool_], mpp: float) -> NDArray[np.int32]:
    depth = gaussian_filter(distance_transform_edt(mask), SEED_SMOOTH_UM / mpp, truncate=3) * mask
    seeds = np.zeros(mask.shape, dtype=np.int32)
    distance_px = max(1, round(SEED_DISTANCE_UM / mpp))
    peaks = peak_local_max(depth, min_distance=distance_px, exclude_border=False)  # type: ignore[no-untyped-call]
    # Row-major, so that labels do not hang on the order of equal peaks.
    peaks = peaks[np.lexsort(peaks.T[::-1])]
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, seeds, mask=mask), dtype=np.int32)  # type: ignore[no-untyped-call]


def _trim(labels: NDArray[np.int32], contrast: NDArray[np.float32]) -> NDArray[np.int32]:
    """Take the blurred edge off every nucleus: low thresholds reach beyond it where the stain is strong."""
    pixels = np.maximum(np.bincount(labels.ravel()), 1)
    mean = np.bincount(labels.ravel(), contrast.ravel()) / pixels
    return np.where(contrast > EDGE_SHARE * mean[labels], labels, 0)


def cellpose_nuclei(weights: Path | str, *, gpu: bool) -> Segmenter:
    """Make a segmenter from Cellpose 4 and weights on disk; nothing is ever downloaded.

    Cellpose-SAM is made for nuclei of 7.5 to 120 px: at 0.25 µm/px, all nuclei of an H&E.

    Raises
    ------
    UserError
        If the weights are missing or not those of Cellpose 4, or the package is not installed.
    """
    names = _tensors(Path(weights))
    try:
        models = import_module("cellpose.models")
    except ModuleNotFoundError as error:
        raise UserError("run file", "segmentation.method", f"cellpose: {error}", "pip install 'nuclass-pipeline[cellpose]'") from error
    try:
        model = models.CellposeModel(pretrained_model=str(weights), gpu=gpu, use_bfloat16=gpu)
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(weights, "weights", f"Cellpose cannot load them ({_first_line(error)})", CELLPOSE_REMEDY) from error
    # Cellpose leaves tensors that the file lacks at random values.
    if missing := sorted(name for name in model.net.state_dict() if name.startswith(("encoder.", "out.")) and name not in names):
        raise UserError(weights, "weights", f"{len(missing)} tensors are missing, first {missing[0]}", CELLPOSE_REMEDY)

    def segment(tile: RGB) -> NDArray[np.int32]:
        return np.asarray(model.eval(tile)[0], dtype=np.int32)

    return segment


def _tensors(weights: Path) -> set[str]:
    """Return the names of the tensors in a file of weights.

    Cellpose downloads its default weights where the path names no file, so it must never see such a path.
    """
    if not weights.is_file():
        raise UserError(weights, "weights", "a folder, not a file" if weights.is_dir() else "there is no such file", CELLPOSE_REMEDY)
    import torch

    try:
        state: Any = torch.load(weights, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError) as error:
        problem = f"{weights.stat().st_size} bytes that are not weights of PyTorch ({_first_line(error)})"
        raise UserError(weights, "weights", problem, CELLPOSE_REMEDY) from error
    if not isinstance(state, dict) or "W2" not in {str(name).removeprefix("module.") for name in state}:
        raise UserError(weights, "weights", "not weights of Cellpose 4: the tensor W2 is missing", CELLPOSE_REMEDY)
    return {str(name).removeprefix("module.") for name in state}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
