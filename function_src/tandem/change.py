"""Notifications decoded to changes. Pure.

A change is only a hint that a key may have changed; the engine reads both sides before it acts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from urllib.parse import unquote_plus

from tandem.errors import Poison

Dialect = Literal["minio", "aws", "versitygw"]

# Keys come URL-encoded from AWS and MinIO (with `+` for a space) and raw from versitygw.
_ENCODED: Mapping[Dialect, bool] = {"minio": True, "aws": True, "versitygw": False}
_REMOVALS = ("ObjectRemoved:", "LifecycleExpiration:", "LifecycleDelMarkerExpiration:")
# A message of ours carries this member and no `Records`.
_NATIVE = "tandem"


@dataclass(frozen=True, slots=True)
class Change:
    """Hint that `key` of the site `site` may have changed.

    `etag`, `size` (bytes), `version_id`, `sequencer` and `time` (UTC) are what the notification
    claimed, if it did; nothing but speed may depend on them. `removed` says that it spoke of a
    delete. `rule` and `target` narrow the hint to one rule or target, as a redrive does. `event`
    is the same for two tellings of one event, and for no other event of the key; None if the
    server names nothing that unique. `due` (UTC) is before when the change is not to be handled,
    by the workers' clocks.
    """

    site: str
    key: str
    removed: bool = False
    etag: str | None = None
    size: int | None = None
    version_id: str | None = None
    sequencer: str | None = None
    time: datetime | None = None
    rule: str | None = None
    target: str | None = None
    event: str | None = None
    due: datetime | None = None


class Notifier(Protocol):
    """Name what decoding must know of the site that a message came from."""

    @property
    def name(self) -> str:
        """Return the site's name."""
        ...

    @property
    def bucket(self) -> str:
        """Return the site's bucket."""
        ...

    @property
    def dialect(self) -> Dialect:
        """Return how its server writes notifications."""
        ...


def encode(change: Change) -> bytes:
    """Return the message that `decode` reads back as this very change."""
    told = {
        "site": change.site,
        "key": change.key,
        "removed": change.removed,
        "etag": change.etag,
        "size": change.size,
        "version_id": change.version_id,
        "sequencer": change.sequencer,
        "time": change.time.isoformat() if change.time else None,
        "rule": change.rule,
        "target": change.target,
        "event": change.event,
        "due": change.due.isoformat() if change.due else None,
    }
    return json.dumps({_NATIVE: told}).encode()


def native(message: str | bytes) -> Change:
    """Return the change that `encode` wrote.

    Raises KeyError or ValueError if the message is none of ours.
    """
    return _native(json.loads(message)[_NATIVE])


def decode(body: bytes, site: Notifier) -> tuple[Change, ...]:
    """Return the changes of `site` that a message tells of.

    A message may hold several records, of other buckets too, or none at all (AWS's s3:TestEvent).
    Shapes: the S3 user guide's "Event message structure", which MinIO and versitygw follow.
    Raises `Poison` if the message cannot be understood.
    """
    try:
        message = json.loads(body)
        if isinstance(message, list):  # older versitygw sends the records bare
            return tuple(_changes(message, site))
        if _NATIVE in message:
            return (_native(message[_NATIVE]),)
        if message.get("Event") == "s3:TestEvent":
            return ()
        return tuple(_changes(message["Records"], site))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Poison(f"this is no notification that we know: {error!r}") from error


def _native(told: Mapping[str, Any]) -> Change:
    moments = {
        name: datetime.fromisoformat(told[name]) if told.get(name) else None
        for name in ("time", "due")
    }
    return Change(**{**told, **moments})


def _changes(records: list[dict[str, Any]], site: Notifier) -> Iterator[Change]:
    for record in records:
        if record["s3"]["bucket"]["name"] != site.bucket:
            continue
        thing = record["s3"]["object"]
        key = thing["key"]
        event = record["eventName"].removeprefix("s3:")
        # MinIO leaves out the size of an empty object.
        created = event.startswith("ObjectCreated:")
        size = thing.get("size", 0 if created else None)
        # "Only used with PUTs and DELETEs" (ibid.): what another event may carry orders nothing.
        ordered = created or event.startswith(_REMOVALS)
        yield Change(
            site=site.name,
            key=unquote_plus(key, errors="strict") if _ENCODED[site.dialect] else key,
            removed=event.startswith(_REMOVALS),
            etag=(thing.get("eTag") or "").strip('"') or None,
            size=size,
            version_id=thing.get("versionId") or None,
            sequencer=(thing.get("sequencer") or None) if ordered else None,
            time=datetime.fromisoformat(record["eventTime"]).astimezone(UTC),
            event=_identity(record),
        )


def _identity(record: Mapping[str, Any]) -> str | None:
    """Return what tells an event from all others of its key.

    The sequencer does not: MinIO gives a tagging event that of the put before it.
    """
    request = (record.get("responseElements") or {}).get("x-amz-request-id")
    if not request:
        return None
    return f"{request} {record['eventName']} {record['s3']['object'].get('sequencer')}"
