"""What the commands share: the screen, the tables of the project, the check of an organ's name, and work that Ctrl-C ends."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console

from nuclass_pipeline.errors import UserError, explain_machine, explain_memory, first_line, memory_limit_mb
from nuclass_pipeline.vocabulary import ORGANS

# Without markup, because names may hold brackets.
console = Console(markup=False)
LOOK_S = 0.1
"""Time between two looks for a signal."""
REFERENCE_CSV, REFERENCE_JSON = "reference.csv", "reference.json"
"""Files of `nuclass label` about a labelled reference, which no rule of the workflow writes."""
LESS_MEMORY = "Close other programs, or use a machine with more memory."


def shipped_table(name: str) -> Path:
    """Return a table of the folder `config`: of the folder where the command runs, else of the project that holds this code."""
    path = Path("config", name)
    return path if path.is_file() else Path(__file__).parents[3] / path


def is_bundle(source: Path) -> bool:
    """Return whether an input of `nuclass label` is the folder of a Xenium output, or an archive."""
    from nuclass_pipeline.config.slides import ARCHIVES

    return (source / "experiment.xenium").is_file() or (source.is_file() and source.name.lower().endswith(ARCHIVES))


def known_organ(organ: str) -> str:
    """Return the organ; a `UserError` if it is unknown."""
    if organ not in ORGANS:
        raise UserError("nuclass", "--organ", f"{organ!r} is not a known organ", f"Use one of {', '.join(ORGANS)}.")
    return organ


@contextmanager
def recorded_signals() -> Iterator[list[int]]:
    """Keep Ctrl-C and SIGTERM in a list instead of raising, because a library that Python calls back may swallow what is raised."""
    received: list[int] = []
    # Not those that are ignored, because the shell ignores Ctrl-C for what runs in the background.
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_apart(work: Callable[[Callable[[str], None]], None], received: list[int]) -> Iterator[str]:
    """Run `work` in a process of its own, and yield each text that it reports.

    Parameters
    ----------
    work
        Its argument reports a text.
    received
        Signals, of `recorded_signals`; the first one ends that process, whatever library it is in.

    Raises
    ------
    KeyboardInterrupt
        With the number of the signal.
    UserError
        If `work` raises one, or the process runs out of memory.
    RuntimeError
        If it ends in another way; the traceback is a note.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work_apart, args=(work, sender))
    process.start()
    sender.close()
    try:
        while not received:
            if receiver.poll(LOOK_S):
                found = receiver.recv()
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    break
                yield found
        if received:
            raise KeyboardInterrupt(received[0])
    except EOFError:
        process.join()
        raise _end_of(process.exitcode or 0) from None
    finally:
        process.kill()
        process.join()


def _work_apart(work: Callable[[Callable[[str], None]], None], sender: Connection) -> None:
    # Because Ctrl-C reaches both processes, and would cut short what a library reads or waits for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Else this process would go on alone where the other one is killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(sender.send)
        sender.send(None)
    except Exception as error:
        sender.send(_as_sent(error))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def _as_sent(error: Exception) -> Exception:
    """Return an error that can be sent to another process, with the traceback if it is a mistake of the program."""
    if isinstance(error, UserError):
        return error
    if memory := explain_memory(error):
        return UserError(memory.file, memory.field, memory.problem, LESS_MEMORY)
    if machine := explain_machine(error, "."):
        return machine
    unexpected = RuntimeError(f"unexpected {type(error).__name__}: {first_line(error)}")
    unexpected.add_note("".join(traceback.format_exception(error)))
    return unexpected


def _end_of(code: int) -> Exception:
    """Return the error about a process that ended without a word, from its exit code."""
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    # Abort, because that is how libraries in C++ end where there is no memory.
    if -code in {signal.SIGKILL, signal.SIGABRT}:
        return UserError("memory", "limit", f"killed ({name}), probably out of memory; the limit is {memory_limit_mb()} MB", LESS_MEMORY)
    return RuntimeError(f"the process crashed ({name})")
