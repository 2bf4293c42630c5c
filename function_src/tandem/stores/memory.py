"""A bucket in memory, with the semantics of S3: for tests, and for trying things out.

It keeps versions and delete markers, conditions, tags and unfinished uploads as Amazon S3
documents them; the conformance tests hold it and real servers to the same sentences.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tandem.errors import Conflict, Invalid
from tandem.stores.base import (
    ALWAYS,
    Capabilities,
    Condition,
    Content,
    Entry,
    ObjectState,
    Part,
    Upload,
    Written,
)
from tandem.stores.keys import flaw

MAX_TAGS = 10
DEFAULT_CONTENT_TYPE = "binary/octet-stream"


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Version:
    """One version of a key; `body` is None for a delete marker."""

    state: ObjectState
    body: bytes | None
    tags: dict[str, str]
    modified: datetime
    part_sizes: tuple[int, ...]


@dataclass(slots=True)
class _Upload:
    """One unfinished upload: its parts by number, each with the moment it was stored."""

    told: Upload
    content: Content
    parts: dict[int, tuple[bytes, datetime]] = field(default_factory=dict)


class MemoryReader:
    """Give an open object; see `tandem.stores.base.Reader`."""

    def __init__(self, store: MemoryStore, state: ObjectState, body: bytes) -> None:
        self.state = state
        self._store = store
        self._body = body

    async def read(self) -> bytes:
        """Return every byte that was asked for."""
        await self._store._turn("read", self.state.key)  # noqa: SLF001 -- a call of the store
        return self._body


class MemoryStore:
    """Keep one bucket in memory; see `tandem.stores.base.ObjectStore`.

    `clock` tells the time, so that tests can. Every call first awaits `_turn` with its own name
    and key: override that one method to count calls, to make them wait or to make them fail.
    What a call does after its turn, it does at once, without another task in between.
    """

    def __init__(
        self,
        site: str = "memory",
        *,
        versioned: bool = False,
        clock: Callable[[], datetime] = now,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.site = site
        self.capabilities = capabilities or Capabilities()
        self._versioned = versioned
        self._clock = clock
        self._versions: dict[str, list[_Version]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._numbers = itertools.count(1)

    async def _turn(self, operation: str, key: str) -> None:
        """Do nothing; subclasses step in here, before `operation` is carried out on `key`."""

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def head(self, key: str) -> ObjectState | None:
        """Return the state of `key`, or None if it is not there."""
        await self._turn("head", key)
        current = self._current(key)
        return current.state if current else None

    async def is_absent(self, key: str) -> bool:
        """Return whether `key` is not there."""
        await self._turn("is_absent", key)
        return self._current(key) is None

    async def part_sizes(self, key: str, etag: str) -> tuple[int, ...]:
        """Return the sizes in bytes of the parts that `key` was uploaded in.

        Raises `Conflict` if `key` no longer has `etag`.
        """
        await self._turn("part_sizes", key)
        self._check("get parts of", key, Condition(if_match=etag))
        current = self._current(key)
        return current.part_sizes if current else ()

    @asynccontextmanager
    async def open(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        if_match: str | None = None,
    ) -> AsyncIterator[MemoryReader | None]:
        """Open `key`, or bytes `span` (first, last, both inclusive) of it.

        See `tandem.stores.base.ObjectStore.open`.
        """
        await self._turn("open", key)
        current = self._current(key)
        if current is None or current.body is None:
            yield None
            return
        self._check("get", key, Condition(if_match=if_match))
        first, last = span or (0, current.state.size)
        if span and first >= current.state.size:
            raise Invalid(f"get {self.site}:{key!r}: it has no byte {first}")
        yield MemoryReader(self, current.state, current.body[first : last + 1])

    async def put(
        self, key: str, body: bytes | bytearray, content: Content, condition: Condition = ALWAYS
    ) -> Written:
        """Write a whole object.

        Raises `Conflict` if the condition does not hold, `Invalid` if the key cannot be stored.
        """
        await self._turn("put", key)
        self._check("put", key, condition, can=self.capabilities.conditional_put)
        return self._add(key, _md5(body).hex(), bytes(body), content, (len(body),))

    async def delete(self, key: str, condition: Condition = ALWAYS) -> None:
        """Delete `key`; on a versioned bucket this leaves a delete marker."""
        await self._turn("delete", key)
        can = self.capabilities.conditional_delete and not condition.if_absent
        self._check("delete", key, condition, can=can)
        if self._versioned:
            self._add(key, "", None, Content(), ())
        else:
            self._versions.pop(key, None)

    async def tags(self, key: str) -> Mapping[str, str]:
        """Return the tags of `key`; empty if it has none or is not there."""
        await self._turn("tags", key)
        current = self._current(key)
        return dict(current.tags) if current else {}

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of `key`; an empty mapping removes them.

        Raises `Conflict` if `key` is not there.
        """
        await self._turn("put_tags", key)
        current = self._current(key)
        if current is None:
            raise Conflict(f"tag {self.site}:{key!r}: it is not there")
        current.tags = self._checked_tags(key, tags)
        current.state = replace(current.state, tag_count=len(tags))

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Entry]:
        """Yield the current objects in the order of their keys' UTF-8 bytes."""
        await self._turn("list", prefix)
        for key in sorted(self._versions):
            current = self._current(key)
            if current and key.startswith(prefix) and key > start_after:
                yield Entry(key, current.state.etag, current.state.size, current.modified)

    async def create_upload(self, key: str, content: Content) -> str:
        """Begin a multipart upload and return its id."""
        await self._turn("create_upload", key)
        self._check("create upload of", key, ALWAYS)
        self._checked_tags(key, content.tags)
        upload_id = f"upload-{next(self._numbers)}"
        self._uploads[upload_id] = _Upload(Upload(key, upload_id, self._clock()), content)
        return upload_id

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray
    ) -> Part:
        """Send one part; `number` counts from 1.

        Raises `Conflict` if the upload is gone, `Invalid` if there is no such number.
        """
        await self._turn("upload_part", key)
        upload = self._upload(key, upload_id)
        if not 1 <= number <= self.capabilities.max_parts:
            raise Invalid(f"upload part of {self.site}:{key!r}: there is no part number {number}")
        upload.parts[number] = (bytes(body), self._clock())
        return Part(number, _md5(body).hex(), len(body))

    async def complete_upload(
        self, key: str, upload_id: str, parts: tuple[Part, ...], condition: Condition = ALWAYS
    ) -> Written:
        """Make the object of exactly these parts; others of the upload are dropped.

        Raises `Conflict` if the upload or a part is gone or the condition does not hold, and
        `Invalid` if a part but the last is too small or they are out of order.
        """
        await self._turn("complete_upload", key)
        upload = self._upload(key, upload_id)
        bodies = self._chosen(key, upload, parts)
        self._check(
            "complete upload of", key, condition, can=self.capabilities.conditional_complete
        )
        etag = f"{_md5(b''.join(_md5(body) for body in bodies)).hex()}-{len(bodies)}"
        del self._uploads[upload_id]
        sizes = tuple(len(body) for body in bodies)
        return self._add(key, etag, b"".join(bodies), upload.content, sizes)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; an upload that is already gone is no error."""
        await self._turn("abort_upload", key)
        self._uploads.pop(upload_id, None)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the unfinished uploads under `prefix`, oldest first."""
        await self._turn("list_uploads", prefix)
        told = [one.told for one in self._uploads.values() if one.told.key.startswith(prefix)]
        return tuple(sorted(told, key=lambda upload: upload.initiated))

    async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        """Return the parts of an unfinished upload by number.

        Raises `Conflict` if the upload is gone.
        """
        await self._turn("list_parts", key)
        moment = self._clock()
        return tuple(
            Part(number, _md5(body).hex(), len(body), (moment - stored).total_seconds())
            for number, (body, stored) in sorted(self._upload(key, upload_id).parts.items())
        )

    def _current(self, key: str) -> _Version | None:
        """Return the current version of `key`, or None if it has none but a delete marker."""
        if name := flaw(key, "aws"):
            raise Invalid(f"{self.site}:{key!r}: this site cannot keep the key: it has {name}")
        versions = self._versions.get(key)
        return versions[-1] if versions and versions[-1].body is not None else None

    def _check(self, operation: str, key: str, condition: Condition, *, can: bool = True) -> None:
        current = self._current(key)
        if condition != ALWAYS and not can:
            raise Invalid(f"{operation} {self.site}: this site knows no such condition")
        if condition.if_absent and current:
            raise Conflict(f"{operation} {self.site}:{key!r}: it is there already")
        if condition.if_match is not None and (
            current is None or current.state.etag != condition.if_match
        ):
            raise Conflict(f"{operation} {self.site}:{key!r}: it no longer is {condition.if_match}")

    def _checked_tags(self, key: str, tags: Mapping[str, str]) -> dict[str, str]:
        if len(tags) > MAX_TAGS:
            raise Invalid(f"{self.site}:{key!r}: {len(tags)} tags, and {MAX_TAGS} are the most")
        return dict(tags)

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.told.key != key:
            raise Conflict(f"{self.site}:{key!r}: there is no upload {upload_id}")
        return upload

    def _chosen(self, key: str, upload: _Upload, parts: tuple[Part, ...]) -> tuple[bytes, ...]:
        numbers = [part.number for part in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise Invalid(f"{self.site}:{key!r}: the parts {numbers} are not in order")
        bodies = []
        for part in parts:
            body, _ = upload.parts.get(part.number, (None, None))
            if body is None or _md5(body).hex() != part.etag:
                raise Conflict(f"{self.site}:{key!r}: part {part.number} is gone")
            bodies.append(body)
        if any(len(body) < self.capabilities.min_part_size for body in bodies[:-1]):
            raise Invalid(f"{self.site}:{key!r}: a part other than the last is too small")
        return tuple(bodies)

    def _add(
        self,
        key: str,
        etag: str,
        body: bytes | None,
        content: Content,
        part_sizes: tuple[int, ...],
    ) -> Written:
        """Make a version current: the only one, unless the bucket is versioned."""
        modified = self._clock()
        tags = self._checked_tags(key, content.tags)
        state = ObjectState(
            key=key,
            etag=etag,
            size=len(body or b""),
            # HTTP knows no fractions of a second; a listing does.
            last_modified=modified.replace(microsecond=0),
            version_id=f"version-{next(self._numbers)}" if self._versioned else None,
            headers={"content-type": DEFAULT_CONTENT_TYPE, **content.headers},
            metadata={name.lower(): value for name, value in content.metadata.items()},
            tag_count=len(tags),
        )
        before = self._versions.get(key, []) if self._versioned else []
        self._versions[key] = [*before, _Version(state, body, tags, modified, part_sizes)]
        return Written(etag, state.version_id)


def _md5(body: bytes | bytearray) -> bytes:
    return hashlib.md5(body).digest()  # noqa: S324 -- S3 defines ETags by MD5
