"""Loaders that yield every cell once per pass."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochShuffle(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone, so that a resumed run gets the same batches.

    Parameters
    ----------
    size
        Number of cells.
    seed
        Seed of the training.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next permutation; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.size).tolist())


def make_loader(dataset: Dataset[Any], batch_size: int, workers: int, shuffle_seed: int | None = None) -> DataLoader[Any]:
    """Return a loader of every cell once per pass.

    Parameters
    ----------
    dataset
        Data set whose `__getitems__` returns whole batches.
    batch_size
        Cells per batch.
    workers
        Loader processes; 0 reads in the calling process.
    shuffle_seed
        Seed of the order; without it cells keep the order of the data set.
    """
    size = len(dataset)  # type: ignore[arg-type]
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=None if shuffle_seed is None else EpochShuffle(size, shuffle_seed),
        num_workers=workers,
        # Kept between epochs, because a new process opens the files of all slides again.
        persistent_workers=workers > 0,
        # Otherwise each pass draws a number from torch's global generator, and dropout depends on when passes begin.
        generator=torch.Generator(),
        # Nothing to collate, because the data sets return whole batches.
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
