"""Stopping in time: what can still be finished before a deadline, by the rate seen so far."""

from __future__ import annotations

import asyncio
from collections import deque

# The time in seconds that is kept to hand the rest on.
RESERVE = 1.0
# A part may take so many times what the slowest of the last few took.
CAUTION = 1.5
RECENT = 8


class Pace:
    """Measure how fast bytes move, and say whether more of them can be moved in time.

    `deadline` is a moment of the running event loop's clock, which is `time.monotonic`'s; None
    if there is none. `end` is the moment at which the work must have stopped.
    """

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.end = None if deadline is None else deadline - RESERVE
        self._seconds_per_byte: deque[float] = deque(maxlen=RECENT)

    def note(self, size: int, seconds: float) -> None:
        """Learn that `size` bytes took so many seconds."""
        self._seconds_per_byte.append(seconds / size)

    def allows(self, size: int) -> bool:
        """Return whether `size` bytes more can be moved in time.

        While nothing is known, as much is begun as there is time for: else a slow start would be
        the last.
        """
        if self.end is None:
            return True
        slowest = max(self._seconds_per_byte, default=0.0)
        return self.end - asyncio.get_running_loop().time() > CAUTION * slowest * size
