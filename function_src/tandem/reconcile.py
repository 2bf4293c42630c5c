"""Comparing whole buckets, key by key along their listings, in constant memory.

A listing only says where to look. What is done about a key, a delete above all, is decided by
the engine, from what both sides say about that one key when it is asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter

from tandem.concurrency import together
from tandem.decision import EQUAL, UNCOVERED, Action, Decision
from tandem.engine import Engine
from tandem.errors import Conflict, TandemError
from tandem.groups import age
from tandem.late_look import SETTLE
from tandem.listings import Pair, hint, walk
from tandem.outcome import Outcome
from tandem.retrying import insist
from tandem.rule import Rule
from tandem.sample import Reading, Sample

# How many keys are looked at or copied at once.
IN_FLIGHT = 32
BELIEVED = Decision(Action.SKIP, "equal by its listing")
# The reasons of a skip that say that both sides agree.
AGREED = frozenset({EQUAL, BELIEVED.reason, "on neither side"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Say what was found, or done, about one key at one target.

    `key` is the source's, `target_key` what the target calls it.
    `decision` is None if `error` kept it from being made. `size` is the bytes that were copied.
    `foreign` marks a key that only the target has and that the rule leaves alone. `reading` holds
    what reading the bytes of both sides showed, of a key that a sample picked.
    """

    rule: str
    source: str
    target: str
    key: str
    decision: Decision | None
    error: TandemError | None = None
    size: int = 0
    foreign: bool = False
    reading: Reading | None = None
    target_key: str = ""

    @property
    def uncovered(self) -> bool:
        """Return whether the rule leaves the object alone for its tags."""
        return self.decision is not None and self.decision.reason == UNCOVERED

    @property
    def corrupt(self) -> bool:
        """Return whether the bytes differ, though all that is told of them agrees."""
        return self.reading is not None and self.reading.differs

    @property
    def differs(self) -> bool:
        """Return whether something is, or was, to be done about the key."""
        acts = self.decision is not None and self.decision.action is not Action.SKIP
        return acts or self.corrupt or self.gap

    @property
    def gap(self) -> bool:
        """Return whether older versions are missing that came too late for their places."""
        return self.decision is not None and self.decision.lacking > 0


async def examine(
    engine: Engine,
    rule: Rule,
    target: str,
    *,
    thorough: bool = True,
    sample: Sample | None = None,
    start_after: str = "",
    in_flight: int = IN_FLIGHT,
) -> AsyncGenerator[Finding, None]:
    """Yield in the order of keys what `sync` would do about each one, and do nothing.

    `thorough` asks both sides about every key; otherwise pairs that look equal by their
    listings are believed. Of the keys that are equal, those that `sample` picks are read on both
    sides. At most `in_flight` keys are held at once. Raises what a listing raises.
    """
    window: deque[Finding | asyncio.Task[Finding]] = deque()

    async def first() -> Finding:
        found = window[0] if isinstance(window[0], Finding) else await window[0]
        window.popleft()
        return found

    try:
        async with aclosing(
            walk(engine.stores, rule, target, start_after=start_after, thorough=thorough)
        ) as pairs:
            async for pair in pairs:
                picked = sample if sample and sample.picks(pair.key) else None
                if pair.looks_equal and not thorough and not picked:
                    window.append(_found(rule, target, pair, BELIEVED))
                else:
                    work = _explain(engine, rule, target, pair, picked)
                    window.append(asyncio.create_task(work))
                # What is settled goes on at once.
                while window and (isinstance(window[0], Finding) or len(window) >= in_flight):
                    yield await first()
            while window:
                yield await first()
    finally:
        tasks = [one for one in window if isinstance(one, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _explain(
    engine: Engine, rule: Rule, target: str, pair: Pair, sample: Sample | None
) -> Finding:
    """Return what `sync` would do about a key; where that is nothing, read it if `sample` is given.

    What is put or deleted meanwhile is a conflict, upon which both sides are asked again.
    """
    sides, key = (engine.stores[rule.source], engine.stores[target]), pair.key

    async def attempt() -> tuple[Decision, Reading | None]:
        decision = await engine.explain(rule, target, key)
        if not sample or decision.reason != EQUAL or not (pair.source and pair.target):
            return decision, None
        return decision, await sample.read(*sides, key, rule.target_key(key))

    try:
        decision, reading = await insist(attempt)
    except TandemError as error:
        return _failed(rule, target, key, error)
    return replace(_found(rule, target, pair, decision), reading=reading)


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
    Indexes of the rule's groups come last, the oldest first; their keys are held in memory.
    Raises what a listing raises.
    """
    place = _Place(start_after)
    turn = asyncio.Lock()
    indexes: list[tuple[tuple[datetime, str], Pair]] = []

    def settle(finding: Finding) -> None:
        place.end(finding.key, done=finding.error is None)
        told(finding, place.after)

    async def next_to_do(pairs: AsyncGenerator[Pair, None]) -> Pair | None:
        async with turn:
            async for pair in pairs:
                place.begin(pair.key)
                if pair.looks_equal and not thorough:
                    settle(_found(rule, target, pair, BELIEVED))
                elif pair.source and rule.group(pair.key) is not None:
                    indexes.append((age(pair.source), pair))
                else:
                    return pair
        return None

    async def work(pairs: AsyncGenerator[Pair, None]) -> None:
        while pair := await next_to_do(pairs):
            settle(await _converge(engine, rule, target, pair))

    async with aclosing(
        walk(engine.stores, rule, target, start_after=start_after, thorough=thorough)
    ) as pairs:
        await together(*(work(pairs) for _ in range(in_flight)))
    for _, pair in sorted(indexes, key=itemgetter(0)):
        settle(await _converge(engine, rule, target, pair))


async def _converge(engine: Engine, rule: Rule, target: str, pair: Pair) -> Finding:
    change = hint(rule, target, pair)
    open_end = False

    async def attempt() -> Outcome:
        nonlocal open_end
        try:
            outcome = await engine.converge(rule, target, change)
        except TandemError as error:
            open_end = open_end or error.unresolved
            raise
        open_end = open_end or outcome.recheck is not None
        if outcome.held:
            raise Conflict(f"held back {outcome.decision.reason}")
        return outcome

    try:
        outcome = await insist(attempt)
        decision, size = outcome.decision, outcome.size
        while open_end:
            # A request that was given up may still be carried out: look once more after that.
            open_end = False
            await asyncio.sleep(SETTLE)
            await insist(attempt)
    except TandemError as error:
        return _failed(rule, target, pair.key, error)
    return _found(rule, target, pair, decision, size)


def _found(rule: Rule, target: str, pair: Pair, decision: Decision, size: int = 0) -> Finding:
    left = decision.action is Action.SKIP and decision.reason not in AGREED
    return Finding(
        rule.name,
        rule.source,
        target,
        pair.key,
        decision,
        size=size,
        foreign=pair.source is None and left and not decision.lacking,
        target_key=rule.target_key(pair.key),
    )


def _failed(rule: Rule, target: str, key: str, error: TandemError) -> Finding:
    there = rule.target_key(key)
    return Finding(rule.name, rule.source, target, key, None, error, target_key=there)


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
