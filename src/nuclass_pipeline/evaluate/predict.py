"""Predictions of the two paths and the gate, from the outputs of the frozen paths."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import damaged_h5, open_h5, read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, PREDICTIONS, SPLIT

if TYPE_CHECKING:
    from nuclass_pipeline.train.gate import FeatureFile

# Bounded, because the gate's activations for all cells of a large slide at once take gigabytes.
PREDICT_BATCH = 4096


def predict_slide(
    *, features: Path, checkpoint: Path, cells: Path, labels: Path, split: Path, patches: Path, local: Path, global_: Path, gate: Path
) -> None:
    """Write the predictions of both paths and of the gate for every cell of a feature file.

    Parameters
    ----------
    features
        File of `embed_cells`.
    checkpoint
        Checkpoint of the gate.
    cells, labels, split
        Tables of the slide.
    patches
        File of the context windows; its `padded` flags windows that reach over the edge of the image.
    local, global_, gate
        Tables of predictions of the local path (g = 0), the global path (g = 1) and the gate.

    Raises
    ------
    UserError
        If a file is missing or broken, or the gate was trained on other models.
    """
    from nuclass_pipeline.train.gate import FeatureFile

    source = FeatureFile.open(features)
    frame = describe_cells(source, cells, labels, split, patches)
    local_p, global_p, g = run_gate(source, checkpoint)
    for path, weight in ((local, np.zeros_like(g)), (global_, np.ones_like(g)), (gate, g)):
        p = (1 - weight[:, None]) * local_p + weight[:, None] * global_p
        write_table(prediction_table(frame, p, weight, source.meta.classes), path, PREDICTIONS)


def prediction_table(frame: pd.DataFrame, p: NDArray[np.float32], g: NDArray[np.float32], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of N cells with the predicted class, g (N,) and the probabilities (N, C) as columns `p_<class>`."""
    columns = {f"p_{name}": p[:, number] for number, name in enumerate(classes)}
    return frame.assign(predicted=np.array(classes, dtype=object)[p.argmax(1)], gate_weight=g, **columns)


def describe_cells(source: "FeatureFile", cells: Path, labels: Path, split: Path, patches: Path) -> pd.DataFrame:
    """Return label, subset, block, position and padding of the cells of a feature file, in its order.

    Raises
    ------
    UserError
        If a file is missing or broken, or lacks one of the cells.
    """
    tables = {
        labels: read_table(labels, LABELS, ["cell_id", "label"]),
        split: read_table(split, SPLIT, ["cell_id", "subset", "block"]),
        cells: read_table(cells, CELLS, ["cell_id", "x_um", "y_um"]),
        patches: _read_padding(patches),
    }
    frame = pd.DataFrame({"cell_id": source.cells})
    for path, table in tables.items():
        if len(absent := source.cells.difference(pd.Index(table["cell_id"]))):
            problem = f"{len(absent)} cells of {source.path} are missing, the first is {absent[0]}"
            raise UserError(path, "cell_id", problem, "Remove both files and run again.")
        frame = frame.merge(table, on="cell_id", how="left", validate="one_to_one")
    return frame


def run_gate(source: "FeatureFile", checkpoint: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return p_local and p_global (N, C), and the gate's g (N,).

    Raises
    ------
    UserError
        If the checkpoint is missing or broken, or the gate was trained on other models.
    """
    import torch

    from nuclass_pipeline.models.gate import restore_gate

    model, meta = restore_gate(checkpoint)
    if (meta.classes, meta.dims) != (source.meta.classes, source.meta.dims):
        problem = f"the gate was trained on other models than those of {source.path}"
        raise UserError(checkpoint, "classes", problem, "Train the gate again, on features of these models.")
    outputs = source.read(np.arange(len(source.cells)))
    with torch.inference_mode():
        batches = zip(*(torch.split(tensor, PREDICT_BATCH) for tensor in outputs), strict=True)
        g = torch.cat([torch.sigmoid(model(*batch)) for batch in batches])
    return outputs[2].numpy(), outputs[3].numpy(), g.numpy()


def _read_padding(path: Path) -> pd.DataFrame:
    try:
        with open_h5(path) as file:
            if missing := [name for name in ("keys", "padded") if name not in file]:
                raise UserError(path, missing[0], "the dataset is missing", "Make the patches again with this pipeline.")
            return pd.DataFrame({"cell_id": file["keys"].asstr()[:], "padded": file["padded"][:]})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_h5(path, error) from error
