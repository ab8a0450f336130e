"""Train the gate on the outputs of the frozen paths for cells that they were not trained on."""

from collections.abc import Sequence
from pathlib import Path

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train.engine import save_best
from nuclass_pipeline.train.gates.mlp import fit_mlp
from nuclass_pipeline.train.gates.neighbors import fit_neighbors
from nuclass_pipeline.train.gates.outputs import FeatureFile


def train_gate(
    *,
    features: Sequence[Path],
    labels: Sequence[Path],
    splits: Sequence[Path],
    config: GateConfig,
    seed: int,
    checkpoint: Path,
    history: Path,
    device: str = "cpu",
    curves: Path | None = None,
) -> None:
    """Train the gate on the subset `gate` of the slides, and score the mixture on `val`.

    Of the kind `mlp`, the weights with the best macro-F1 on `val` are kept.

    Parameters
    ----------
    features
        Files of `embed_cells`, one per slide.
    labels, splits
        Tables of labels and of the split of the same slides.
    config
        Kind of the gate; sizes, optimiser and terms of the loss of the kind `mlp`; σ of the kind `neighbors`.
    seed
        Seed of the first weights, dropout and the order of cells; the kind `neighbors` draws nothing.
    checkpoint, history
        Checkpoint, and the table of validations.
    device
        `cpu` or `cuda`, for the kind `mlp`; the kind `neighbors` is fitted on the CPU in seconds.
    curves
        Folder for scores, speed and memory over the training of the kind `mlp`; None writes none.

    Raises
    ------
    UserError
        If a file is missing or broken or lacks what the kind needs, the files come from different checkpoints, or a subset has no
        labelled cell.
    """
    slides = [FeatureFile.open(path) for path in features]
    meta = slides[0].meta
    if odd := next((slide for slide in slides if slide.meta != meta), None):
        problem = f"the features come from other checkpoints than {slides[0].path}"
        raise UserError(odd.path, "meta", problem, "Remove both files and run again.")
    files = (slides, labels, splits, config)
    model, result = fit_mlp(*files, seed, device, curves) if config.kind == "mlp" else fit_neighbors(*files)
    save_best(model, meta.model_copy(update={"kind": "gate", "gate": config, "seed": seed}), result, checkpoint, history)
