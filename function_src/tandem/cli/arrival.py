"""Waiting until an object that was put has reached its targets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tandem.attempt import Attempt
from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import TandemError
from tandem.rule import Rule


@dataclass(frozen=True, slots=True)
class Arrival:
    """Say whether an object reached one target, where it is called `key`.

    `seconds` runs from the end of the put to the worker's outcome; None if none was heard.
    `level` says that both sides, when asked, agreed.
    """

    rule: str
    target: str
    key: str
    seconds: float | None
    level: bool

    def to_json(self) -> dict[str, Any]:
        """Return the arrival as JSON knows it."""
        return {
            "rule": self.rule,
            "target": self.target,
            "key": self.key,
            "seconds": self.seconds,
            "level": self.level,
        }


async def await_arrivals(
    engine: Engine,
    routes: Sequence[tuple[Rule, str]],
    key: str,
    ended: datetime,
    told: AsyncIterator[Attempt],
    timeout: float,  # noqa: ASYNC109 -- what was heard until then is returned, not thrown away
) -> list[Arrival]:
    """Return for each route whether `key` arrived, waiting `timeout` seconds at most.

    `ended` is when the put ended, UTC by this machine's clock. An outcome counts only if both
    sides then agree: it may speak of an earlier put of the same key.
    """
    waiting = {(rule.name, target): rule for rule, target in routes}
    arrived: dict[tuple[str, str], Arrival] = {}
    try:
        async with asyncio.timeout(timeout):
            async for attempt in told:
                route = (attempt.rule, attempt.target)
                if attempt.change.key != key or route not in waiting or route in arrived:
                    continue
                rule = waiting[route]
                if await _level(engine, rule, route[1], key):
                    # The target can have it before the put's own answer has reached us.
                    took = max(0.0, (attempt.at - ended).total_seconds())
                    arrived[route] = Arrival(*route, rule.target_key(key), took, level=True)
                if len(arrived) == len(waiting):
                    break
    except TimeoutError:
        # Nobody need have told us: outcomes are not kept for those who come late.
        pass
    for route, rule in waiting.items():
        if route not in arrived:
            level = await _level(engine, rule, route[1], key)
            arrived[route] = Arrival(*route, rule.target_key(key), None, level=level)
    return [arrived[route] for route in waiting]


async def _level(engine: Engine, rule: Rule, target: str, key: str) -> bool:
    try:
        decision = await engine.explain(rule, target, key)
    except TandemError:
        return False
    return decision.action is Action.SKIP
