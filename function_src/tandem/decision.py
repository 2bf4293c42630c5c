"""What to do about one key, from what both sides hold. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tandem.rule import Rule
from tandem.stores.base import ObjectState

# User metadata that a copy carries beside the source's own: where it came from.
PROVENANCE = "tandem-"
SOURCE_SITE = f"{PROVENANCE}source"
SOURCE_KEY = f"{PROVENANCE}key"
SOURCE_ETAG = f"{PROVENANCE}etag"
SOURCE_VERSION = f"{PROVENANCE}version"
SOURCE_SEQUENCER = f"{PROVENANCE}sequencer"
SOURCE_SHA256 = f"{PROVENANCE}sha256"
SEAL = f"{PROVENANCE}seal"
# Enough of a digest to tell a copy as it was written from one that was edited since.
SEAL_DIGITS = 16
# As much of a digest tells the source key: a header holds no key, and 2 KB of metadata no two.
KEY_DIGITS = 16

# The reason to leave alone what is the same on both sides.
EQUAL = "equal"
# The reason to leave a key alone, whatever the target has, while its tags are not the rule's.
UNCOVERED = "its tags are not those of the rule"


class Action(StrEnum):
    """Name what can be done about a key."""

    COPY = "copy"
    RETAG = "retag"
    DELETE = "delete"
    SKIP = "skip"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Decision:
    """Say what to do about a key, and why in a few plain words.

    `lacking` counts older versions that the target has not, and that came too late to be put in
    their places. `awaits` is a key that must be at the target first, of an index held back.
    """

    action: Action
    reason: str
    lacking: int = 0
    awaits: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Say what of an object counts under a rule, besides its bytes and content headers.

    `where_tags` are the tags without which the rule does not cover it.
    """

    tags: bool = True
    metadata: bool = True
    where_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """Hold what one side has under a key, with no tags or user metadata that do not count.

    `covered` says that it has the tags that the view asks for.
    """

    state: ObjectState
    tags: Mapping[str, str] = field(default_factory=dict)
    covered: bool = True


def own_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata without provenance."""
    return {name: value for name, value in metadata.items() if not name.startswith(PROVENANCE)}


def provenance_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what in user metadata is provenance."""
    return {name: value for name, value in metadata.items() if name.startswith(PROVENANCE)}


def provenance(
    site: str, source: ObjectState, sequencer: str | None = None, key: str | None = None
) -> dict[str, str]:
    """Return the user metadata that tells where a copy of `source` on `site` came from.

    `key` is that of the copy, by default the same.
    """
    told = {SOURCE_SITE: site, SOURCE_KEY: _key_digest(source.key), SOURCE_ETAG: source.etag}
    if source.version_id:
        told[SOURCE_VERSION] = source.version_id
    if sequencer:
        told[SOURCE_SEQUENCER] = sequencer
    copy = source if key is None else replace(source, key=key)
    return told | {SEAL: _seal(site, source.etag, copy)}


def came_from(state: ObjectState, site: str, key: str) -> bool:
    """Return whether Tandem wrote an object, or what it was made of, from `key` of `site`.

    Copies made before provenance knew of keys lie under the key that they came from.
    """
    told = state.metadata
    if told.get(SOURCE_SITE) != site:
        return False
    return told[SOURCE_KEY] == _key_digest(key) if SOURCE_KEY in told else state.key == key


def _key_digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_DIGITS]


def is_copy(state: ObjectState, site: str, key: str) -> bool:
    """Return whether an object is a copy of `key` at `site` that nobody has edited since.

    An object that was copied on by other hands, or had its metadata edited, may still carry our
    provenance; the seal tells it, for it covers the key that the copy lies under, the headers and
    the metadata.
    """
    told = state.metadata
    sealed = _seal(site, told.get(SOURCE_ETAG, ""), state)
    return told.get(SEAL) == sealed and came_from(state, site, key)


def _seal(site: str, etag: str, state: ObjectState) -> str:
    """Return the digest of a copy of `etag` at `site` that has the size and content of `state`."""
    content = [sorted(state.headers.items()), sorted(own_metadata(state.metadata).items())]
    told = json.dumps([site, etag, state.key, state.size, *content])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:SEAL_DIGITS]


def same_bytes(source: ObjectState, target: ObjectState) -> bool:
    """Return whether the target's bytes are known to be the source's.

    Equal ETags and sizes tell it, be they of plain or of multipart uploads; so does the provenance
    of either, where the two were uploaded in different parts.
    """
    return source.size == target.size and (
        source.etag in (target.etag, target.metadata.get(SOURCE_ETAG))
        or target.etag == source.metadata.get(SOURCE_ETAG)
    )


def difference(source: Look, target: Look) -> str | None:
    """Return in a word or two what differs between two objects, None if nothing does."""
    if not same_bytes(source.state, target.state):
        return "content differs"
    if source.state.headers != target.state.headers:
        return "headers differ"
    if own_metadata(source.state.metadata) != own_metadata(target.state.metadata):
        return "metadata differs"
    if source.tags != target.tags:
        return "tags differ"
    return None


def decide(source: Look | None, target: Look | None, rule: Rule) -> Decision:
    """Return what makes the target match the source under `rule`.

    `source` None means positive evidence that the source does not hold the key: a failed look
    must never get here.
    """
    if source is None:
        return _decide_delete(target, rule)
    if not source.covered:
        return Decision(Action.SKIP, UNCOVERED)
    if target is None:
        return Decision(Action.COPY, "not at the target")
    differs = difference(source, target)
    if differs is None:
        return Decision(Action.SKIP, EQUAL)
    if differs == "tags differ":
        return Decision(Action.RETAG, differs)
    return Decision(Action.COPY, differs)


def _decide_delete(target: Look | None, rule: Rule) -> Decision:
    if target is None:
        return Decision(Action.SKIP, "on neither side")
    if rule.deletes == "keep":
        return Decision(Action.SKIP, "the rule keeps what the source deletes")
    # Nobody can tell the tags of what is no more: only having been copied shows that it had them.
    if rule.ownership == "tandem" or rule.where_tags:
        key = rule.source_key(target.state.key)
        if target.state.metadata.get(SOURCE_SITE) != rule.source:
            return Decision(Action.SKIP, "not written by Tandem from this source")
        if key is None or not came_from(target.state, rule.source, key):
            return Decision(Action.SKIP, "written by Tandem from another key")
    return Decision(Action.DELETE, "deleted at the source")
