"""How far running jobs are, from the ends of their logs."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

LINE = re.compile(rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) INFO [\w.]+: progress ([\d.]+) %: (.+)$", re.MULTILINE)
"""A line of `nuclass_pipeline.runtime.log_progress`."""
MAX_BYTES = 2**20
"""Most of a log that one look reads."""


@dataclass(frozen=True)
class Step:
    """A line about progress: when it was written, the share done, and its words."""

    seconds: float
    share: float
    text: str


@dataclass
class Tail:
    """The progress in the log of one job.

    Attributes
    ----------
    path
        The log; it may be missing, or be that of an earlier run until the job begins.
    """

    path: Path | None
    first: Step | None = None
    last: Step | None = None
    seen_at: float = 0.0
    _offset: int = 0
    _old: tuple[int, int] | None = field(default=None)

    def __post_init__(self) -> None:
        self._old = self._state()

    def look(self, now: float) -> bool:
        """Read what is new at a time `now`, seconds; return whether the job has reported progress."""
        fresh = list(self._steps())
        if fresh:
            # Restarted where it goes back, because the log may be that of a second attempt.
            again = self.first is None or (self.last is not None and fresh[0].share < self.last.share)
            self.first = fresh[0] if again else self.first
            self.last, self.seen_at = fresh[-1], now
        return bool(fresh)

    def seconds_left(self, now: float) -> float | None:
        """Return how long the job still takes at the speed so far, or nothing while that is unknown."""
        if self.first is None or self.last is None or self.last.share <= self.first.share:
            return None
        speed = (self.last.share - self.first.share) / max(self.last.seconds - self.first.seconds, 1e-3)
        return max((1 - self.last.share) / speed - (now - self.seen_at), 0)

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat() if self.path else None
        except OSError:
            return None
        return (found.st_size, found.st_mtime_ns) if found else None

    def _steps(self) -> Iterator[Step]:
        for time, milliseconds, per_cent, words in LINE.findall(self._new_text()):
            with suppress(ValueError):  # A log may hold anything.
                seconds = datetime.fromisoformat(time.decode()).timestamp() + int(milliseconds) / 1000
                yield Step(seconds, float(per_cent) / 100, words.decode("utf-8", errors="replace"))

    def _new_text(self) -> bytes:
        """Return the lines since the last look."""
        state = self._state()
        # The same state is that of an earlier run, because a job writes its log from the start.
        if self.path is None or state is None or state == self._old:
            return b""
        self._old = None
        # From the start where it is shorter, because a second attempt writes it again.
        self._offset = max(self._offset if state[0] >= self._offset else 0, state[0] - MAX_BYTES)
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                text = stream.read(MAX_BYTES)
        except OSError:
            return b""
        # Whole lines only, because the job may be writing the last one.
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        return text
