"""Reading a source once for all the targets of one change.

Nobody waits for anybody: who comes too late for a reading makes one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tandem.errors import Conflict
from tandem.stores.base import ObjectState, ObjectStore

Body = bytes | bytearray

# An object that its notification calls no larger than this, in bytes, is read at once.
EAGER = 64 * 1024


async def glance(source: ObjectStore, key: str) -> tuple[ObjectState | None, Body | None]:
    """Look at a key by reading it, which saves small objects a request.

    Returns no state if the key is absent by positive evidence, no body if it is over EAGER. So
    small a body is not counted against the transfer's bound of memory: there are never more of
    them than a worker has slots.
    """
    async with source.open(key) as reader:
        if reader is None:
            return None, None
        return reader.state, await reader.read() if reader.state.size <= EAGER else None


async def read(
    source: ObjectStore,
    state: ObjectState,
    span: tuple[int, int] | None = None,
    version_id: str | None = None,
) -> Body:
    """Read the object that `state` describes, or a span of it, pinned to its ETag.

    Raises `Conflict` if the source no longer holds that very object.
    """
    async with source.open(
        state.key, span=span, if_match=state.etag, version_id=version_id
    ) as reader:
        if reader is None:
            raise Conflict(f"{source.site}:{state.key} was deleted while it was being read")
        return await reader.read()


@dataclass
class _Held:
    """A body that is being read or has been, and how many targets want it."""

    reading: asyncio.Task[Body]
    users: int = 0


class SharedReading:
    """Read the source of one change for the targets that converge upon it at once.

    It lives for one delivery of the change's message: what comes again is read anew.
    """

    def __init__(self) -> None:
        self._glance: asyncio.Task[tuple[ObjectState | None, Body | None]] | None = None
        self._begun = False
        self._held: dict[str, _Held] = {}

    async def glance(self, source: ObjectStore, key: str) -> tuple[ObjectState | None, Body | None]:
        """Do as the function `glance`, once for all who ask before the reading begins.

        Who asks later looks for itself: a look that began before its convergence did may be of
        a state that was over when the change came (docs/contract.md, "Why it converges").
        """
        if self._begun:
            return await glance(source, key)
        if self._glance is None:
            # It begins when all who are ready now have had their turn, and so could ask.
            self._glance = asyncio.create_task(self._begin(source, key))
        return await asyncio.shield(self._glance)

    async def _begin(self, source: ObjectStore, key: str) -> tuple[ObjectState | None, Body | None]:
        self._begun = True
        return await glance(source, key)

    @asynccontextmanager
    async def whole(self, source: ObjectStore, state: ObjectState) -> AsyncIterator[Body]:
        """Hold the bytes that `read` gives, read once for all who want them at the same time.

        They are those of one ETag, which each target has seen for itself, so it does not matter
        when they were read. They are let go of with the last who holds them.
        """
        held = self._held.get(state.etag)
        if held is None:
            reading = asyncio.create_task(read(source, state))
            held = self._held[state.etag] = _Held(reading)
        held.users += 1
        try:
            yield await asyncio.shield(held.reading)
        finally:
            held.users -= 1
            if not held.users:
                del self._held[state.etag]
                held.reading.cancel()
