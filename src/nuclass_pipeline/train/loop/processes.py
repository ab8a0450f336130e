"""Processes of one training, one for each device: forked from the job, so they share decoded patches and features."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch import Tensor, distributed

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.runtime import limit_threads

T = TypeVar("T")


def process_rank() -> tuple[int, int]:
    """Return the number of this process and how many train together: 0 and 1 where it trains alone."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def own_part(values: Tensor) -> Tensor:
    """Return the part of this process of what is drawn for a whole batch (B, …)."""
    rank, count = process_rank()
    return values.chunk(count)[rank]


def batch_share(weights: Tensor) -> Tensor | float:
    """Return the factor that makes a weighted mean over the cells of this process its share of that over the whole batch.

    The mean over the processes of all shares is then the weighted mean over the batch, so their gradients are those of one process.

    Parameters
    ----------
    weights
        Weights of the cells of this process (B,).
    """
    if process_rank()[1] == 1:
        return 1.0
    own = weights.sum()
    return own / mean_of_processes(own)


def mean_of_processes(value: Tensor) -> Tensor:
    """Return the mean of a value over all processes, without a gradient."""
    _, count = process_rank()
    if count == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / count


def gather(value: T) -> list[T]:
    """Return the value of each process, in each process."""
    _, count = process_rank()
    if count == 1:
        return [value]
    found: list[Any] = [None] * count
    distributed.all_gather_object(found, value)
    return found


def start_training(seed: int, count: int) -> None:
    """Seed torch, and limit this process to one thread if `count` others are to be forked from it; call this before torch computes."""
    torch.manual_seed(seed)
    # OpenMP's threads are not there in a forked process, which would wait for them for ever.
    if count > 1:
        limit_threads(1)


def run_processes(work: Callable[[int], T], count: int, threads: int) -> T:
    """Return what `work(0)` returns, which runs beside `work(1)` and so on: each in a process of its own, or in this one if `count` is 1.

    The first error of a process ends all of them, and is raised here. They also end if this process does.

    Parameters
    ----------
    work
        What each process does, from its number.
    count
        Processes.
    threads
        Cores of all processes together.
    """
    if count == 1:
        return work(0)
    # Forked, because a fresh process would run the script of the job again, and would get a copy of the cells.
    context, port = multiprocessing.get_context("fork"), find_free_network_port()
    processes: list[BaseProcess] = []
    receivers: list[Connection] = []
    try:
        for rank in range(count):
            receiver, sender = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(target=_run, args=(work, rank, port, max(1, threads // count), sender))
            process.start()
            # Closed here, because the end of the process is seen by the end of its pipe.
            sender.close()
            processes.append(process)
            receivers.append(receiver)
        results: dict[Connection, T] = {}
        while waiting := [receiver for receiver in receivers if receiver not in results]:
            ready = wait(waiting)
            answers = {one: _received(one, process) for one, process in zip(receivers, processes, strict=True) if one in ready}
            _raise_error([answer for answer in answers.values() if isinstance(answer, BaseException)], processes)
            results |= answers
        return results[receivers[0]]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(receiver: Connection, process: BaseProcess) -> Any:
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return RuntimeError("a process of the training ended without a word")


def _raise_error(errors: list[BaseException], processes: list[BaseProcess]) -> None:
    """Raise the cause among errors that came together."""
    if not errors:
        return
    # A user's error first, because the others may only say that its process has gone.
    error = min(errors, key=lambda error: not isinstance(error, UserError))
    # The other processes only see that a killed one has gone.
    killed = [process.exitcode for process in processes if (process.exitcode or 0) < 0]
    if killed and not isinstance(error, UserError):
        raise RuntimeError(f"a process of the training was killed by signal: {signal.strsignal(-int(killed[0] or 0))}")
    raise error


def _run(work: Callable[[int], Any], rank: int, port: int, threads: int, sender: Connection) -> None:
    # The job alone stops its processes, because it says why; Lightning handles SIGTERM again while it trains.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    # Lightning sets its own number of threads where this variable is missing.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Lightning starts no processes where it finds these variables.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        sender.send(work(rank))
    except BaseException as error:
        if not isinstance(error, UserError):
            error.add_note(f"in process {rank} of the training:\n{traceback.format_exc()}")
        _send(sender, error)


def _send(sender: Connection, error: BaseException) -> None:
    try:
        # Some errors of libraries can be pickled, but not unpickled by the job.
        pickle.loads(pickle.dumps(error))
        sender.send(error)
    except Exception:
        sender.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)
