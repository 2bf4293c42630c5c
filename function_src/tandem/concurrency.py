"""Running things at once: a bound in bytes, and a group that fails plainly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Budget:
    """Bound the bytes held in memory; whoever asks first is served first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of the budget, waiting until they are free.

        Raises ValueError if `size` is more than the whole budget.
        """
        if size > self.total:
            raise ValueError(f"{size} bytes were asked of a budget of {self.total}")
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Run all of `work` at once; at the first failure cancel the rest and raise that failure.

    A TaskGroup would raise an ExceptionGroup, whose class no `except Conflict` could see.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failures:
        raise _first(failures) from failures


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Run two things at once and return both results; fail as `together` does."""
    beside = asyncio.ensure_future(second)
    try:
        return await first, await beside
    finally:
        if not beside.done():
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
        elif not beside.cancelled():
            beside.exception()  # seen, should `first` have failed before it


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = failures.exceptions[0]
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
