"""The engine: make the target match the source for one key, whatever the hint said.

Look at both sides, decide, act under a condition, look at the source again. Converging is safe
to do at any time, any number of times, by any number of workers at once: docs/contract.md says
why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tandem.change import Change
from tandem.concurrency import both
from tandem.decision import (
    Action,
    Decision,
    Look,
    decide,
    difference,
    own_metadata,
    provenance,
)
from tandem.errors import Conflict, Transient
from tandem.rule import Rule
from tandem.stores.base import ALWAYS, Condition, Content, ObjectState, ObjectStore
from tandem.transfer import Transfer

# An object that its notification calls no larger than this, in bytes, is read at once.
EAGER = 64 * 1024
# How often one call starts over because the source or the target moved, before it gives way.
ROUNDS = 8
# The longest, in seconds, that an abandoned request may live before it is carried out.
SETTLE = 60.0
# The pause, in seconds, before a write that may or may not have happened is looked at again.
PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say how the convergence of one key at one target ended.

    `size` is in bytes, 0 unless bytes were copied; `seconds` is what it took; `lag` is the
    target's becoming visible minus the source's last-modified, in seconds, None if nothing was
    written; `rounds` counts looks; `recheck`, in seconds, asks for another look after that time,
    because an abandoned unconditional request may still be carried out.
    """

    rule: str
    source: str
    target: str
    key: str
    decision: Decision
    size: int
    seconds: float
    lag: float | None
    rounds: int
    recheck: float | None
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON knows it; times are ISO 8601 in UTC."""
        return {
            "rule": self.rule,
            "source": self.source,
            "target": self.target,
            "key": self.key,
            "action": self.decision.action.value,
            "reason": self.decision.reason,
            "size": self.size,
            "seconds": self.seconds,
            "lag": self.lag,
            "rounds": self.rounds,
            "recheck": self.recheck,
            "at": self.at.isoformat(),
        }


class Engine:
    """Converge keys under rules, between the stores of the sites that the rules name."""

    def __init__(
        self,
        stores: Mapping[str, ObjectStore],
        rules: Sequence[Rule],
        transfer: Transfer | None = None,
    ) -> None:
        self.stores = stores
        self.rules = tuple(rules)
        self.transfer = transfer or Transfer()

    def routes(self, change: Change) -> tuple[tuple[Rule, str], ...]:
        """Return each rule and target site that a change concerns."""
        return tuple(
            (rule, target)
            for rule in self.rules
            if rule.source == change.site
            and change.rule in (None, rule.name)
            and rule.covers(change.key)
            for target in rule.targets
            if change.target in (None, target)
        )

    async def explain(self, rule: Rule, target: str, key: str) -> Decision:
        """Return what `converge` would do about a key now, and do nothing."""
        tags = self.keeps_tags(rule, target)
        seen, held = await both(
            look(self.stores[rule.source], key, tags=tags, evidence=True),
            look(self.stores[target], key, tags=tags),
        )
        return decide(seen, held, rule)

    def keeps_tags(self, rule: Rule, target: str) -> bool:
        """Return whether copies under a rule have tags: both sides must know such a thing."""
        sides = (self.stores[rule.source], self.stores[target])
        return rule.tags and all(side.capabilities.tags for side in sides)

    async def converge(self, rule: Rule, target: str, change: Change) -> Outcome:
        """Make `target` match the source of `rule` for the key of `change`.

        Raises a TandemError if that could not be done; doing it again is always safe. A
        `Transient` is marked unresolved only if something unconditional may still happen.
        """
        return await _Convergence(self, rule, target, change).run()


async def look(store: ObjectStore, key: str, *, tags: bool, evidence: bool = False) -> Look | None:
    """Return what a store has under a key, with its tags if they matter.

    With `evidence`, None means that the server positively said so, not just a 404 of which a
    missing bucket may be the cause.
    """
    state = await store.head(key)
    if state is None and evidence and not await store.is_absent(key):
        state = await store.head(key)
        if state is None:
            raise Conflict(f"{store.site}:{key} comes and goes while it is looked at")
    return await _with_tags(store, state, tags=tags) if state else None


async def _with_tags(store: ObjectStore, state: ObjectState, *, tags: bool) -> Look:
    if tags and state.tag_count != 0:
        return Look(state, await store.tags(state.key))
    return Look(state)


class _Convergence:
    """One call of `Engine.converge`."""

    def __init__(self, engine: Engine, rule: Rule, target: str, change: Change) -> None:
        self.engine = engine
        self.rule = rule
        self.change = change
        self.key = change.key
        self.source = engine.stores[rule.source]
        self.target = engine.stores[target]
        self.tags = engine.keeps_tags(rule, target)
        self.guarded = self.target.capabilities.conditional_writes
        self.recheck: float | None = None
        # What the first round did that wrote; a later round only confirms or amends it.
        self.wrote: Decision | None = None
        self.size = 0
        self.lag: float | None = None

    async def run(self) -> Outcome:
        started = time.monotonic()
        for round_ in range(1, ROUNDS + 1):
            try:
                decision = await self._round(eager=round_ == 1 and self._expects_little())
            except Conflict:
                if round_ == ROUNDS:
                    raise
                continue
            except Transient as fault:
                if not fault.unresolved or round_ == ROUNDS:
                    raise
                self.recheck = SETTLE
                await asyncio.sleep(PAUSE * round_)
                continue
            if decision is not None:
                return Outcome(
                    rule=self.rule.name,
                    source=self.source.site,
                    target=self.target.site,
                    key=self.key,
                    decision=self.wrote or decision,
                    size=self.size,
                    seconds=time.monotonic() - started,
                    lag=self.lag,
                    rounds=round_,
                    recheck=self.recheck,
                    at=datetime.now(UTC),
                )
        raise Conflict(f"{self.source.site}:{self.key} did not hold still for {ROUNDS} looks")

    def _expects_little(self) -> bool:
        size = self.change.size
        return not self.change.removed and size is not None and size <= EAGER

    async def _round(self, *, eager: bool) -> Decision | None:
        """Look, decide, act, look again; return None if the source moved meanwhile."""
        seen, decision = await (self._glance() if eager else self._look())
        if decision.action is Action.SKIP:
            return decision
        self.wrote = decision
        again = await look(self.source, self.key, tags=self.tags, evidence=seen is None)
        if again is None or seen is None:
            return decision if again is seen else None
        return decision if difference(again, seen) is None else None

    async def _look(self) -> tuple[Look | None, Decision]:
        """Look at both sides at once, decide and act; return what the source held."""
        seen, there = await both(
            look(self.source, self.key, tags=self.tags, evidence=True),
            look(self.target, self.key, tags=self.tags),
        )
        return seen, await self._act(seen, there, None)

    async def _glance(self) -> tuple[Look | None, Decision]:
        """Read a small source at once, and write it on condition that the target has nothing.

        Most notifications tell of new objects, and for those the condition is look enough: two
        requests stand between the event and the copy instead of three.
        """
        seen, body = await self._fetch()
        if seen and body is not None and self.guarded:
            try:
                return seen, await self._act(seen, None, body)
            except Conflict:
                pass  # there is something: look at it
        return seen, await self._act(seen, await look(self.target, self.key, tags=self.tags), body)

    async def _fetch(self) -> tuple[Look | None, bytes | bytearray | None]:
        """Look at the source by reading it, which saves small objects a request.

        So small a body is not counted against the transfer's bound of memory: there are never
        more of them than a worker has slots.
        """
        async with self.source.open(self.key) as reader:
            if reader is None:
                return None, None
            state = reader.state
            body = await reader.read() if state.size <= EAGER else None
        return await _with_tags(self.source, state, tags=self.tags), body

    async def _act(
        self, seen: Look | None, there: Look | None, body: bytes | bytearray | None
    ) -> Decision:
        """Decide, and carry it out on condition that the target is still as it was seen."""
        decision = decide(seen, there, self.rule)
        condition = Condition(if_match=there.state.etag) if there else Condition(if_absent=True)
        if decision.action is Action.COPY and seen:
            condition = condition if self.guarded else ALWAYS
            await self._send(self._copy(seen, condition, body), condition)
            self.size = seen.state.size
            self.lag = self._lag(seen.state)
        elif decision.action is Action.RETAG and seen:
            await self._send(self.target.put_tags(self.key, seen.tags), ALWAYS)
        elif decision.action is Action.DELETE:
            can = self.target.capabilities.conditional_delete
            condition = condition if can else ALWAYS
            await self._send(self.target.delete(self.key, condition), condition)
        return decision

    async def _send(self, write: Coroutine[Any, Any, object], condition: Condition) -> None:
        """Carry out a write, and remember whether it may yet happen behind our back.

        A conditional write that is carried out late fails on its condition, as soon as anything
        else has been written; so only an unconditional one is worth fearing.
        """
        try:
            await write
        except Transient as fault:
            fault.unresolved = fault.unresolved and condition == ALWAYS
            raise

    async def _copy(self, seen: Look, condition: Condition, body: bytes | bytearray | None) -> None:
        state = seen.state
        told = provenance(self.source.site, state, self._sequencer(state))
        content = Content(state.headers, own_metadata(state.metadata) | told, seen.tags)
        if body is not None:
            await self.target.put(self.key, body, content, condition)
            return
        sizes = await self._sizes(state)
        await self.engine.transfer.copy(self.source, self.target, state, content, condition, sizes)

    async def _sizes(self, state: ObjectState) -> tuple[int, ...]:
        """Return the parts to send: the source's own, if the rule asks and memory allows."""
        transfer = self.engine.transfer
        max_parts = self.target.capabilities.max_parts
        if self.rule.parts == "source":
            multipart = "-" in state.etag
            sizes = await self.source.part_sizes(self.key, state.etag) if multipart else ()
            if max(sizes, default=state.size) <= transfer.budget.total and len(sizes) < max_parts:
                return sizes
        return transfer.sizes(state.size, max_parts)

    def _hinted(self, state: ObjectState) -> bool:
        """Return whether the notification spoke of this very state of the source."""
        return self.change.etag == state.etag

    def _sequencer(self, state: ObjectState) -> str | None:
        return self.change.sequencer if self._hinted(state) else None

    def _lag(self, state: ObjectState) -> float:
        """Return now minus last-modified, which a notification tells finer than HTTP's seconds."""
        modified = self.change.time if self._hinted(state) else None
        return max(0.0, (datetime.now(UTC) - (modified or state.last_modified)).total_seconds())
