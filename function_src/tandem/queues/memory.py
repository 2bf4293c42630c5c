"""A queue in memory, with leases and redelivery like the real ones. It keeps nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tandem.attempt import Attempt
from tandem.change import Change, encode
from tandem.errors import ErrorClass
from tandem.queues.base import Backlog, Failure
from tandem.settings import HISTORY


@dataclass(eq=False)
class MemoryDelivery:
    """One message, and when it may be delivered next, by the event loop's clock."""

    queue: MemoryQueue
    site: str
    body: bytes
    received: datetime
    attempt: int = 0
    due: float = 0.0
    repeated: bool = False

    async def done(self) -> None:
        """Settle: the work is finished."""
        self.queue.forget(self)

    async def retry(self, delay: float) -> None:
        """Settle: deliver again after `delay` seconds."""
        self.due = asyncio.get_running_loop().time() + delay
        self.queue.wake()

    async def working(self) -> None:
        """Hold the message for another lease."""
        self.due = asyncio.get_running_loop().time() + self.queue.lease


class MemoryQueue:
    """Carry changes within one process; see `tandem.queues.base.Queue`."""

    def __init__(self, lease: float = 10.0) -> None:
        self.lease = lease
        self.told: list[Attempt] = []
        self._listeners: list[asyncio.Queue[Attempt]] = []
        self._messages: list[MemoryDelivery] = []
        self._failures: dict[str, Failure] = {}
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()

    def put(self, site: str, body: bytes, *, repeated: bool = False) -> None:
        """Queue a raw message, as a server that raises notifications does."""
        self._messages.append(
            MemoryDelivery(self, site, body, datetime.now(UTC), repeated=repeated)
        )
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()

    def forget(self, delivery: MemoryDelivery) -> None:
        """Drop a settled message."""
        if delivery in self._messages:
            self._messages.remove(delivery)

    async def receive(self) -> MemoryDelivery:
        """Wait for the next message that is due."""
        now = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            nearest = min(self._messages, key=lambda message: message.due, default=None)
            if nearest and nearest.due <= now():
                nearest.attempt += 1
                nearest.due = now() + self.lease
                return nearest
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(nearest.due if nearest else None):
                    await self._changed.wait()

    async def send(self, *changes: Change) -> None:
        """Queue changes."""
        for change in changes:
            self.put(change.site, encode(change))

    async def fail(self, failure: Failure) -> None:
        """Keep a failure."""
        kept = replace(failure, id=str(next(self._ids)))
        self._failures[kept.id] = kept

    async def failures(self, error_class: ErrorClass | None = None) -> AsyncIterator[Failure]:
        """Yield the failures of a class, or of all, oldest first within each class."""
        for one in ErrorClass:
            if error_class in (None, one):
                for failure in list(self._failures.values()):
                    if failure.error_class is one:
                        yield failure

    async def drop(self, failure: Failure) -> None:
        """Forget a failure."""
        self._failures.pop(failure.id, None)

    async def failed(self) -> dict[str, dict[ErrorClass, int]]:
        """Return how many failures are kept, by rule and class."""
        found: dict[str, dict[ErrorClass, int]] = {}
        for failure in self._failures.values():
            of_rule = found.setdefault(failure.rule, {})
            of_rule[failure.error_class] = of_rule.get(failure.error_class, 0) + 1
        return found

    async def backlog(self) -> Backlog:
        """Return what is queued or being handled."""
        backlog = Backlog({}, {})
        for message in self._messages:
            backlog.count[message.site] = backlog.count.get(message.site, 0) + 1
            oldest = backlog.oldest.setdefault(message.site, message.received)
            backlog.oldest[message.site] = min(oldest, message.received)
        return backlog

    async def publish_outcome(self, attempt: Attempt) -> None:
        """Remember an attempt, and tell it to whoever listens if it had an outcome."""
        self.told.append(attempt)
        if attempt.outcome:
            for listener in self._listeners:
                listener.put_nowait(attempt)

    @asynccontextmanager
    async def outcomes(self) -> AsyncIterator[AsyncIterator[Attempt]]:
        """Give the outcomes told from now on."""
        heard: asyncio.Queue[Attempt] = asyncio.Queue()
        self._listeners.append(heard)
        try:
            yield _all(heard)
        finally:
            self._listeners.remove(heard)

    async def history(self, key: str) -> list[Attempt]:
        """Return the last attempts at a key, oldest first."""
        counts: Counter[tuple[str, str, bool]] = Counter()
        found = []
        for attempt in reversed(self.told):
            kind = (attempt.rule, attempt.target, attempt.outcome is None)
            if attempt.change.key == key and counts[kind] < HISTORY:
                counts[kind] += 1
                found.append(attempt)
        return found[::-1]

    async def close(self) -> None:
        """Hand back what was received and not settled."""
        for message in self._messages:
            message.due = 0.0


async def _all(heard: asyncio.Queue[Attempt]) -> AsyncIterator[Attempt]:
    while True:
        yield await heard.get()
