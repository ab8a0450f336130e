"""`nuclass`: checks, lists and single steps outside the workflow."""

import os
import signal
import sys
from typing import NoReturn

from nuclass_pipeline.errors import UserError


def _stop(*_: object) -> NoReturn:
    print("stopped; nothing was begun", flush=True)
    os._exit(128 + signal.SIGINT)


def main() -> None:
    """Run the command line; a `UserError` is printed as one line."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.default_int_handler:  # Not where Ctrl-C is ignored, as in the background.
        signal.signal(signal.SIGINT, _stop)
    # Here, because Ctrl-C while the libraries are loaded would print their lines.
    from nuclass_pipeline.cli.app import app

    signal.signal(signal.SIGINT, before)
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
