"""Time that passes only when the test lets it.

`VirtualLoop` is an event loop without a selector: it waits for nothing outside itself, so what
runs on it is the same in every run, and sixty seconds of sleep cost nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualLoop(asyncio.BaseEventLoop):
    """Run tasks and timers in an order that depends on nothing but the calls made here."""

    def __init__(self) -> None:
        super().__init__()
        self._clock_resolution = 0.0  # or a timer would be due a little before its time
        self._now = self._until = 0.0
        self._selector = self  # whom BaseEventLoop asks to wait

    def time(self) -> float:
        return self._now

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._now)

    def run_for(self, seconds: float = 0.0) -> None:
        """Do all that is ready, and what becomes ready within `seconds` of this loop's time."""
        self._run_until(self._now + seconds)

    def run_to_timer(self) -> bool:
        """Let the time pass until the next timer is due; return whether there is one."""
        self.run_for()
        waiting = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if waiting:
            self._run_until(min(waiting))
        return bool(waiting)

    def _run_until(self, moment: float) -> None:
        self._until = max(moment, self._now)
        self.run_forever()

    def at_once(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine that never waits returns, as a server carries a request out."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        finally:
            asyncio._set_running_loop(before)
            coroutine.close()
        raise AssertionError("this must not wait")

    def select(self, _timeout: float | None) -> tuple[()]:
        """Let the time pass until the first timer, but no further than was asked for."""
        if self._ready or self._stopping:
            return ()
        first = self._scheduled[0].when() if self._scheduled else math.inf
        if first > self._until:
            self._now = max(self._now, self._until)
            self.stop()
        else:
            # A timer is due when its moment has passed.
            self._now = max(self._now, math.nextafter(first, math.inf))
        return ()

    def _process_events(self, event_list: tuple[()]) -> None:
        """There are no events."""

    def _write_to_self(self) -> None:
        """There is nobody to wake: no other thread calls."""
