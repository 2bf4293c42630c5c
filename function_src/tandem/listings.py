"""Two sorted listings, walked at once: a merge-join in constant memory.

A listing only says where to look. Of a listing that fails, or is out of order, nothing is
believed: whatever walks it stops with the error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from tandem.change import Change
from tandem.errors import Invalid, TandemError
from tandem.retrying import pause
from tandem.rule import Rule
from tandem.stores.base import Entry, ObjectStore


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
        return bool(here and there and here.etag == there.etag and here.size == there.size)


async def walk(
    stores: Mapping[str, ObjectStore],
    rule: Rule,
    target: str,
    *,
    start_after: str = "",
    prefix: str = "",
    thorough: bool = False,
) -> AsyncGenerator[Pair, None]:
    """Yield each key that `rule` covers, of its source or of `target`, in order, once.

    All keys are the source's; what the target calls them is no other order, since only a prefix
    that all have differs. Only those after `start_after`, and those that begin with `prefix`,
    which begins with the rule's own. `thorough`, of a rule with `versions: all`, those too that
    are deleted on both sides and have versions. Raises what a listing raises.
    """
    prefix = prefix or rule.prefix
    past = thorough and rule.versions == "all"
    here = listing(stores[rule.source], prefix, start_after, past=past)
    there = _listing_there(stores[target], rule, prefix, start_after, past=past)
    async with aclosing(here), aclosing(there), aclosing(pairs(here, there, rule.covers)) as both:
        async for pair in both:
            yield Pair(pair.key, _living(pair.source), _living(pair.target)) if past else pair


def _living(entry: Entry | None) -> Entry | None:
    return entry if entry and entry.etag else None


def _listing_there(
    store: ObjectStore, rule: Rule, prefix: str, start_after: str, *, past: bool
) -> AsyncGenerator[Entry, None]:
    """Return the listing of a target, under what the source calls its objects."""
    if not rule.rewrites:
        return listing(store, prefix, start_after, past=past)
    after = rule.target_key(start_after) if start_after else ""
    return _renamed(rule, listing(store, rule.target_key(prefix), after, past=past))


async def _renamed(rule: Rule, entries: AsyncGenerator[Entry, None]) -> AsyncGenerator[Entry, None]:
    async with aclosing(entries):
        async for entry in entries:
            key = rule.source_key(entry.key)
            if key is not None:
                yield replace(entry, key=key)


async def pairs(
    source: AsyncIterator[Entry],
    target: AsyncIterator[Entry],
    covers: Callable[[str], bool] = lambda _: True,
) -> AsyncGenerator[Pair, None]:
    """Yield each covered key of two sorted listings once, in the order of its UTF-8 bytes.

    Python compares strings by code point, which is the order of their UTF-8 bytes. Raises
    `Invalid` if a listing is not sorted, and whatever a listing raises.
    """
    here, there = await anext(source, None), await anext(target, None)
    while here or there:
        pair = _first(here, there)
        if pair.source:
            here = _after(pair.source, await anext(source, None), "source")
        if pair.target:
            there = _after(pair.target, await anext(target, None), "target")
        if covers(pair.key):
            yield pair


def _first(here: Entry | None, there: Entry | None) -> Pair:
    """Return the pair of the lower of two keys, of which there is at least one."""
    if here is not None and (there is None or here.key < there.key):
        return Pair(here.key, here, None)
    if there is not None and (here is None or there.key < here.key):
        return Pair(there.key, None, there)
    if here is None:
        raise ValueError("neither listing has a key left")
    return Pair(here.key, here, there)


def _after(last: Entry, entry: Entry | None, side: str) -> Entry | None:
    """Return the entry that follows `last`; raises `Invalid` if it should have come before."""
    if entry is not None and entry.key <= last.key:
        raise Invalid(
            f"the {side} lists {entry.key!r} after {last.key!r}: "
            "a listing that is not in the order of its keys' UTF-8 bytes cannot be compared"
        )
    return entry


async def listing(
    store: ObjectStore, prefix: str = "", start_after: str = "", *, past: bool = False
) -> AsyncGenerator[Entry, None]:
    """Yield the current objects of a store, taking the listing up again where it broke off.

    With `past`, the deleted ones too of which there are versions, without an ETag.
    Raises the TandemError that trying again did not mend: the first of several, since a server
    that loses its way may well say something else the next time.
    """
    attempt, first = 0, None
    entries: AsyncIterator[Entry]
    while True:
        entries = _newest(store, prefix, start_after) if past else store.list(prefix, start_after)
        try:
            async for entry in entries:
                start_after, attempt, first = entry.key, 0, None
                yield entry
        except TandemError as error:
            attempt += 1
            first = first or error
            await pause(first if error.retryable else error, attempt)
        else:
            return
        finally:
            # A store may be fetching the next page already.
            if isinstance(entries, AsyncGenerator):
                await entries.aclose()


async def _newest(store: ObjectStore, prefix: str, start_after: str) -> AsyncGenerator[Entry, None]:
    """Yield what is on top of each key's versions, be it a delete marker."""
    last = start_after
    async for version in store.versions(prefix, start_after):
        if version.key != last:
            last = version.key
            yield Entry(last, version.etag, version.size, version.last_modified)


def hint(rule: Rule, target: str, pair: Pair) -> Change:
    """Return the change of a pair, for this rule and this target alone.

    A size invites the engine to read before it compares: so only where a copy is nearly certain.
    """
    here, there = pair.source, pair.target
    if here is None or (there is not None and here.size == there.size):
        return Change(rule.source, pair.key, rule=rule.name, target=target)
    return Change(
        rule.source, pair.key, etag=here.etag, size=here.size, rule=rule.name, target=target
    )
