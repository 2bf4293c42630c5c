"""Groups: an index is written at a target only when all that was there before it is there too.

Whoever reads an index goes on to the objects that it names. So of all copies this one has an
order: after every object of its group that is no younger. Who else is at work, and what the queue
still holds, is never asked: the two sides are listed, and what they say is enough. Why that
suffices, and what it does not promise, is in docs/contract.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Protocol

from tandem.decision import Action, Decision, Look
from tandem.errors import Conflict
from tandem.listings import Pair, listing, walk
from tandem.rule import Rule
from tandem.stores.base import Entry, ObjectState, ObjectStore


class Explainer(Protocol):
    """Tell what would be done about a key, as `tandem.engine.Engine` does."""

    @property
    def stores(self) -> Mapping[str, ObjectStore]:
        """Return the store of each site."""
        ...

    async def explain(self, rule: Rule, target: str, key: str) -> Decision:
        """Return what would be done about a key now, had it no group."""
        ...


async def in_order(
    engine: Explainer, rule: Rule, target: str, seen: Look | None, decision: Decision
) -> Decision:
    """Return `decision`, unless it is to copy the index `seen` while its group is not there yet.

    Raises `Conflict` if the index was overwritten meanwhile, and what a listing or a look raises.
    """
    copies = decision.action is Action.COPY and seen is not None
    if not (copies and seen and rule.group(seen.state.key) is not None):
        return decision
    async with aclosing(earlier(engine.stores, rule, target, seen.state)) as pairs:
        async for pair in pairs:
            if (await engine.explain(rule, target, pair.key)).action is Action.COPY:
                return Decision(Action.HOLD, f"until {pair.key!r} is at {target}", awaits=pair.key)
    return decision


async def earlier(
    stores: Mapping[str, ObjectStore], rule: Rule, target: str, index: ObjectState
) -> AsyncGenerator[Pair, None]:
    """Yield what goes before `index` and does not look equal at `target`, in the order of keys.

    Raises `Conflict` if the index was overwritten meanwhile, and what a listing raises.
    """
    own = await _listed(stores[rule.source], index)
    prefix = rule.group(index.key) or ""
    async with aclosing(walk(stores, rule, target, prefix=prefix)) as pairs:
        async for pair in pairs:
            if pair.source and not pair.looks_equal and goes_before(rule, pair.source, own):
                yield pair


def goes_before(rule: Rule, entry: Entry, index: Entry) -> bool:
    """Return whether an object of the group of `index` must be at the target before it.

    Of two indexes only one can go before the other, so no two ever wait for each other.
    """
    if rule.group(entry.key) is not None:
        return age(entry) < age(index)
    return entry.last_modified <= index.last_modified


def age(index: Entry) -> tuple[datetime, str]:
    """Return what sorts indexes as they are written."""
    return index.last_modified, index.key


async def _listed(store: ObjectStore, index: ObjectState) -> Entry:
    """Return the line of the listing that tells of `index`, whose times compare with the others'.

    A HEAD tells the last-modified in whole seconds, a listing more finely.
    """
    async with aclosing(listing(store, index.key)) as entries:
        found = await anext(entries, None)
    if found is None or found.key != index.key:
        # A server that does not list it does not list its directory's other objects either.
        return Entry(index.key, index.etag, index.size, index.last_modified)
    if found.etag != index.etag:
        raise Conflict(f"{store.site}:{index.key} was overwritten while it was looked at")
    return found
