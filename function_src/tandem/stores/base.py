"""The seam between the engine and a bucket.

A store speaks for one bucket. It is exact: a key is stored under that key or not at all, a header
arrives as it was given, and every failure is one of the classes of `tandem.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

# The headers that say what the bytes are; a copy keeps each of them.
CONTENT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)

# Keys under this belong to the probe (`tandem.stores.probe`): no rule covers them.
SCRATCH = ".tandem/probe/"
# Where the loser of a conflict is kept in a bucket without versions.
CONFLICTS = ".conflict/"

Algorithm = Literal["crc32c", "sha256"]
Versioning = Literal["enabled", "suspended", "off"]
# What a bucket calls a version that has no id of its own, as under suspended versioning: the next
# such version takes its place.
NO_VERSION = "null"


@dataclass(frozen=True, slots=True)
class ObjectState:
    """Hold what a HEAD tells of a key.

    `etag` is unquoted; `size` in bytes; `last_modified` in UTC; `headers` are those of
    CONTENT_HEADERS that are set, by lower-case name; `metadata` is user metadata by lower-case
    name without its `x-amz-meta-`; `tag_count` is None where the server does not tell.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime
    version_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tag_count: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Hold what goes with the bytes of a write: headers, user metadata, tags, storage class."""

    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """Say what must hold at the target for a write to happen.

    `if_match` is an unquoted ETag that must still be there; `if_absent` asks that nothing is.
    A write whose condition fails raises `Conflict` and changes nothing.
    """

    if_match: str | None = None
    if_absent: bool = False


ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class Checksum:
    """Hold the digest of a body, which the server is asked to check."""

    algorithm: Algorithm
    digest: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """Hold what the server said of a finished write."""

    etag: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold one line of a listing."""

    key: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """Hold one line of a listing of versions; a delete marker has no ETag and no bytes."""

    key: str
    version_id: str
    etag: str
    size: int
    last_modified: datetime
    is_latest: bool = False
    is_marker: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """Hold one unfinished multipart upload."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """Hold one part of an unfinished upload.

    `age` is in seconds, by the server's own clock, at the time of the listing.
    """

    number: int
    etag: str
    size: int
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Say what a store can do; the engine chooses its write protocol by it.

    The probe finds it out; until then it is what is known of the server's kind. A conditional
    operation is one that keeps to If-Match and to If-None-Match, of which deletes have only the
    first. `conditional_get` is If-Match on reads. `copy` is a server-side copy that keeps to
    If-Match at its source, `conditional_copy` one that keeps to conditions at its target as well.
    `versions` says that the bucket keeps old versions; `ordered_versions` that versions and delete
    markers are listed in the order in which they came; `checksums` names those that the server
    checks; `ordered` that listings are in the order of UTF-8 bytes; `resumes` that a cut-short
    upload can be taken up from its parts; `part_sizes` that the server tells an object's parts.
    `min_part_size` is in bytes; `unrepresentable` says in words what keys must not have.
    """

    conditional_put: bool = True
    conditional_complete: bool = True
    conditional_delete: bool = False
    tags: bool = True
    max_parts: int = 10_000
    min_part_size: int = 5 * 1024 * 1024
    unrepresentable: tuple[str, ...] = field(default=())
    conditional_get: bool = True
    copy: bool = False
    conditional_copy: bool = False
    versions: bool = False
    checksums: tuple[Algorithm, ...] = ()
    ordered: bool = True
    resumes: bool = True
    part_sizes: bool = True
    ordered_versions: bool = True

    @property
    def conditional_writes(self) -> bool:
        """Return whether a copy can be made on condition, in one request or in parts."""
        return self.conditional_put and self.conditional_complete


class Reader(Protocol):
    """Give an open object: its state at once, its bytes when asked."""

    @property
    def state(self) -> ObjectState:
        """Return the state that came with the same response as the bytes."""
        ...

    async def read(self) -> bytes | bytearray:
        """Return every byte that was asked for.

        Raises `Transient` if the body ends early.
        """
        ...


class ObjectStore(Protocol):
    """Read and write one bucket; `site` is what rules call it."""

    site: str
    bucket: str
    capabilities: Capabilities

    async def head(self, key: str, version_id: str | None = None) -> ObjectState | None:
        """Return the state of `key`, or of one version of it; None if a HEAD answers 404."""
        ...

    async def is_absent(self, key: str) -> bool:
        """Return whether the server positively says that this one key is not there.

        Only NoSuchKey or a delete marker is evidence; a missing bucket raises `Missing`.
        """
        ...

    async def history(self, key: str, most: int) -> tuple[ObjectState, ...]:
        """Return the versions before the latest, the newest first; at most `most`.

        Delete markers are left out. Empty if the bucket keeps no versions.
        """
        ...

    def versions(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Version]:
        """Yield all versions and delete markers, by key as `list` does, each key's newest first.

        In buckets without versions, the current objects, each as its NO_VERSION.
        """
        ...

    async def versioning(self) -> Versioning:
        """Return whether the bucket keeps old versions of what is written now."""
        ...

    async def part_sizes(
        self, key: str, etag: str, version_id: str | None = None
    ) -> tuple[int, ...]:
        """Return the sizes in bytes of the parts that `key` was uploaded in; one for a plain put.

        Raises `Conflict` if `key`, or that version of it, does not have `etag`.
        """
        ...

    def open(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        if_match: str | None = None,
        version_id: str | None = None,
    ) -> AbstractAsyncContextManager[Reader | None]:
        """Open `key`, or bytes `span` (first, last, both inclusive) of it, or of one version.

        Gives None if there is positive evidence that the key is absent (as `is_absent`).
        Leaving the context unread drops the connection, so no byte is fetched for nothing.
        Raises `Conflict` if the object no longer has the ETag `if_match`.
        """
        ...

    async def copy(
        self,
        source: str,
        key: str,
        content: Content,
        *,
        if_match: str | None = None,
    ) -> Written:
        """Copy `source`, if it still has the ETag `if_match`, to `key` at the server.

        Raises `Conflict` if it has not, `Invalid` if the server knows no such copy.
        """
        ...

    async def put(
        self, key: str, body: bytes | bytearray, content: Content, condition: Condition = ALWAYS
    ) -> Written:
        """Write a whole object in one request.

        Raises `Conflict` if the condition does not hold, `Invalid` if the key cannot be stored.
        """
        ...

    async def delete(self, key: str, condition: Condition = ALWAYS) -> None:
        """Delete `key`; on a versioned bucket this leaves a delete marker."""
        ...

    async def tags(self, key: str, version_id: str | None = None) -> Mapping[str, str]:
        """Return the tags of `key`, or of one version; empty if it has none or is not there."""
        ...

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of `key`; an empty mapping removes them."""
        ...

    def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Entry]:
        """Yield the current objects in the order of their keys' UTF-8 bytes."""
        ...

    async def create_upload(self, key: str, content: Content) -> str:
        """Begin a multipart upload and return its id."""
        ...

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray
    ) -> Part:
        """Send one part; `number` counts from 1.

        Raises `Conflict` if the upload is gone (finished or aborted by somebody else).
        """
        ...

    async def complete_upload(
        self, key: str, upload_id: str, parts: tuple[Part, ...], condition: Condition = ALWAYS
    ) -> Written:
        """Make the object of exactly these parts; others of the upload are dropped."""
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; an upload that is already gone is no error."""
        ...

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the unfinished uploads under `prefix`, oldest first.

        MinIO answers only for the exact key of an object, so pass a whole key where one is known.
        """
        ...

    async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        """Return the parts of an unfinished upload by number.

        Raises `Conflict` if the upload is gone.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
