"""Loaders that give every cell once per pass."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochShuffle(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.size).tolist())


def make_loader(dataset: Dataset[Any], batch_size: int, workers: int, shuffle_seed: int | None = None) -> DataLoader[Any]:
    """Load every cell once per pass, shuffled if a seed is given."""
    size = len(dataset)  # type: ignore[arg-type]
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=None if shuffle_seed is None else EpochShuffle(size, shuffle_seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        # Otherwise each pass draws a number from torch's global generator, and dropout depends on when passes begin.
        generator=torch.Generator(),
        # The data sets give out whole batches.
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
