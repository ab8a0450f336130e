"""Predictions of the two paths and the gate, from the outputs of the frozen paths."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.calibration import temperature_of
from nuclass_pipeline.evaluate.predictions import adjust
from nuclass_pipeline.io import TableWriter, damaged_h5, find_rows, open_h5, read_compact, read_id_index, read_warnings, whole_files
from nuclass_pipeline.schemas import CELLS, LABELS, PREDICTIONS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

if TYPE_CHECKING:
    from nuclass_pipeline.train.gates.outputs import FeatureFile

# Bounded, because the features and the gate's activations for all cells of a large slide at once take gigabytes.
PREDICT_BATCH = 4096
WRITTEN_ROWS = 4 * PREDICT_BATCH
"""Cells of a row group of the tables."""
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
    device: str = "cpu",
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
    device
        `cpu` or `cuda`, for the gate of kind `mlp`.

    Raises
    ------
    UserError
        If a file is missing or broken, or the gate was trained on other models.
    """
    from nuclass_pipeline.train.gates.outputs import FeatureFile

    source = FeatureFile.open(features)
    described = describe_cells(source, cells, labels, split, patches)
    outputs = {"local": local, "global": global_, "gate": gate}
    scales = {model: temperature_of(model, seed, temperatures) for model in outputs} if temperatures else {}
    predicted: dict[str, Counter[str]] = {model: Counter() for model in outputs}
    with whole_files(*outputs.values()) as partials:
        writers = {model: TableWriter(partial, outputs[model], PREDICTIONS) for model, partial in zip(outputs, partials, strict=True)}
        for rows, found in run_blocks(source, checkpoint, device):
            for model, (weight, p) in found.items():
                table = prediction_table(described.frame(rows), p, weight, source.meta.classes)
                if scales:
                    table = table.join(calibrated_columns(p, scales[model], source.meta.classes, table.index))
                writers[model].append(table)
                predicted[model].update(table["predicted"])
        for model, writer in writers.items():
            writer.close([*read_warnings(features), *collapse(predicted[model], described.count_labels())])


@dataclass(frozen=True)
class DescribedCells:
    """What is known of N cells, in some 40 bytes each.

    Attributes
    ----------
    ids
        (N,) cell ids.
    columns
        (N,) values of each column that is no text.
    texts
        Categories of each column of text, and their numbers (N,).
    """

    ids: "pd.Index[str]"
    columns: dict[str, NDArray[Any]]
    texts: dict[str, tuple[NDArray[np.object_], NDArray[Any]]]

    def frame(self, rows: slice) -> pd.DataFrame:
        """Return the columns of `PREDICTIONS` that are not predicted, of some cells."""
        texts = {name: categories[numbers[rows]] for name, (categories, numbers) in self.texts.items()}
        columns = {name: values[rows] for name, values in self.columns.items()}
        return pd.DataFrame({"cell_id": self.ids[rows].to_numpy(object), **texts, **columns})

    def count_labels(self) -> Counter[str]:
        """Return the number of cells of each label."""
        categories, numbers = self.texts["label"]
        return Counter(dict(zip(categories, np.bincount(numbers, minlength=len(categories)).tolist(), strict=True)))


