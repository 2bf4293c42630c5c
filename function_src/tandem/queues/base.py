"""The seam between a worker and whatever carries changes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tandem.attempt import Attempt
from tandem.change import Change
from tandem.errors import ErrorClass


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold work that a retry cannot mend, as it lies in the error stream of its class.

    `id` names it within its stream; `attempts` counts deliveries; `since` is when the change
    first arrived and `at` when it was given up, both UTC. `raw` is the undecodable message of
    a `poison` failure, and `change` is then None.
    """

    id: str
    error_class: ErrorClass
    rule: str
    target: str
    change: Change | None
    message: str
    attempts: int
    since: datetime
    at: datetime
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Hold what waits: how many messages for each source site, and when the oldest arrived."""

    count: dict[str, int]
    oldest: dict[str, datetime]


class Delivery(Protocol):
    """Give one message, until it is settled by exactly one of `done` and `retry`.

    `repeated` says that its event was also sent at once, so that most likely it is handled.
    """

    site: str
    body: bytes
    repeated: bool

    @property
    def attempt(self) -> int:
        """Return how often the message has been delivered, this time included."""
        ...

    @property
    def received(self) -> datetime:
        """Return when the message arrived."""
        ...

    async def done(self) -> None:
        """Settle: the work is finished, or has been handed to an error stream."""
        ...

    async def retry(self, delay: float) -> None:
        """Settle: deliver again after `delay` seconds, to any worker."""
        ...

    async def working(self) -> None:
        """Say that the work goes on, so that the queue does not deliver the message again yet."""
        ...


class Queue(Protocol):
    """Carry changes to workers at least once, in any order."""

    lease: float

    async def receive(self) -> Delivery:
        """Wait for the next message. Several callers may wait at once, each gets its own.

        A delivery that hears neither `done`, `retry` nor `working` for `lease` seconds is
        delivered again.
        """
        ...

    async def send(self, *changes: Change) -> None:
        """Queue changes, durably, before returning."""
        ...

    async def fail(self, failure: Failure) -> None:
        """Put a failure into the error stream of its class, durably, before returning."""
        ...

    def failures(self, error_class: ErrorClass | None = None) -> AsyncIterator[Failure]:
        """Yield what lies in the error streams, oldest first within each class."""
        ...

    async def drop(self, failure: Failure) -> None:
        """Remove a failure from its stream; one that is already gone is no error."""
        ...

    async def failed(self) -> dict[str, dict[ErrorClass, int]]:
        """Return how many failures lie in the error streams, by rule and class.

        Messages that were never understood belong to no rule: they are under an empty name.
        """
        ...

    async def backlog(self) -> Backlog:
        """Return what waits to be handled or is being handled."""
        ...

    async def publish_outcome(self, attempt: Attempt) -> None:
        """Tell whoever listens how an attempt ended, without durability and without waiting."""
        ...

    def outcomes(self) -> AbstractAsyncContextManager[AsyncIterator[Attempt]]:
        """Give the attempts with an outcome that are told from now on, by whomever.

        Some may go unheard.
        """
        ...

    async def history(self, key: str) -> list[Attempt]:
        """Return the last attempts at a key of whatever site, oldest first; some may be missing.

        For each rule and target there are at most `tandem.settings.HISTORY` that had an outcome,
        and as many that failed.
        """
        ...

    async def close(self) -> None:
        """Hand back what was received but not settled, and close connections."""
        ...
