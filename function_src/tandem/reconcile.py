"""Comparing whole buckets: a merge-join of two sorted listings, in constant memory.

A listing only says where to look. What is done about a key, a delete above all, is decided by
the engine, from what both sides say about that one key when it is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from tandem.change import Change
from tandem.concurrency import together
from tandem.decision import Action, Decision
from tandem.engine import Engine
from tandem.errors import Invalid, TandemError, Throttled
from tandem.rule import Rule
from tandem.stores.base import Entry, ObjectStore

T = TypeVar("T")

# How many keys are looked at or copied at once.
IN_FLIGHT = 32
# How often one request is tried where trying again can help, and the first pause in seconds.
ATTEMPTS = 5
PAUSE = 0.2
# The reasons of a skip that say that both sides agree.
AGREED = frozenset({"equal", "equal by its listing", "on neither side"})


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold what two listings say of one key; at least one of them has it."""

    key: str
    source: Entry | None
    target: Entry | None

    @property
    def looks_equal(self) -> bool:
        """Return whether size and ETag agree; headers, metadata and tags may still differ."""
        here, there = self.source, self.target
        return bool(here and there and (here.size, here.etag) == (there.size, there.etag))


@dataclass(frozen=True, slots=True)
class Finding:
    """Say what was found, or done, about one key at one target.

    `decision` is None if `error` kept it from being made. `size` is the bytes that were copied.
    `foreign` marks a key that only the target has and that the rule leaves alone.
    """

    rule: str
    source: str
    target: str
    key: str
    decision: Decision | None
    error: TandemError | None = None
    size: int = 0
    foreign: bool = False

    @property
    def differs(self) -> bool:
        """Return whether something is, or was, to be done about the key."""
        return self.decision is not None and self.decision.action is not Action.SKIP


async def pairs(
    source: AsyncIterator[Entry],
    target: AsyncIterator[Entry],
    covers: Callable[[str], bool] = lambda _: True,
) -> AsyncGenerator[Pair, None]:
    """Yield each covered key of two sorted listings once, in the order of its UTF-8 bytes.

    Python compares strings by code point, which is the order of their UTF-8 bytes. Raises
    `Invalid` if a listing is not sorted, and whatever a listing raises.
    """
    left, right = _sorted(source, "source"), _sorted(target, "target")
    here, there = await anext(left, None), await anext(right, None)
    while here or there:
        key = min(entry.key for entry in (here, there) if entry)
        pair = Pair(
            key,
            here if here and here.key == key else None,
            there if there and there.key == key else None,
        )
        if pair.source:
            here = await anext(left, None)
        if pair.target:
            there = await anext(right, None)
        if covers(key):
            yield pair


async def _sorted(listing: AsyncIterator[Entry], side: str) -> AsyncGenerator[Entry, None]:
    last: str | None = None
    async for entry in listing:
        if last is not None and entry.key <= last:
            raise Invalid(
                f"the {side} lists {entry.key!r} after {last!r}: "
                "a listing that is not in the order of its keys' UTF-8 bytes cannot be compared"
            )
        last = entry.key
        yield entry


async def listing(
    store: ObjectStore, prefix: str = "", start_after: str = ""
) -> AsyncGenerator[Entry, None]:
    """Yield the current objects of a store, taking the listing up again where it broke off.

    Raises the TandemError that trying again did not mend.
    """
    attempt = 0
    while True:
        try:
            async for entry in store.list(prefix, start_after):
                start_after, attempt = entry.key, 0
                yield entry
        except TandemError as error:
            attempt += 1
            await _pause(error, attempt)
        else:
            return


async def examine(
    engine: Engine,
    rule: Rule,
    target: str,
    *,
    thorough: bool = True,
    start_after: str = "",
    in_flight: int = IN_FLIGHT,
) -> AsyncGenerator[Finding, None]:
    """Yield in the order of keys what `sync` would do about each one, and do nothing.

    `thorough` asks both sides about every key; otherwise pairs that look equal by their
    listings are believed. At most `in_flight` keys are held at once. Raises what a listing raises.
    """

    async def explain(pair: Pair) -> Finding:
        if pair.looks_equal and not thorough:
            return _believed(rule, target, pair)
        try:
            decision = await insist(lambda: engine.explain(rule, target, pair.key))
        except TandemError as error:
            return Finding(rule.name, rule.source, target, pair.key, None, error)
        return _found(rule, target, pair, decision)

    window: deque[asyncio.Task[Finding]] = deque()
    try:
        async with aclosing(_walk(engine, rule, target, start_after)) as walk:
            async for pair in walk:
                window.append(asyncio.create_task(explain(pair)))
                if len(window) >= in_flight:
                    yield await window[0]
                    window.popleft()
            while window:
                yield await window[0]
                window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


