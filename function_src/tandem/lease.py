"""Keeping a message while it is worked on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from tandem.queues.base import Delivery


@contextlib.contextmanager
def held(delivery: Delivery, lease: float) -> Iterator[None]:
    """Keep telling the queue that the work goes on, from a third of the lease on."""
    loop = asyncio.get_running_loop()
    holding: asyncio.Task[None] | None = None

    async def hold() -> None:
        while True:
            await delivery.working()
            await asyncio.sleep(lease / 3)

    def begin() -> None:
        nonlocal holding
        holding = loop.create_task(hold())

    # Most work is done long before; a timer costs it less than a task.
    timer = loop.call_later(lease / 3, begin)
    try:
        yield
    finally:
        timer.cancel()
        if holding:
            holding.cancel()
