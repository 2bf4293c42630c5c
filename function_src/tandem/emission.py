"""Reconciling through the queue: a change for each key that may differ, for the workers to handle.

A change is only a hint. What is done about a key, a delete above all, is decided by a worker's
engine from what both sides say about that one key: so a listing that leaves keys out, or makes
them up, costs requests and harms nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from tandem.change import Change
from tandem.listings import Pair, hint, walk
from tandem.queues.base import Queue
from tandem.retrying import insist
from tandem.rule import Rule
from tandem.stores.base import ObjectStore

# How many changes are sent together.
BATCH = 256
# Emission waits while more changes than this wait at the source: enough to keep many workers busy,
# and so few that an event which comes meanwhile is handled about a second later.
BACKLOG = 1000
PAUSE = 0.2
# How many keys are compared between two reports of progress.
STEP = 1000


@dataclass(slots=True)
class Emission:
    """Count what a reconcile of one rule at one target has come to.

    Every key up to `after`, itself included, has been compared, and each change that came of it
    is in the queue.
    """

    compared: int = 0
    emitted: int = 0
    after: str = ""


async def emit(
    stores: Mapping[str, ObjectStore],
    queue: Queue,
    rule: Rule,
    target: str,
    *,
    thorough: bool = False,
    prefix: str = "",
    start_after: str = "",
    told: Callable[[Emission], None] = lambda _: None,
) -> Emission:
    """Queue a change for each key of `rule` that may differ at `target`, and return the counts.

    `thorough` doubts pairs too that look equal by their listings, since headers, metadata or tags
    may differ. `prefix`, which begins with the rule's own, is the part of the keys to compare.
    `told` hears of the counts every so often. Raises what a listing or the queue raises.
    """
    done = Emission(after=start_after)
    batch: list[Change] = []

    async def flush(after: str) -> None:
        if batch:
            await _make_room(queue, rule.source)
            await insist(lambda: queue.send(*batch))
        done.emitted += len(batch)
        done.after = after
        batch.clear()
        told(done)

    last = start_after
    async with aclosing(
        walk(stores, rule, target, start_after=start_after, prefix=prefix, thorough=thorough)
    ) as pairs:
        async for pair in pairs:
            last = pair.key
            done.compared += 1
            if matters(rule, pair, thorough=thorough):
                batch.append(hint(rule, target, pair))
            if len(batch) >= BATCH or done.compared % STEP == 0:
                await flush(last)
    await flush(last)
    return done


def shards(rule: Rule, prefixes: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes of `rule` that cover each key of `prefixes` once, in their order.

    None given means all of the rule's keys. One that holds no key of the rule is left out.
    """
    narrowed = [
        max(prefix, rule.prefix, key=len)
        for prefix in prefixes or ("",)
        if prefix.startswith(rule.prefix) or rule.prefix.startswith(prefix)
    ]
    found: list[str] = []
    for prefix in sorted(narrowed):
        # Sorted, a prefix comes right before all that begin with it.
        if not (found and prefix.startswith(found[-1])):
            found.append(prefix)
    return tuple(found)


def matters(rule: Rule, pair: Pair, *, thorough: bool) -> bool:
    """Return whether a worker might do something about a pair, so that a change is queued."""
    history = thorough and rule.versions == "all"
    if pair.source is None and rule.deletes == "keep" and not history:
        return False
    return thorough or not pair.looks_equal


async def _make_room(queue: Queue, site: str) -> None:
    """Wait until the workers have caught up, so that neither queue nor lag grows without bound."""
    while (await insist(queue.backlog)).count.get(site, 0) > BACKLOG:  # noqa: ASYNC110 -- only asking tells
        await asyncio.sleep(PAUSE)
