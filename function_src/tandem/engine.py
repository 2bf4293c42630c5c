"""The engine: make the target match the source for one key, whatever the hint said.

Look at both sides, decide, act under a condition, look at the source again. Converging is safe
to do at any time, any number of times, by any number of workers at once: docs/contract.md says
why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tandem.change import Change
from tandem.concurrency import both
from tandem.decision import Action, Decision, Look, View, decide, difference
from tandem.delete_budget import DeleteBudget
from tandem.errors import Conflict, TandemError, Transient
from tandem.groups import in_order
from tandem.late_look import SETTLE
from tandem.looking import both_keys_named, confirm_absent, look, viewed
from tandem.outcome import Outcome
from tandem.rule import Rule
from tandem.sharing import EAGER, Body, SharedReading, glance
from tandem.stores.base import Condition, ObjectStore
from tandem.transfer import Transfer
from tandem.two_way import CONFLICT, FOR_THE_WAY_BACK, Side, decide_both_ways, is_open
from tandem.versions import Histories, Plan, replay
from tandem.writing import Writer

# How often one call starts over because the source or the target moved, before it gives way.
ROUNDS = 8
# How many versions are looked through for one that tells what a side of a two-way rule has seen.
HISTORY = 10
# The pause, in seconds, before a write that may or may not have happened is looked at again.
PAUSE = 0.1


class Engine:
    """Converge keys under rules, between the stores of the sites that the rules name."""

    def __init__(
        self,
        stores: Mapping[str, ObjectStore],
        rules: Sequence[Rule],
        transfer: Transfer | None = None,
    ) -> None:
        self.stores = stores
        self.deletes = DeleteBudget()
        self.histories = Histories(stores)
        # One for each direction.
        self.rules = tuple(dict.fromkeys(way for rule in rules for way in rule.directions))
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
        with both_keys_named(rule, key):
            seen, there = await self.look(rule, target, key)
            decision = await self.decide(rule, target, key, seen, there)
            if rule.versions == "all":
                plan = await self.histories.plan(rule, target, key, whole=True)
                decision = plan.amend(decision)
            return decision

    async def look(self, rule: Rule, target: str, key: str) -> tuple[Look | None, Look | None]:
        """Return what the source, by positive evidence, and the target hold of a source's key."""
        source = self.stores[rule.source]
        seen, there = await both(
            look(source, key, self.source_view(rule, target)),
            look(self.stores[target], rule.target_key(key), self.view(rule, target)),
        )
        if seen is None:
            # Only now: a delete must not go by evidence that is older than what it deletes.
            await confirm_absent(source, key)
        return seen, there

    async def decide(
        self, rule: Rule, target: str, key: str, seen: Look | None, there: Look | None
    ) -> Decision:
        """Return what to do about a key of which both sides have been looked at."""
        if not rule.two_way:
            return decide(seen, there, rule)
        source = Side(rule.source, key, seen)
        other = Side(target, rule.target_key(key), there)
        if is_open(source, other):
            source, other = await both(
                self._remembering(source, other), self._remembering(other, source)
            )
            if seen is None:
                # Only now: the history may tell of a copy that came after the last look.
                await confirm_absent(self.stores[rule.source], key)
        return decide_both_ways(source, other, rule)

    async def _remembering(self, side: Side, other: Side) -> Side:
        """Return a side with its history, where that can tell what it has seen of the other."""
        if other.look is None:
            return side
        return replace(side, history=await self.stores[side.site].history(side.key, HISTORY))

    def view(self, rule: Rule, target: str) -> View:
        """Return what counts under a rule; tags only where both sides know such a thing."""
        sides = (self.stores[rule.source], self.stores[target])
        tags = rule.tags and all(side.capabilities.tags for side in sides)
        return View(tags=tags, metadata=rule.metadata)

    def source_view(self, rule: Rule, target: str) -> View:
        """Return what counts at the source: also whether the rule covers such an object."""
        return replace(self.view(rule, target), where_tags=rule.where_tags)

    async def converge(
        self,
        rule: Rule,
        target: str,
        change: Change,
        deadline: float | None = None,
        shared: SharedReading | None = None,
    ) -> Outcome:
        """Make `target` match the source of `rule` for the key of `change`.

        `deadline`, a moment of the event loop's clock, is when the host ends the work:
        `Unfinished` is raised before, if a large object needs more. `shared` is given to all the
        targets that converge upon `change` at once, so that they read its source together.

        Raises a TandemError if that could not be done; doing it again is always safe. It is
        marked unresolved if a write that was given up may still happen.
        """
        with both_keys_named(rule, change.key):
            outcome = await _Convergence(self, rule, target, change, deadline, shared).run()
        if rule.two_way and outcome.decision.reason in FOR_THE_WAY_BACK:
            # What happened there may have been told, and found equal, long ago.
            back = Change(target, rule.target_key(change.key), rule=rule.name, target=rule.source)
            for way, site in self.routes(back):
                went = await _Convergence(self, way, site, back, deadline, None).run()
                outcome = replace(outcome, recheck=outcome.recheck or went.recheck)
        return outcome


