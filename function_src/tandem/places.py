"""One bad target never holds back the others: a bound on the slots that it may hold.

A target that refuses is over at once, and comes again later. One that takes requests and never
answers holds a slot until the request's time-out; without a bound it would soon hold all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tandem.errors import Transient

# For how many seconds nothing has to end at a full target before its places are not waited for.
PATIENCE = 2.0


@dataclass(eq=False)
class _Target:
    held: int = 0
    # When something last ended there, or began after a rest, in seconds of the loop's clock.
    ended: float = 0.0
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class Places:
    """Let each target hold so many slots of a worker, and no more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._targets: defaultdict[str, _Target] = defaultdict(_Target)

    @asynccontextmanager
    async def at(self, name: str) -> AsyncIterator[None]:
        """Hold a place at a target; where none is free, wait for as long as some become free.

        Raises Transient if nothing ends there for PATIENCE seconds.
        """
        target, clock = self._targets[name], asyncio.get_running_loop().time
        while target.held >= self._most:
            target.freed.clear()
            try:
                async with asyncio.timeout_at(max(target.ended + PATIENCE, clock())):
                    await target.freed.wait()
            except TimeoutError:
                if target.held >= self._most and clock() >= target.ended + PATIENCE:
                    raise Transient(
                        f"{name} leaves {target.held} requests without an end; others go first"
                    ) from None
        if not target.held:
            target.ended = clock()  # what comes now has had no time to end
        target.held += 1
        stuck = False
        try:
            yield
        except (Transient, asyncio.CancelledError):
            stuck = True
            raise
        finally:
            target.held -= 1
            if not stuck:
                target.ended = clock()
            target.freed.set()
