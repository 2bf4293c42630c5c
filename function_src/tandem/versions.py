"""Whole histories: what a rule with `versions: all` carries over beside the newest state.

The versions of a key at both sides are laid side by side. Each copy's provenance names the version
of the source that it was made from; delete markers can carry nothing, and are known by their place
between copies. The newest copy at the target whose version the source still lists is where the
target's history stands: what the source has above it is missing, and is replayed oldest first.
What the source has below it and the target has not can no longer be put in its place: it is only
counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from tandem.decision import SOURCE_ETAG, SOURCE_VERSION, Action, Decision, Look, View, came_from
from tandem.errors import Conflict, Invalid
from tandem.looking import look_at_version
from tandem.rule import Rule
from tandem.stores.base import (
    NO_VERSION,
    Condition,
    ObjectState,
    ObjectStore,
    Version,
    Versioning,
    Written,
)
from tandem.writing import Writer

# How many copies are asked at once where they came from, after the newest one.
AT_ONCE = 16
# What to do about a bucket that keeps no versions.
FIX = "turn it on (`versioning: true` of the site), or let the rule do without"
# How long, in seconds, a bucket is believed to go on keeping its versions.
BELIEVED = 60.0

# The id and the ETag of a version: a null version keeps its id when another takes its place.
Origin = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what is missing of a key's history at a target.

    `steps` are the versions and delete markers to replay, oldest first. `newest` is what the source
    has on top and `top` what the target has, None for nothing. `lacking` counts the versions that
    are missing below what the target has already, 0 unless they were asked for.
    """

    steps: tuple[Version, ...]
    newest: Version | None
    top: Version | None
    lacking: int = 0

    @property
    def decision(self) -> Decision:
        """Return what the steps come to, and why they are made."""
        markers = sum(step.is_marker for step in self.steps)
        counts = ((len(self.steps) - markers, "version"), (markers, "delete marker"))
        told = " and ".join(_counted(count, noun) for count, noun in counts if count)
        action = Action.DELETE if markers == len(self.steps) else Action.COPY
        return Decision(action, f"{told} not at the target", self.lacking)

    def amend(self, decision: Decision) -> Decision:
        """Return what is to be done about the key, given what its newest states alone ask for."""
        if self.steps:
            return self.decision
        if not self.lacking or decision.action is not Action.SKIP:
            return decision
        missing = (
            f"{_counted(self.lacking, 'older version')} not at the target, and too late for it"
        )
        return Decision(Action.SKIP, missing, self.lacking)

    def is_of(self, seen: Look | None) -> bool:
        """Return whether the source still holds what was on top when its versions were listed."""
        if self.newest is None or self.newest.is_marker:
            return seen is None
        told = seen and (seen.state.version_id or NO_VERSION, seen.state.etag)
        return told == _origin(self.newest)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Histories:
    """Compare the histories of keys between the stores of the sites that rules name."""

    def __init__(self, stores: Mapping[str, ObjectStore]) -> None:
        self._stores = stores
        self._believed: dict[str, float] = {}

    async def plan(self, rule: Rule, target: str, key: str, *, whole: bool = False) -> Plan:
        """Return what is missing at `target`; with `whole`, also what came too late to be.

        Raises `Invalid` if one of the two buckets keeps no versions, or does not list the key's.
        """
        for site in (rule.source, target):
            await self._check(rule, site)
        return await _plan(self._stores[rule.source], self._stores[target], rule, key, whole=whole)

    async def _check(self, rule: Rule, site: str) -> None:
        if self._believed.get(site, 0.0) > time.monotonic():
            return
        for fault in await unversioned(self._stores[site], (rule,)):
            raise Invalid(f"{fault}: {FIX}")
        self._believed[site] = time.monotonic() + BELIEVED


async def unversioned(store: ObjectStore, rules: Iterable[Rule]) -> tuple[str, ...]:
    """Return in words, once each, which rules a bucket fails that need its versions.

    It is asked once, and only if there is such a rule. Both directions of a rule are one.
    """
    named = [rule for rule in rules if store.site in (rule.source, *rule.targets)]
    needing = [rule for rule in named if rule.needs_versions]
    if not needing:
        return ()
    kept = await store.versioning()
    told = (_fault(store, rule, kept) for rule in needing)
    return tuple(dict.fromkeys(fault for fault in told if fault))


def _fault(store: ObjectStore, rule: Rule, kept: Versioning) -> str | None:
    # A one-way source whose versioning is suspended will do: what it still lists is carried over.
    followed = store.site == rule.source and not rule.two_way
    if kept == "enabled" or (kept == "suspended" and followed):
        return None
    state = "is suspended" if kept == "suspended" else "is off"
    where = f"the bucket {store.bucket} of the site {store.site}"
    why = "goes both ways" if rule.two_way else "has versions: all"
    return f"rule {rule.name} {why}, and the versioning of {where} {state}"


async def replay(plan: Plan, writer: Writer, view: View) -> None:
    """Carry out the steps of a plan, each on condition that the one before it is on top.

    An ETag is no name for a version: while one was replayed, others may have gone on to a state
    like the one before it. So the target is asked once more between the steps.

    Raises `Conflict` if somebody else was there first, or a version was removed meanwhile.
    """
    written: Written | None = None
    for place, step in enumerate(plan.steps):
        top = plan.top if place == 0 else await _top(writer, written)
        condition = _as_found(top)
        if step.is_marker:
            await writer.delete(condition)
            written = None
            continue
        seen = await look_at_version(writer.source, step.key, step.version_id, view)
        if seen is None or seen.state.etag != step.etag:
            which = f"{writer.source.site}:{step.key!r}: its version {step.version_id}"
            raise Conflict(f"{which} was removed meanwhile")
        written = await writer.copy(seen, condition, version_id=step.version_id)


