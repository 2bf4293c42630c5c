"""Looking at one side: what a store has under a key, as far as it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from tandem.decision import Look, View, provenance_of
from tandem.errors import Conflict, Invalid
from tandem.rule import Rule
from tandem.stores.base import ObjectState, ObjectStore


async def look(store: ObjectStore, key: str, view: View, *, evidence: bool = False) -> Look | None:
    """Return what a store has under a key, as far as it counts.

    With `evidence`, None means that the server positively said so, not just a 404 of which a
    missing bucket may be the cause.
    """
    state = await store.head(key)
    if state is None and evidence and not await store.is_absent(key):
        state = await store.head(key)
        if state is None:
            await confirm_absent(store, key)
    return await viewed(store, state, view) if state else None


async def confirm_absent(store: ObjectStore, key: str) -> None:
    """Raise `Conflict` unless the server positively says that it does not hold a key."""
    if not await store.is_absent(key):
        raise Conflict(f"{store.site}:{key} comes and goes while it is looked at")


async def look_at_version(store: ObjectStore, key: str, version_id: str, view: View) -> Look | None:
    """Return what one version of a key holds, as far as it counts; None if it is not there."""
    state = await store.head(key, version_id)
    if state is None:
        return None
    # MinIO does not say that a version is the null version.
    return await viewed(store, replace(state, version_id=version_id), view, version_id)


async def viewed(
    store: ObjectStore, state: ObjectState, view: View, version_id: str | None = None
) -> Look:
    """Return a look at what a store has just told the state of, be it of one version."""
    if not view.metadata:
        state = replace(state, metadata=provenance_of(state.metadata))
    tags: Mapping[str, str] = {}
    if (view.tags or view.where_tags) and state.tag_count != 0:
        tags = await store.tags(state.key, version_id)
    covered = view.where_tags.items() <= tags.items()
    return Look(state, tags if view.tags else {}, covered)


@contextmanager
def both_keys_named(rule: Rule, key: str) -> Iterator[None]:
    """Name the source's key too where the target cannot take what `key` is called there."""
    try:
        yield
    except Invalid as error:
        if not rule.rewrites:
            raise
        there = rule.target_key(key)
        told = f"{error}; {rule.source}:{key!r} is {there!r} at the target by targetPrefix"
        both = Invalid(told)
        both.unresolved = error.unresolved
        raise both from error
