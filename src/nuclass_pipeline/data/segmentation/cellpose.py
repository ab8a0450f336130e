"""Nuclei by Cellpose 4 with weights on disk; nothing is downloaded."""

from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.config.image import CELLPOSE_PACKAGE_REMEDY, CELLPOSE_REMEDY, SegmentationConfig
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.segmentation.tiles import Segmenter
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line


def cellpose_segmenter(config: SegmentationConfig, mpp: float, *, gpu: bool) -> Segmenter:
    """Build the segmenter `cellpose`; tiles of any pixel size are passed on as they are."""
    return cellpose_nuclei(config.weights, gpu=gpu)


def cellpose_nuclei(weights: Path | str, *, gpu: bool) -> Segmenter:
    """Build a segmenter from Cellpose 4 and weights on disk; nothing is downloaded.

    Cellpose-SAM is made for nuclei of 7.5 to 120 px: at 0.25 µm/px, all nuclei of an H&E.

    Parameters
    ----------
    weights
        File of weights of Cellpose 4.
    gpu
        Whether to run on the GPU, then in bfloat16.

    Raises
    ------
    UserError
        If the weights are missing or not those of Cellpose 4, or the package is not installed.
    """
    names = _tensors(Path(weights))
    try:
        models = import_module("cellpose.models")
    except ModuleNotFoundError as error:
        raise UserError("run file", "segmentation.method", f"cellpose: {error}", CELLPOSE_PACKAGE_REMEDY) from error
    try:
        model = models.CellposeModel(pretrained_model=str(weights), gpu=gpu, use_bfloat16=gpu)
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(weights, "weights", f"Cellpose cannot load them ({first_line(error)})", CELLPOSE_REMEDY) from error
    # Compared by name, because Cellpose leaves tensors that the file lacks at random values.
    if missing := sorted(name for name in model.net.state_dict() if name.startswith(("encoder.", "out.")) and name not in names):
        raise UserError(weights, "weights", f"{len(missing)} tensors are missing, the first is {missing[0]}", CELLPOSE_REMEDY)

    def segment(tile: RGB) -> NDArray[np.int32]:
        return np.asarray(model.eval(tile)[0], dtype=np.int32)

    return segment


def _tensors(weights: Path) -> set[str]:
    """Return the names of the tensors in a file of weights."""
    # Before Cellpose gets the path, because it downloads its default weights where the file does not exist.
    if not weights.is_file():
        raise UserError(weights, "weights", "is a folder, not a file" if weights.is_dir() else "the file does not exist", CELLPOSE_REMEDY)
    import torch

    try:
        state: Any = torch.load(weights, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError) as error:
        problem = f"its {weights.stat().st_size} bytes are not weights of PyTorch ({first_line(error)})"
        raise UserError(weights, "weights", problem, CELLPOSE_REMEDY) from error
    if not isinstance(state, dict) or "W2" not in {str(name).removeprefix("module.") for name in state}:
        raise UserError(weights, "weights", "are not those of Cellpose 4: the tensor W2 is missing", CELLPOSE_REMEDY)
    return {str(name).removeprefix("module.") for name in state}
