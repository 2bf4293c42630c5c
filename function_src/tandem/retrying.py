"""Trying again where trying again can help, for callers that have no queue to wait in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tandem.errors import TandemError

T = TypeVar("T")

# How often one request is tried where trying again can help, and the first pause in seconds.
ATTEMPTS = 5
PAUSE = 0.2


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns, trying a few times where trying again can help."""
    number = 0
    while True:
        try:
            return await attempt()
        except TandemError as error:
            number += 1
            await pause(error, number)


async def pause(error: TandemError, attempt: int) -> None:
    """Wait before the next attempt, or raise `error` if there is none."""
    if not error.retryable or attempt >= ATTEMPTS:
        raise error
    jitter = random.uniform(0.5, 1.5)  # noqa: S311 -- to spread load, not to keep a secret
    await asyncio.sleep(max(error.retry_after or 0.0, PAUSE * 2 ** (attempt - 1) * jitter))
