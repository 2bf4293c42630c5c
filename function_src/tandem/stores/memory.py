"""A bucket in memory, with the semantics of S3: for tests, and for trying things out.

It keeps versions and delete markers, conditions, tags and unfinished uploads as Amazon S3
documents them; the conformance tests hold it and real servers to the same sentences.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Self

from tandem.errors import Conflict, Invalid
from tandem.stores.base import (
    ALWAYS,
    SCRATCH,
    Capabilities,
    Checksum,
    Condition,
    Content,
    Entry,
    ObjectState,
    Part,
    Upload,
    Version,
    Versioning,
    Written,
)
from tandem.stores.memory_bucket import MemoryBucket, md5


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


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
    What a call does after its turn, it does at once, without another task in between. What
    `capabilities` has not, the store refuses, as a server would that does not know it.
    """

    def __init__(
        self,
        site: str = "memory",
        *,
        versioned: bool = False,
        clock: Callable[[], datetime] = now,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.site = self.bucket = site
        self.capabilities = replace(capabilities or Capabilities(), versions=versioned)
        self._able = self.capabilities
        self._clock = clock
        self._bucket = MemoryBucket(site, versioned=versioned, clock=clock)

    async def _turn(self, operation: str, key: str) -> None:
        """Do nothing; subclasses step in here, before `operation` is carried out on `key`."""

    def unguarded(self) -> Self:
        """Return the same bucket as a store that believes of itself what it was made with."""
        other = copy(self)
        other.capabilities = self._able
        return other

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def head(self, key: str, version_id: str | None = None) -> ObjectState | None:
        """Return the state of `key`, or of one version of it; None if it is not there."""
        await self._turn("head", key)
        current = self._bucket.current(key, version_id)
        return current.state if current else None

    async def history(self, key: str, most: int) -> tuple[ObjectState, ...]:
        """Return the versions before the latest, the newest first; at most `most`."""
        await self._turn("history", key)
        return tuple(version.state for version in islice(self._bucket.history(key), most))

    async def versions(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Version]:
        """Yield all versions and delete markers, by key as `list` does, each key's newest first."""
        await self._turn("versions", prefix)
        for version in tuple(self._bucket.versions(prefix, start_after)):
            yield version

    async def versioning(self) -> Versioning:
        """Return whether the bucket keeps old versions of what is written now."""
        await self._turn("versioning", "")
        if not self._bucket.versioned:
            return "off"
        return "suspended" if self._bucket.suspended else "enabled"

    async def is_absent(self, key: str) -> bool:
        """Return whether `key` is not there."""
        await self._turn("is_absent", key)
        return self._bucket.current(key) is None

    async def part_sizes(
        self, key: str, etag: str, version_id: str | None = None
    ) -> tuple[int, ...]:
        """Return the sizes in bytes of the parts that `key` was uploaded in.

        Raises `Conflict` if `key`, or that version of it, does not have `etag`.
        """
        await self._turn("part_sizes", key)
        condition = Condition(if_match=etag)
        self._bucket.check("get parts of", key, condition, version_id=version_id)
        current = self._bucket.current(key, version_id)
        return current.part_sizes if current else ()

    @asynccontextmanager
    async def open(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        if_match: str | None = None,
        version_id: str | None = None,
    ) -> AsyncIterator[MemoryReader | None]:
        """Open `key`, or bytes `span` (first, last, both inclusive) of it, or of one version.

        See `tandem.stores.base.ObjectStore.open`.
        """
        await self._turn("open", key)
        current = self._bucket.current(key, version_id)
        if current is None or current.body is None:
            yield None
            return
        if self.capabilities.conditional_get:
            condition = Condition(if_match=if_match)
            self._bucket.check("get", key, condition, version_id=version_id)
        first, last = span or (0, current.state.size)
        if span and first >= current.state.size:
            raise Invalid(f"get {self.site}:{key!r}: it has no byte {first}")
        yield MemoryReader(self, current.state, current.body[first : last + 1])

    async def put(
        self,
        key: str,
        body: bytes | bytearray,
        content: Content,
        condition: Condition = ALWAYS,
        checksum: Checksum | None = None,
    ) -> Written:
        """Write a whole object.

        Raises `Conflict` if the condition does not hold, `Invalid` if the key cannot be stored or
        the body has another checksum.
        """
        await self._turn("put", key)
        self._bucket.check("put", key, condition, can=self.capabilities.conditional_put)
        self._check_tags(content.tags)
        if checksum:
            if checksum.algorithm not in self.capabilities.checksums:
                raise Invalid(f"put {self.site}: this site knows no {checksum.algorithm}")
            self._bucket.check_sum(key, body, checksum)
        return self._bucket.add(key, md5(body).hex(), bytes(body), content, (len(body),))

    async def copy(
        self,
        source: str,
        key: str,
        content: Content,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        condition: Condition = ALWAYS,
    ) -> Written:
        """Copy the bytes of `source`, a key of this bucket, and give them `content`.

        `if_match` and `if_none_match` are ETags that `source` must have, or must not. Raises
        `Conflict` if one of them or the condition at `key` does not hold.
        """
        await self._turn("copy", key)
        if not self.capabilities.copy:
            raise Invalid(f"copy {self.site}: this site copies nothing by itself")
        self._bucket.check("copy", source, Condition(if_match=if_match))
        current = self._bucket.current(source)
        if current is None or current.body is None or current.state.etag == if_none_match:
            raise Conflict(f"copy {self.site}:{source!r}: it is {if_none_match or 'gone'}")
        self._bucket.check("copy", key, condition, can=self.capabilities.conditional_copy)
        self._check_tags(content.tags)
        body = current.body
        return self._bucket.add(key, md5(body).hex(), body, content, (len(body),))

    async def delete(self, key: str, condition: Condition = ALWAYS) -> None:
        """Delete `key`; on a versioned bucket this leaves a delete marker."""
        await self._turn("delete", key)
        can = self.capabilities.conditional_delete and not condition.if_absent
        self._bucket.check("delete", key, condition, can=can)
        self._bucket.remove(key)

    async def tags(self, key: str, version_id: str | None = None) -> Mapping[str, str]:
        """Return the tags of `key`, or of one version; empty if it has none or is not there."""
        await self._turn("tags", key)
        current = self._bucket.current(key, version_id)
        return dict(current.tags) if current else {}

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of `key`; an empty mapping removes them.

        Raises `Conflict` if `key` is not there.
        """
        await self._turn("put_tags", key)
        self._check_tags(tags)
        self._bucket.retag(key, tags)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Entry]:
        """Yield the current objects in the order of their keys' UTF-8 bytes."""
        await self._turn("list", prefix)
        for key, held in self._bucket.objects():
            if key.startswith(prefix) and key > start_after:
                yield Entry(key, held.state.etag, held.state.size, held.modified)

    async def page(self, prefix: str, start_after: str = "") -> tuple[Entry, ...]:
        """Return the current objects; there is but one page."""
        return tuple([entry async for entry in self.list(prefix, start_after)])

    async def purge(self, prefix: str) -> None:
        """Delete every version and delete marker of the scratch keys under `prefix`.

        Raises ValueError if they are not under SCRATCH: nothing else is ever purged.
        """
        await self._turn("purge", prefix)
        if not prefix.startswith(SCRATCH):
            raise ValueError(f"only keys under {SCRATCH} are purged, and {prefix!r} is not")
        self._bucket.purge(prefix)

    async def create_upload(self, key: str, content: Content) -> str:
        """Begin a multipart upload and return its id."""
        await self._turn("create_upload", key)
        self._check_tags(content.tags)
        return self._bucket.begin(key, content)

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray
    ) -> Part:
        """Send one part; `number` counts from 1.

        Raises `Conflict` if the upload is gone, `Invalid` if there is no such number.
        """
        await self._turn("upload_part", key)
        upload = self._bucket.upload(key, upload_id)
        if not 1 <= number <= self.capabilities.max_parts:
            raise Invalid(f"upload part of {self.site}:{key!r}: there is no part number {number}")
        upload.parts[number] = (bytes(body), self._clock())
        return Part(number, md5(body).hex(), len(body))

    async def complete_upload(
        self, key: str, upload_id: str, parts: tuple[Part, ...], condition: Condition = ALWAYS
    ) -> Written:
        """Make the object of exactly these parts; others of the upload are dropped.

        Raises `Conflict` if the upload or a part is gone or the condition does not hold, and
        `Invalid` if a part but the last is too small or they are out of order.
        """
        await self._turn("complete_upload", key)
        upload = self._bucket.upload(key, upload_id)
        bodies = self._bucket.chosen(key, upload, parts, self.capabilities.min_part_size)
        self._bucket.check(
            "complete upload of", key, condition, can=self.capabilities.conditional_complete
        )
        etag = f"{md5(b''.join(md5(body) for body in bodies)).hex()}-{len(bodies)}"
        del self._bucket.uploads[upload_id]
        sizes = tuple(len(body) for body in bodies)
        return self._bucket.add(key, etag, b"".join(bodies), upload.content, sizes)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; an upload that is already gone is no error."""
        await self._turn("abort_upload", key)
        self._bucket.uploads.pop(upload_id, None)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the unfinished uploads under `prefix`, oldest first."""
        await self._turn("list_uploads", prefix)
        told = [
            one.told for one in self._bucket.uploads.values() if one.told.key.startswith(prefix)
        ]
        return tuple(sorted(told, key=lambda upload: upload.initiated))

    async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        """Return the parts of an unfinished upload by number.

        Raises `Conflict` if the upload is gone.
        """
        await self._turn("list_parts", key)
        moment = self._clock()
        return tuple(
            Part(number, md5(body).hex(), len(body), (moment - stored).total_seconds())
            for number, (body, stored) in sorted(self._bucket.upload(key, upload_id).parts.items())
        )

    def _check_tags(self, tags: Mapping[str, str]) -> None:
        if tags and not self.capabilities.tags:
            raise Invalid(f"{self.site}: this site knows no tags")
