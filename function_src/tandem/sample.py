"""Reading a random sample of the objects on both sides, to see that their bytes are the same.

Everything else compares what servers tell of the bytes; only this reads them.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from tandem.concurrency import Budget, both
from tandem.errors import Conflict
from tandem.stores.base import ObjectStore

# How many bytes one request reads, and how many are held at once, of all keys and both sides.
CHUNK = 1024 * 1024
BUDGET = 32 * 1024 * 1024
# Seeds are numbers below this: short enough to type again.
SEEDS = 2**32
# Digits of a digest that are enough to tell two contents apart by eye.
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold the size in bytes of an object that was read on both sides, and their SHA-256 in hex."""

    size: int
    source: str
    target: str

    @property
    def differs(self) -> bool:
        """Return whether the two sides hold different bytes."""
        return self.source != self.target

    @property
    def told(self) -> str:
        """Return in words what was read."""
        here, there = self.source[:SHOWN], self.target[:SHOWN]
        return f"its bytes differ: SHA-256 {here}… at the source, {there}… at the target"


class Sample:
    """Pick `percent` of all keys at random, the same ones whenever `seed` is the same."""

    def __init__(self, percent: float, seed: int) -> None:
        self._share = percent / 100
        self._salt = (seed % SEEDS).to_bytes(4)
        self._budget = Budget(BUDGET)

    def picks(self, key: str) -> bool:
        """Return whether the sample holds `key`."""
        digest = hashlib.blake2b(key.encode(), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest) < self._share * 2**64

    async def read(
        self, source: ObjectStore, target: ObjectStore, key: str, target_key: str
    ) -> Reading:
        """Read an object on both sides, under what each calls it, a piece at a time.

        Raises `Conflict` if it is put or deleted meanwhile, and whatever else reading raises.
        """
        here, there = await both(_Side.of(source, key), _Side.of(target, target_key))
        for first in range(0, max(here.size, there.size), CHUNK):
            async with self._budget.take(2 * CHUNK):
                await both(here.read(first), there.read(first))
        return Reading(here.size, here.digest.hexdigest(), there.digest.hexdigest())


@dataclass(slots=True)
class _Side:
    """One side's object: a piece of it is good only while its ETag is still the same."""

    store: ObjectStore
    key: str
    etag: str
    size: int
    digest: hashlib._Hash

    @classmethod
    async def of(cls, store: ObjectStore, key: str) -> _Side:
        state = await store.head(key)
        if state is None:
            raise _gone(store, key)
        return cls(store, key, state.etag, state.size, hashlib.sha256())

    async def read(self, first: int) -> None:
        last = min(first + CHUNK, self.size) - 1
        if last < first:
            return
        async with self.store.open(self.key, span=(first, last), if_match=self.etag) as reader:
            if reader is None:
                raise _gone(self.store, self.key)
            piece = await reader.read()
        await asyncio.to_thread(self.digest.update, piece)


def _gone(store: ObjectStore, key: str) -> Conflict:
    return Conflict(f"{store.site}:{key} was deleted while it was read")
