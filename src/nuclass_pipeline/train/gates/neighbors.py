"""Fit of the gate of kind `neighbors`: a temperature, then a logistic regression."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.models.mixture import mix
from nuclass_pipeline.models.neighbors import NeighborGate, neighbor_statistics
from nuclass_pipeline.models.temperature import fit_temperature
from nuclass_pipeline.train.gates.outputs import FeatureFile, no_labeled_cell
from nuclass_pipeline.train.history import FitResult
from nuclass_pipeline.train.losses import balanced_nll

RIDGE = 0.01
"""Weight of the squared coefficients beside the mean loss."""
MAX_ITERATIONS = 200
"""Steps of L-BFGS; it ends after some 30."""


def fit_neighbors(
    slides: Sequence[FeatureFile], labels: Sequence[Path], splits: Sequence[Path], config: GateConfig
) -> tuple[NeighborGate, FitResult]:
    """Fit on the subset `gate`, and score the mixture on `val`; nothing is drawn at random.

    Raises
    ------
    UserError
        If a file is damaged or lacks the places of the cells, or a subset has no labelled cell.
    """
    model = NeighborGate(len(slides[0].meta.classes), config.neighbor_um)
    everyone = [slide.read(np.arange(len(slide.cells)), ["global_p"])[0].double() for slide in slides]
    rows = {subset: _rows(slides, labels, splits, subset) for subset in ("gate", "val")}
    label = {subset: torch.from_numpy(np.concatenate([own for _, own in rows[subset]])).long() for subset in rows}

    def gather(tensors: Sequence[Tensor], subset: str) -> Tensor:
        return torch.cat([tensor[torch.from_numpy(own)] for tensor, (own, _) in zip(tensors, rows[subset], strict=True)])

    model.double()
    model.temperature.fill_(fit_temperature(gather(everyone, "gate").numpy(), label["gate"].numpy()))
    calibrated = [model.calibrate(p) for p in everyone]
    model.prior.copy_(gather(calibrated, "gate").mean(0))
    around = [model.around(p, slide.read_places()) for p, slide in zip(calibrated, slides, strict=True)]
    fitted, held = ((gather(calibrated, subset), gather(around, subset)) for subset in ("gate", "val"))
    statistics = neighbor_statistics(*fitted)
    model.standardize.set(statistics.mean(0), statistics.std(0))
    loss = _fit_weights(model, *fitted, label["gate"])
    return model.float(), _score(model, loss, *held, label["val"])


def _rows(slides: Sequence[FeatureFile], labels: Sequence[Path], splits: Sequence[Path], subset: str) -> list[tuple[Integers, Integers]]:
    files = zip(slides, labels, splits, strict=True)
    found = [slide.labeled_rows(label_file, split_file, subset) for slide, label_file, split_file in files]
    if not sum(len(rows) for rows, _ in found):
        raise no_labeled_cell(splits[0], subset)
    return found


def _fit_weights(model: NeighborGate, p: Tensor, around: Tensor, label: Tensor) -> float:
    nn.init.zeros_(model.weigh.weight)
    nn.init.zeros_(model.weigh.bias)

    def objective() -> Tensor:
        mixture = mix(torch.sigmoid(model(p, around)), around, p)
        return balanced_nll(mixture, label) + RIDGE * model.weigh.weight.square().sum()

    return _minimize([*model.weigh.parameters()], objective)


def _minimize(parameters: Sequence[nn.Parameter], objective: Callable[[], Tensor]) -> float:
    """Fit parameters to a local minimum of an objective by L-BFGS, and return its last value."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(step)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float(objective())


def _score(model: NeighborGate, train_loss: float, p: Tensor, around: Tensor, label: Tensor) -> FitResult:
    with torch.no_grad():
        mixture = mix(torch.sigmoid(model(p.float(), around.float())), around.float(), p.float())
    classes = p.shape[1]
    score = float(multiclass_f1_score(mixture, label, classes, average="macro"))
    row = {
        **{"epoch": 0, "step": 1, "train_loss": train_loss, "val_loss": float(balanced_nll(mixture, label)), "val_macro_f1": score},
        **{"val_accuracy": float(multiclass_accuracy(mixture, label, classes, average="micro")), "lr": 0.0},
    }
    return FitResult(0, score, pd.DataFrame([row]))
