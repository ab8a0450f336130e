"""Loaders that yield every cell once per pass; processes that train together share each batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.train.loop.processes import process_rank

RUNS_PER_CELL = 2
"""Runs in a bucket for each cell of a batch: few cells of a batch are neighbours then, and the blocks of a bucket fit in 2 GB."""


def share_batches(order: Integers, batch_size: int) -> Integers:
    """Return the cells of an order (N,) that are for this process: its part of each batch of `batch_size`."""
    rank, count = process_rank()
    batches = np.split(order, range(batch_size, len(order), batch_size)) if count > 1 else [order]
    return np.concatenate([np.array_split(batch, count)[rank] for batch in batches])


class InOrder(Sampler[int]):
    """The cells of this process in the order of the data set; of the last batch, processes may get different numbers of cells.

    Parameters
    ----------
    size
        Number of cells.
    batch_size
        Cells per batch of all processes.
    """

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        return len(share_batches(np.arange(self.size), self.batch_size))

    def __iter__(self) -> Iterator[int]:
        return iter(share_batches(np.arange(self.size), self.batch_size).tolist())


class EpochShuffle(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone, so that a resumed run gets the same batches.

    Each of the processes that train together gets the same number of cells. Up to their number less one are left out: others in each epoch.

    Parameters
    ----------
    size
        Number of cells.
    seed
        Seed of the training.
    batch_size
        Cells per batch of all processes.
    """

    def __init__(self, size: int, seed: int, batch_size: int) -> None:
        self.size, self.seed, self.batch_size, self.epoch, self._done = size, seed, batch_size, 0, 0

    def start(self, epoch: int, done: int) -> None:
        """Drop the first `done` cells of this process from the next pass, which is of this epoch."""
        self.epoch, self._done = epoch, done

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next permutation; Lightning calls this."""
        self.epoch = epoch

    def permutation(self) -> Integers:
        """Return the order of the cells (N,) in the epoch."""
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.size)

    def __len__(self) -> int:
        return self._used // process_rank()[1]

    def __iter__(self) -> Iterator[int]:
        done, self._done = self._done, 0
        return iter(share_batches(self.permutation()[: self._used], self.batch_size)[done:].tolist())

    @property
    def _used(self) -> int:
        return self.size - self.size % self.batch_size % process_rank()[1]


class RunShuffle(EpochShuffle):
    """A shuffle of runs of neighbours, each bucket of them shuffled within, so that decoded pixels serve several windows.

    Parameters
    ----------
    runs
        Indices of all cells, each in one run.
    seed
        Seed of the training.
    bucket
        Runs in a bucket.
    batch_size
        Cells per batch of all processes.
    """

    def __init__(self, runs: Sequence[Integers], seed: int, bucket: int, batch_size: int) -> None:
        super().__init__(sum(map(len, runs)), seed, batch_size)
        self.runs, self.bucket = runs, bucket

    def permutation(self) -> Integers:
        """Return the order of the cells (N,) in the epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.runs))
        # Equal in size within one run, because the few runs of a small last bucket would share whole batches.
        parts = np.array_split(order, max(1, -(-len(order) // self.bucket)))
        return np.concatenate([rng.permutation(np.concatenate([self.runs[run] for run in part])) for part in parts])


def make_loader(
    dataset: Dataset[Any],
    batch_size: int,
    workers: int,
    shuffle_seed: int | None = None,
    runs: Sequence[Integers] | None = None,
    devices: int = 1,
) -> DataLoader[Any]:
    """Return a loader of every cell once per pass.

    Parameters
    ----------
    dataset
        Data set whose `__getitems__` returns whole batches.
    batch_size
        Cells per batch, of all devices.
    workers
        Loader processes of each device; 0 reads in the calling process.
    shuffle_seed
        Seed of the order; without it cells keep the order of the data set.
    runs
        Runs of neighbours, if the order is to be that of `RunShuffle`.
    devices
        Devices that share each batch equally, each with this loader in a process of its own.
    """
    size = len(dataset)  # type: ignore[arg-type]
    sampler: Sampler[int] | None = InOrder(size, batch_size) if devices > 1 else None
    if shuffle_seed is not None:
        bucket = RUNS_PER_CELL * batch_size
        sampler = EpochShuffle(size, shuffle_seed, batch_size) if runs is None else RunShuffle(runs, shuffle_seed, bucket, batch_size)
    return DataLoader(
        dataset,
        batch_size=batch_size // devices,
        sampler=sampler,
        num_workers=workers,
        # By a fork whatever Python's default is, because any other loader process gets a copy of the decoded patches.
        multiprocessing_context="fork" if workers else None,
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
