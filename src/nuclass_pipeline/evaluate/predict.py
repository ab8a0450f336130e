"""Predictions of the two paths and the gate, from the outputs of the frozen paths."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.calibration import temperature_of
from nuclass_pipeline.evaluate.predictions import adjust
from nuclass_pipeline.io import damaged_h5, open_h5, read_table, read_warnings, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, PREDICTIONS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

if TYPE_CHECKING:
    from nuclass_pipeline.train.gates.outputs import FeatureFile

# Bounded, because the features and the gate's activations for all cells of a large slide at once take gigabytes.
PREDICT_BATCH = 4096
COLLAPSED_SHARE = 0.95
"""Largest share of a slide's cells in one predicted class without a warning."""


def predict_slide(
    *,
    features: Path,
    checkpoint: Path,
    cells: Path,
    labels: Path,
    split: Path,
    patches: Path,
    local: Path,
    global_: Path,
    gate: Path,
    temperatures: Path | None = None,
    seed: int = 0,
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
    temperatures
        Metrics table with the temperature of each model and seed; none for training slides, because temperatures are fitted on them.
    seed
        Seed of the models.

    Raises
    ------
    UserError
        If a file is missing or broken, or the gate was trained on other models.
    """
    from nuclass_pipeline.train.gates.outputs import FeatureFile

    source = FeatureFile.open(features)
    frame = describe_cells(source, cells, labels, split, patches)
    outputs = {"local": local, "global": global_, "gate": gate}
    inherited = read_warnings(features)
    for model, weight, p in run_models(source, checkpoint):
        table = prediction_table(frame, p, weight, source.meta.classes)
        if temperatures:
            table = table.join(calibrated_columns(p, temperature_of(model, seed, temperatures), source.meta.classes, table.index))
        write_table(table, outputs[model], PREDICTIONS, [*inherited, *collapse(table)])


def prediction_table(frame: pd.DataFrame, p: NDArray[np.float32], g: NDArray[np.float32], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of N cells with the predicted class, g (N,) and the probabilities (N, C) as columns `p_<class>`."""
    columns = {f"p_{name}": p[:, number] for number, name in enumerate(classes)}
    return frame.assign(predicted=np.array(classes, dtype=object)[p.argmax(1)], gate_weight=g, **columns)


def calibrated_columns(p: NDArray[np.float32], temperature: float, classes: tuple[str, ...], index: "pd.Index[int]") -> pd.DataFrame:
    """Return `confidence`, the calibrated probability of the predicted class, and the calibrated (N, C) probabilities as `c_<class>`."""
    calibrated = adjust(p.astype(np.float64), temperature).astype(np.float32)
    columns = {f"c_{name}": calibrated[:, number] for number, name in enumerate(classes)}
    return pd.DataFrame({"confidence": calibrated.max(axis=1), **columns}, index=index)


def collapse(table: pd.DataFrame) -> list[str]:
    """Return a warning if nearly all cells of a slide are predicted as one class, although their labels are not of one class."""
    shares = table["predicted"].value_counts(normalize=True)
    if shares.empty or shares.iloc[0] <= COLLAPSED_SHARE:
        return []
    name, labels = str(shares.index[0]), table.loc[table["label"] != UNRESOLVED, "label"]
    expected = float((labels == name).mean()) if len(labels) else None
    if expected is not None and expected > COLLAPSED_SHARE:
        return []
    compared = "the slide has no labels to compare with" if expected is None else f"{100 * expected:.0f} % of its labels are"
    return [f"{100 * shares.iloc[0]:.0f} % of {len(table)} cells are predicted as {name}; {compared}"]


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


def run_models(source: "FeatureFile", checkpoint: Path) -> list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Return each model with its weight of the global path (N,) and its probabilities (N, C).

    Raises
    ------
    UserError
        If the checkpoint is missing or broken, or the gate was trained on other models.
    """
    import torch

    from nuclass_pipeline.models.gate import restore_gate
    from nuclass_pipeline.models.mixture import mix
    from nuclass_pipeline.models.neighbors import NeighborGate

    model, meta = restore_gate(checkpoint)
    if (meta.classes, meta.dims, meta.feature_dims) != (source.meta.classes, source.meta.dims, source.meta.feature_dims):
        problem = f"the gate was trained on other models than those of {source.path}"
        raise UserError(checkpoint, "classes", problem, "Train the gate again, on features of these models.")
    everyone = np.arange(len(source.cells))
    probabilities = source.read(everyone, ["local_p", "global_p"])
    with torch.inference_mode():
        if isinstance(model, NeighborGate):
            g, p = model.fuse(probabilities[1], source.read_places())
        else:
            batches = (source.read(rows) for rows in np.split(everyone, range(PREDICT_BATCH, len(everyone), PREDICT_BATCH)))
            g = torch.cat([torch.sigmoid(model(*batch)) for batch in batches])
            p = mix(g, *probabilities)
    weights = {"local": torch.zeros_like(g), "global": torch.ones_like(g), "gate": g}
    return [(name, weights[name].numpy(), found.numpy()) for name, found in zip(weights, (*probabilities, p), strict=True)]


def _read_padding(path: Path) -> pd.DataFrame:
    try:
        with open_h5(path) as file:
            if missing := [name for name in ("keys", "padded") if name not in file]:
                raise UserError(path, missing[0], "the dataset is missing", "Make the patches again with this pipeline.")
            return pd.DataFrame({"cell_id": file["keys"].asstr()[:], "padded": file["padded"][:]})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_h5(path, error) from error