def prediction_table(frame: pd.DataFrame, p: NDArray[np.float32], g: NDArray[np.float32], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of N cells with the predicted class, g (N,) and the probabilities (N, C) as columns `p_<class>`."""
    columns = {f"p_{name}": p[:, number] for number, name in enumerate(classes)}
    return frame.assign(predicted=np.array(classes, dtype=object)[p.argmax(1)], gate_weight=g, **columns)


def calibrated_columns(p: NDArray[np.float32], temperature: float, classes: tuple[str, ...], index: "pd.Index[int]") -> pd.DataFrame:
    """Return `confidence`, the calibrated probability of the predicted class, and the calibrated (N, C) probabilities as `c_<class>`."""
    calibrated = adjust(p.astype(np.float64), temperature).astype(np.float32)
    columns = {f"c_{name}": calibrated[:, number] for number, name in enumerate(classes)}
    return pd.DataFrame({"confidence": calibrated.max(axis=1), **columns}, index=index)


def collapse(predicted: Counter[str], labels: Counter[str]) -> list[str]:
    """Return a warning if nearly all cells of a slide are predicted as one class, although their labels are not of one class.

    Parameters
    ----------
    predicted, labels
        Number of cells of each predicted class, and of each label.
    """
    cells, labelled = predicted.total(), labels.total() - labels[UNRESOLVED]
    name, most = predicted.most_common(1)[0] if cells else ("", 0)
    if most <= COLLAPSED_SHARE * cells:
        return []
    expected = labels[name] / labelled if labelled else None
    if expected is not None and expected > COLLAPSED_SHARE:
        return []
    compared = "the slide has no labels to compare with" if expected is None else f"{100 * expected:.0f} % of its labels are"
    return [f"{100 * most / cells:.0f} % of {cells} cells are predicted as {name}; {compared}"]


def describe_cells(source: "FeatureFile", cells: Path, labels: Path, split: Path, patches: Path) -> DescribedCells:
    """Return label, subset, block, position and padding of the cells of a feature file, in its order.

    Raises
    ------
    UserError
        If a file is missing or broken, or lacks one of the cells; or if the feature file names a cell twice.
    """
    PREDICTIONS.check(pd.DataFrame({"cell_id": source.cells}), source.path, only=["cell_id"])
    columns: dict[str, NDArray[Any]] = {}
    texts: dict[str, tuple[NDArray[np.object_], NDArray[Any]]] = {}
    readers: dict[Path, Callable[[], pd.DataFrame]] = {
        labels: lambda: read_compact(labels, LABELS, ["cell_id", "label"]),
        split: lambda: read_compact(split, SPLIT, ["cell_id", "subset", "block"]),
        cells: lambda: read_compact(cells, CELLS, ["cell_id", "x_um", "y_um"]),
        patches: lambda: _read_padding(patches),
    }
    # One after the other, because each takes twice the memory of what is kept of it.
    for path, read in readers.items():
        table = read()
        rows = find_rows(source.cells, table.pop("cell_id"))
        if len(absent := source.cells[rows < 0]):
            problem = f"{len(absent)} cells of {source.path} are missing, the first is {absent.min()}"
            raise UserError(path, "cell_id", problem, "Remove both files and run again.")
        for name, values in table.items():
            if values.dtype.kind in "OUST":
                coded = values.astype("category").cat
                texts[str(name)] = np.asarray(coded.categories, object), coded.codes.to_numpy()[rows]
            else:
                columns[str(name)] = values.to_numpy()[rows]
    return DescribedCells(source.cells, columns, texts)


Found = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Of each model, the weight of the global path (B,) and the probabilities (B, C)."""


def run_blocks(source: "FeatureFile", checkpoint: Path, device: str = "cpu") -> Iterator[tuple[slice, Found]]:
    """Yield what the models find, for blocks of cells in the order of the file; at least one, which is empty if there are no cells.

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
    cells = len(source.cells)
    if isinstance(model, NeighborGate):
        # Of all cells at once, because neighbours may lie in any block.
        with torch.inference_mode():
            fused = model.fuse(source.read(np.arange(cells), ["global_p"])[0], source.read_places())
    else:
        model.to(device)
    for begin in range(0, max(1, cells), WRITTEN_ROWS):
        block = slice(begin, min(begin + WRITTEN_ROWS, cells))
        probabilities = source.read(np.arange(block.start, block.stop), ["local_p", "global_p"])
        with torch.inference_mode():
            if isinstance(model, NeighborGate):
                g, p = (values[block] for values in fused)
            else:
                parts = np.split(np.arange(block.start, block.stop), range(PREDICT_BATCH, block.stop - block.start, PREDICT_BATCH))
                batches = ([values.to(device) for values in source.read(rows)] for rows in parts)
                g = torch.cat([torch.sigmoid(model(*batch)).cpu() for batch in batches])
                p = mix(g, *probabilities)
        weights = {"local": torch.zeros_like(g), "global": torch.ones_like(g), "gate": g}
        yield block, {name: (weights[name].numpy(), own.numpy()) for name, own in zip(weights, (*probabilities, p), strict=True)}


def run_models(source: "FeatureFile", checkpoint: Path) -> list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Return each model with its weight of the global path (N,) and its probabilities (N, C), of all cells.

    Raises
    ------
    UserError
        As `run_blocks`.
    """
    blocks = [found for _, found in run_blocks(source, checkpoint)]
    joined = {name: [np.concatenate(parts) for parts in zip(*(block[name] for block in blocks), strict=True)] for name in blocks[0]}
    return [(name, g, p) for name, (g, p) in joined.items()]


def _read_padding(path: Path) -> pd.DataFrame:
    try:
        with open_h5(path) as file:
            if missing := [name for name in ("keys", "padded") if name not in file]:
                raise UserError(path, missing[0], "the dataset is missing", "Make the patches again with this pipeline.")
            return pd.DataFrame({"cell_id": read_id_index(file["keys"]), "padded": file["padded"][:]})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_h5(path, error) from error