async def sync(
    engine: Engine,
    rule: Rule,
    target: str,
    told: Callable[[Finding, str], None],
    *,
    thorough: bool = False,
    start_after: str = "",
    in_flight: int = IN_FLIGHT,
) -> None:
    """Converge every key that `rule` covers at `target`, `in_flight` at a time.

    `told` hears of each key when it is settled, in any order, and from where a later call may
    start after: every key up to there is done. A key that fails is told and stops no other.
    Raises what a listing raises.
    """
    place = _Place(start_after)
    turn = asyncio.Lock()

    async def work(walk: AsyncGenerator[Pair, None]) -> None:
        while True:
            async with turn:
                pair = await anext(walk, None)
                if pair is None:
                    return
                place.begin(pair.key)
            if pair.looks_equal and not thorough:
                finding = _believed(rule, target, pair)
            else:
                finding = await _converge(engine, rule, target, pair)
            place.end(pair.key, done=finding.error is None)
            told(finding, place.after)

    async with aclosing(_walk(engine, rule, target, start_after)) as walk:
        await together(*(work(walk) for _ in range(in_flight)))


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns, trying a few times where trying again can help."""
    number = 0
    while True:
        try:
            return await attempt()
        except TandemError as error:
            number += 1
            await _pause(error, number)


async def _pause(error: TandemError, attempt: int) -> None:
    """Wait before the next attempt, or raise `error` if there is none."""
    if not error.retryable or attempt >= ATTEMPTS:
        raise error
    asked = error.retry_after if isinstance(error, Throttled) else None
    jitter = random.uniform(0.5, 1.5)  # noqa: S311 -- to spread load, not to keep a secret
    await asyncio.sleep(max(asked or 0.0, PAUSE * 2 ** (attempt - 1) * jitter))


def _walk(engine: Engine, rule: Rule, target: str, start_after: str) -> AsyncGenerator[Pair, None]:
    return pairs(
        listing(engine.stores[rule.source], rule.prefix, start_after),
        listing(engine.stores[target], rule.prefix, start_after),
        rule.covers,
    )


async def _converge(engine: Engine, rule: Rule, target: str, pair: Pair) -> Finding:
    change = _hint(rule, target, pair)
    try:
        outcome = await insist(lambda: engine.converge(rule, target, change))
        decision, size = outcome.decision, outcome.size
        while outcome.recheck is not None:
            # A request that was given up may still be carried out: look once more after that.
            await asyncio.sleep(outcome.recheck)
            outcome = await insist(lambda: engine.converge(rule, target, change))
    except TandemError as error:
        return Finding(rule.name, rule.source, target, pair.key, None, error)
    return _found(rule, target, pair, decision, size)


def _hint(rule: Rule, target: str, pair: Pair) -> Change:
    """Return the change of a pair; a size invites the engine to read before it compares."""
    here, there = pair.source, pair.target
    if here is None or (there is not None and here.size == there.size):
        return Change(rule.source, pair.key, rule=rule.name, target=target)
    return Change(
        rule.source, pair.key, etag=here.etag, size=here.size, rule=rule.name, target=target
    )


def _believed(rule: Rule, target: str, pair: Pair) -> Finding:
    return _found(rule, target, pair, Decision(Action.SKIP, "equal by its listing"))


def _found(rule: Rule, target: str, pair: Pair, decision: Decision, size: int = 0) -> Finding:
    foreign = (
        pair.source is None and decision.action is Action.SKIP and decision.reason not in AGREED
    )
    return Finding(rule.name, rule.source, target, pair.key, decision, size=size, foreign=foreign)


class _Place:
    """Know up to where everything is done, while many keys are under way."""

    def __init__(self, start_after: str) -> None:
        self._last = start_after
        # Each key under way, in order, with the key before it.
        self._under_way: dict[str, str] = {}
        self._stuck: str | None = None

    def begin(self, key: str) -> None:
        self._under_way[key] = self._last
        self._last = key

    def end(self, key: str, *, done: bool) -> None:
        before = self._under_way.pop(key)
        if not done and (self._stuck is None or before < self._stuck):
            self._stuck = before

    @property
    def after(self) -> str:
        """Return the key up to which, itself included, every key is done."""
        reached = next(iter(self._under_way.values()), self._last)
        return reached if self._stuck is None else min(reached, self._stuck)
