"""Putting a file or a pipe into a store, in parts if it is large."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import BinaryIO

from tandem.concurrency import together
from tandem.errors import Invalid
from tandem.retrying import insist
from tandem.stores.base import Content, ObjectStore, Part

MIB = 1024 * 1024
# What goes up in one request, and how many parts are held in memory at once: 64 MiB in all.
PART = 16 * MIB
AT_ONCE = 4


async def upload(store: ObjectStore, key: str, source: BinaryIO, content: Content) -> int:
    """Put everything that `source` holds under `key`; return its size in bytes.

    An upload that fails is dropped, and the key stays as it was.
    """
    first = await asyncio.to_thread(source.read, PART)
    if len(first) < PART:
        await insist(lambda: store.put(key, first, content))
        return len(first)
    upload_id = await insist(lambda: store.create_upload(key, content))
    try:
        parts = _Parts(store, key, upload_id, source, first)
        await together(*(parts.send() for _ in range(AT_ONCE)))
        await insist(lambda: store.complete_upload(key, upload_id, parts.in_order()))
    except BaseException:
        # An interrupt too; what is left of an upload costs its owner money.
        await asyncio.shield(store.abort_upload(key, upload_id))
        raise
    return sum(part.size for part in parts.in_order())


class _Parts:
    """Hand out the parts of a source one after another, to whoever sends the next."""

    def __init__(
        self, store: ObjectStore, key: str, upload_id: str, source: BinaryIO, first: bytes
    ) -> None:
        self.store = store
        self.key = key
        self.upload_id = upload_id
        self.source = source
        self.next = first
        self.count = 0
        self.sent: dict[int, Part] = {}
        self.turn = asyncio.Lock()

    async def send(self) -> None:
        """Send parts until there are no more."""
        while True:
            number, body = await self._take()
            if not body:
                return
            self.sent[number] = await insist(partial(self._send, number, body))

    async def _send(self, number: int, body: bytes) -> Part:
        return await self.store.upload_part(self.key, self.upload_id, number, body)

    async def _take(self) -> tuple[int, bytes]:
        async with self.turn:
            body = self.next
            if body:
                self.count += 1
                if self.count > self.store.capabilities.max_parts:
                    most = self.store.capabilities.max_parts * PART // (MIB * 1024)
                    raise Invalid(f"{self.key!r} is larger than the {most} GiB that put can carry")
                self.next = await asyncio.to_thread(self.source.read, PART)
            return self.count, body

    def in_order(self) -> tuple[Part, ...]:
        """Return the parts that were sent, by number."""
        return tuple(self.sent[number] for number in sorted(self.sent))
