"""What is known of one key: what both sides hold now, and what was made of it before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tandem.attempt import Attempt
from tandem.cli.stack import Stack
from tandem.decision import Action, Decision, Look
from tandem.engine import Engine
from tandem.errors import TandemError
from tandem.groups import in_order
from tandem.looking import look
from tandem.queues.base import Backlog, Failure
from tandem.report import failure
from tandem.rule import Rule

Route = tuple[Rule, str]


@dataclass(frozen=True, slots=True)
class Side:
    """Say what a site holds under its key, None for nothing; or why that cannot be told."""

    site: str
    key: str
    look: Look | None
    error: TandemError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the side as JSON knows it; `present` is null where it cannot be told."""
        told: dict[str, Any] = {
            "site": self.site,
            "key": self.key,
            "present": None if self.error else self.look is not None,
            "error": str(self.error) if self.error else None,
        }
        if self.look:
            state = self.look.state
            told |= {
                "size": state.size,
                "etag": state.etag,
                "version": state.version_id,
                "modified": state.last_modified.isoformat(),
                "headers": dict(state.headers),
                "metadata": dict(state.metadata),
                "tags": dict(self.look.tags),
            }
        return told


@dataclass(frozen=True, slots=True)
class Past:
    """Hold what the queue knows of the key; with an `error`, it could not be asked."""

    attempts: Sequence[Attempt] = ()
    failures: Sequence[Failure] = ()
    backlog: Backlog = field(default_factory=lambda: Backlog({}, {}))
    error: TandemError | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Explain the key under one rule at one target.

    `decision` is what would be done now; None where a side does not tell what it holds, and
    `error` then says why. `waiting` counts the changes of the source, of whatever key, that are
    not yet handled; it and `oldest` are None where that is not known.
    """

    rule: str
    source: Side
    target: Side
    decision: Decision | None
    error: TandemError | None
    attempts: Sequence[Attempt]
    failures: Sequence[Failure]
    waiting: int | None
    oldest: datetime | None

    @property
    def well(self) -> bool:
        """Return whether there is nothing to do, and nothing that failed."""
        settled = self.decision is not None and self.decision.action is Action.SKIP
        return settled and not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the account as JSON knows it; times are ISO 8601 in UTC."""
        now = self.decision
        return {
            "rule": self.rule,
            "well": self.well,
            "now": {"action": now.action.value, "reason": now.reason} if now else None,
            "error": str(self.error) if self.error else None,
            "source": self.source.to_json(),
            "target": self.target.to_json(),
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "failures": [failure(failed) for failed in self.failures],
            "waiting": self.waiting,
            "oldest": self.oldest.isoformat() if self.oldest else None,
        }


async def inquire(stack: Stack, routes: Sequence[Route], key: str) -> tuple[list[Account], Past]:
    """Return an account of a key for each of the routes, and all that the queue knows of it."""
    past = await _past(stack, key)
    if not routes:
        return [], past
    async with stack.engine(routes) as engine:
        accounts = [_account(engine, rule, target, key, past) for rule, target in routes]
        return list(await asyncio.gather(*accounts)), past


async def _past(stack: Stack, key: str) -> Past:
    try:
        async with stack.queue() as queue:
            return Past(
                await queue.history(key),
                [
                    failed
                    async for failed in queue.failures()
                    if failed.change and failed.change.key == key
                ],
                await queue.backlog(),
            )
    except TandemError as error:
        return Past(error=error)


async def _account(engine: Engine, rule: Rule, target: str, key: str, past: Past) -> Account:
    source_side, target_side = await asyncio.gather(
        _side(engine, rule, target, rule.source, key), _side(engine, rule, target, target, key)
    )
    decision, error = None, source_side.error or target_side.error
    if error is None:
        try:
            seen, there = source_side.look, target_side.look
            decision = (
                await engine.explain(rule, target, key)
                if rule.versions == "all"
                else await engine.decide(rule, target, key, seen, there)
            )
            decision = await in_order(engine, rule, target, seen, decision)
        except TandemError as fault:
            error = fault
    return Account(
        rule.name,
        source_side,
        target_side,
        decision,
        error,
        [one for one in past.attempts if (one.rule, one.target) == (rule.name, target)],
        [one for one in past.failures if (one.rule, one.target) == (rule.name, target)],
        None if past.error else past.backlog.count.get(rule.source, 0),
        past.backlog.oldest.get(rule.source),
    )


async def _side(engine: Engine, rule: Rule, target: str, site: str, key: str) -> Side:
    """Look at one site, for what the other says counts though this one is silent."""
    view = engine.source_view(rule, target)
    if site == target:
        key, view = rule.target_key(key), engine.view(rule, target)
    try:
        held = await look(engine.stores[site], key, view, evidence=site == rule.source)
    except TandemError as error:
        return Side(site, key, None, error)
    return Side(site, key, held)


def uncovered(rules: Sequence[Rule], key: str) -> list[str]:
    """Return for each rule, in words, which keys it covers, and where `key` is a copy's, whose."""
    told = []
    for rule in rules:
        taken = f"{rule.name} takes {_keys(rule)} from {rule.source}"
        original = rule.source_key(key)
        if original and rule.rewrites and rule.covers(original):
            taken += f", and writes this one from {original!r}"
        told.append(taken)
    return told


def _keys(rule: Rule) -> str:
    limits = []
    if rule.prefix:
        limits.append(f"begin with {rule.prefix!r}")
    if rule.suffix:
        limits.append(f"end with {rule.suffix!r}")
    keys = f"keys that {' and '.join(limits)}" if limits else "every key but Tandem's own"
    tags = ", ".join(f"{name}={value}" for name, value in rule.where_tags.items())
    return f"{keys}, of objects with the tags {tags}," if tags else keys
