"""Mean and standard deviation of the features of a training."""

from typing import Literal

import torch
from torch import nn

from nuclass_pipeline.models.layers import Standardization
from nuclass_pipeline.train.dataset import CellDataset

MOMENT_ROWS = 4096
"""Cells read at once; their features take a few MB."""


def set_standardization(layer: nn.Module, cells: CellDataset, source: Literal["image", "context"]) -> None:
    """Set the mean and standard deviation of a `Standardization` from all training cells; any other layer is left alone.

    Of features with views all views count, because the training draws each of them as often.
    """
    if not isinstance(layer, Standardization):
        return
    rows, sums, squares = 0, torch.zeros(layer.mean.shape, dtype=torch.float64), torch.zeros(layer.mean.shape, dtype=torch.float64)
    for start in range(0, len(cells), MOMENT_ROWS):
        batch = cells.__getitems__(range(start, min(start + MOMENT_ROWS, len(cells))))
        values = getattr(batch, source).double().flatten(0, -2)
        rows, sums, squares = rows + len(values), sums + values.sum(0), squares + values.square().sum(0)
    mean = sums / rows
    layer.set(mean.float(), (squares / rows - mean.square()).clamp(min=0).sqrt().float())