class _Convergence:
    """One call of `Engine.converge`."""

    def __init__(
        self,
        engine: Engine,
        rule: Rule,
        target: str,
        change: Change,
        deadline: float | None,
        shared: SharedReading | None,
    ) -> None:
        self.engine = engine
        self.shared = shared
        self.rule = rule
        self.target_site = target
        self.change = change
        self.key = change.key
        self.target_key = rule.target_key(change.key)
        self.source = engine.stores[rule.source]
        self.target = engine.stores[target]
        self.view = engine.view(rule, target)
        self.source_view = engine.source_view(rule, target)
        self.recheck: float | None = None
        # What the source's versions were when nothing of them was missing.
        self.plan: Plan | None = None
        # What the first round did that wrote; a later round only confirms or amends it.
        self.wrote: Decision | None = None
        self.writer = Writer(
            self.source,
            self.target,
            rule,
            change,
            engine.transfer,
            engine.deletes,
            deadline,
            shared,
        )

    async def run(self) -> Outcome:
        try:
            return await self._rounds()
        except TandemError as error:
            # What an earlier round gave up may still be carried out.
            error.unresolved = error.unresolved or self.recheck is not None
            raise

    async def _rounds(self) -> Outcome:
        started = time.monotonic()
        for round_ in range(1, ROUNDS + 1):
            try:
                decision = await self._round(eager=round_ == 1 and self._expects_little())
            except Conflict as moved:
                if round_ == ROUNDS or moved.retry_after is not None:
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
                    size=self.writer.size,
                    seconds=time.monotonic() - started,
                    lag=self.writer.lag,
                    rounds=round_,
                    recheck=self.recheck,
                    at=datetime.now(UTC),
                )
        raise Conflict(f"{self.source.site}:{self.key} did not hold still for {ROUNDS} looks")

    def _expects_little(self) -> bool:
        rule = self.rule
        if rule.two_way or rule.where_tags or rule.versions == "all":
            return False  # a target that has nothing may not be for a copy without a look
        if rule.group(self.key) is not None:
            return False  # nor may an index
        size = self.change.size
        return not self.change.removed and size is not None and size <= EAGER

    async def _round(self, *, eager: bool) -> Decision | None:
        """Look, decide, act, look again; return None if the source moved meanwhile."""
        if self.rule.versions == "all" and await self._replay():
            return None
        seen, decision = await (self._glance() if eager else self._look())
        if decision.action is not Action.SKIP:
            self.wrote = decision
        if decision.action in {Action.SKIP, Action.HOLD}:
            return decision
        again = await look(self.source, self.key, self.source_view, evidence=seen is None)
        if again is None or seen is None:
            return decision if again is seen else None
        unmoved = difference(again, seen) is None and again.covered is seen.covered
        return decision if unmoved else None

    async def _look(self) -> tuple[Look | None, Decision]:
        """Look at both sides at once, decide and act; return what the source held."""
        seen, there = await self.engine.look(self.rule, self.target_site, self.key)
        if self.plan and not self.plan.is_of(seen):
            raise Conflict(f"{self.source.site}:{self.key!r} has a version more, or less, by now")
        return seen, await self._act(seen, there, None)

    async def _replay(self) -> bool:
        """Bring over what is missing of the key's history; return whether anything was."""
        self.plan = await self.engine.histories.plan(self.rule, self.target_site, self.key)
        if self.plan.steps:
            await replay(self.plan, self.writer, self.view)
            self.wrote = self.plan.decision
        return bool(self.plan.steps)

    async def _glance(self) -> tuple[Look | None, Decision]:
        """Read a small source at once, and write it on condition that the target has nothing.

        Most notifications tell of new objects, and for those the condition is look enough: two
        requests stand between the event and the copy instead of three.
        """
        seen, body = await self._fetch()
        if seen is None:
            return await self._look()
        if body is not None and self.writer.guarded:
            try:
                return seen, await self._act(seen, None, body)
            except Conflict:
                pass  # there is something: look at it
        there = await look(self.target, self.target_key, self.view)
        return seen, await self._act(seen, there, body)

    async def _fetch(self) -> tuple[Look | None, Body | None]:
        """Look at the source by reading it, together with the change's other targets if any."""
        reading = self.shared.glance if self.shared else glance
        state, body = await reading(self.source, self.key)
        if state is None:
            return None, None
        return await viewed(self.source, state, self.source_view), body

    async def _act(self, seen: Look | None, there: Look | None, body: Body | None) -> Decision:
        """Decide, and carry it out on condition that the target is still as it was seen."""
        decision = await self.engine.decide(self.rule, self.target_site, self.key, seen, there)
        decision = await in_order(self.engine, self.rule, self.target_site, seen, decision)
        condition = Condition(if_match=there.state.etag) if there else Condition(if_absent=True)
        if decision.action is Action.SKIP and there is None:
            await confirm_absent(self.target, self.target_key)
        if decision.action is Action.COPY and seen:
            if decision.reason == CONFLICT and there:
                await self.writer.keep(there)
            await self.writer.copy(seen, condition, body)
        elif decision.action is Action.RETAG and seen:
            await self.target.put_tags(self.target_key, seen.tags)
        elif decision.action is Action.DELETE:
            await self.writer.delete(condition)
        return decision