async def _top(writer: Writer, written: Written | None) -> Version | None:
    """Return what the target has on top, if it is what was written, or deleted, just now."""
    target, key = writer.target, writer.key
    async with aclosing(_of(target, key)) as versions:
        top = await anext(versions, None)
    found = None if top is None or top.is_marker else top.version_id
    if found != (written and (written.version_id or NO_VERSION)):
        raise Conflict(f"{target.site}:{key!r}: somebody else goes on with its versions")
    return top


def _as_found(top: Version | None) -> Condition:
    if top is None or top.is_marker:
        return Condition(if_absent=True)
    return Condition(if_match=top.etag)


async def _plan(
    source: ObjectStore, target: ObjectStore, rule: Rule, key: str, *, whole: bool
) -> Plan:
    """Lay two histories side by side, each read from its newest version as far as is needed."""
    here, there = _of(source, key), _of(target, rule.target_key(key))
    async with aclosing(here), aclosing(there), aclosing(_asked(target, there)) as copies:
        past = _Past(here)
        top, ours, place = None, True, None
        known: set[Origin] = set()
        async for version, state in copies:
            if top is None:
                top = version
                ours = state is None or came_from(state, rule.source, key)
            if state is None or not came_from(state, rule.source, key):
                continue
            origin = origin_of(state)
            known.add(origin)
            if place is None:
                place = await past.place(origin)
            if place is not None and not whole:
                break
        if place is None or whole:
            await past.read_all()
    above = past.read[:place]
    below = past.read[len(above) :]
    deleted = top is None or top.is_marker
    return Plan(
        tuple(_steps(reversed(above), rule, deleted=deleted, ours=ours)),
        past.read[0] if past.read else None,
        top,
        sum(not one.is_marker and _origin(one) not in known for one in below) if whole else 0,
    )


def _steps(
    missing: Iterator[Version], rule: Rule, *, deleted: bool, ours: bool
) -> Iterator[Version]:
    """Yield what is to be replayed of the missing versions and markers, oldest first.

    A delete of what is deleted already adds nothing: MinIO keeps no marker of it, so that a run of
    markers is as good as one. What is not ours to delete is left to the version that comes next.
    """
    for version in missing:
        if not version.is_marker:
            deleted, ours = False, True
            yield version
        elif not deleted and rule.deletes == "mirror" and (ours or rule.ownership == "all"):
            deleted = True
            yield version


class _Past:
    """Hold the source's versions of a key, the newest first, as far as they have been read."""

    def __init__(self, versions: AsyncIterator[Version]) -> None:
        self._versions = versions
        self._places: dict[Origin, int] = {}
        self.read: list[Version] = []

    async def place(self, origin: Origin) -> int | None:
        """Return how many versions and markers came after a version; None if it is not listed."""
        while origin not in self._places and await self._read_one():
            pass
        return self._places.get(origin)

    async def read_all(self) -> None:
        """Read to the end."""
        while await self._read_one():
            pass

    async def _read_one(self) -> bool:
        version = await anext(self._versions, None)
        if version is None:
            return False
        if not version.is_marker:
            self._places.setdefault(_origin(version), len(self.read))
        self.read.append(version)
        return True


def _origin(version: Version) -> Origin:
    return version.version_id, version.etag


def origin_of(state: ObjectState) -> Origin:
    """Return which version of its source a copy was made from."""
    told = state.metadata
    return told.get(SOURCE_VERSION, NO_VERSION), told.get(SOURCE_ETAG, "")


async def _of(store: ObjectStore, key: str) -> AsyncGenerator[Version, None]:
    """Yield the versions and markers of one key, the newest first.

    Raises `Invalid` if the server lists none and has the key all the same: MinIO leaves out
    `a/b` while there is an object `a`.
    """
    for _ in range(2):  # it may have come after the first listing
        found = False
        async with aclosing(_versions(store, key)) as versions:
            async for version in versions:
                if version.key != key:
                    break
                found = True
                yield version
        if found or await store.head(key) is None:
            return
    raise Invalid(f"{store.site} holds {key!r} and does not list its versions")


async def _versions(store: ObjectStore, key: str) -> AsyncGenerator[Version, None]:
    async for version in store.versions(key):
        yield version


async def _asked(
    store: ObjectStore, versions: AsyncIterator[Version]
) -> AsyncGenerator[tuple[Version, ObjectState | None], None]:
    """Yield versions with what a HEAD tells of each: one first, since it is mostly enough."""
    batch: list[Version] = []
    size = 1

    async def ask(version: Version) -> ObjectState | None:
        return None if version.is_marker else await store.head(version.key, version.version_id)

    async for version in versions:
        batch.append(version)
        if len(batch) == size:
            for pair in zip(batch, await asyncio.gather(*map(ask, batch)), strict=True):
                yield pair
            batch, size = [], AT_ONCE
    for pair in zip(batch, await asyncio.gather(*map(ask, batch)), strict=True):
        yield pair
