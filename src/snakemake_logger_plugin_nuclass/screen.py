"""Lines on the screen: those that stay, and on a terminal those about running jobs below them."""

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text


class Screen:
    """A stream that shows lines, and on a terminal some that change below them.

    Parameters
    ----------
    stream
        Where to write.
    color
        Whether colors are allowed.
    """

    def __init__(self, stream: TextIO, color: bool) -> None:
        self.console = Console(file=stream, no_color=not color, highlight=False, soft_wrap=True)
        self.live: Live | None = None

    @property
    def is_live(self) -> bool:
        """Whether lines can change, as on a terminal."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def line(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        if self.is_live:
            self.console.print(Text(text, style))
        else:
            # Not by the console, because it would break a line at the width that it assumes for a file.
            print(text, file=self.console.file, flush=True)

    def show(self, lines: Sequence[str]) -> None:
        """Show the lines that change; without a terminal nothing."""
        if not self.is_live:
            return
        if self.live is None:
            self.live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
            self.live.start()
        room = max(self.console.height - 2, 1)
        # The last line is about the whole run, so that a small terminal shows it.
        kept = [*lines[: room - 1], *lines[-1:]] if len(lines) > room else lines
        self.live.update(Group(*(Text(line, "cyan", no_wrap=True, overflow="ellipsis") for line in kept)), refresh=True)

    def close(self) -> None:
        """Remove the lines that change."""
        if self.live is not None:
            self.live.stop()
            self.live = None


def error(text: str) -> None:
    """Print a line of an error, at once."""
    print(text, file=sys.stderr, flush=True)
