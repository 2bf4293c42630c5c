"""The state of a bucket in memory, and the rules that S3 has for changing it.

Nothing here waits: what a call does, it does at once.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tandem.errors import Conflict, Invalid
from tandem.stores.base import (
    ALWAYS,
    NO_VERSION,
    Checksum,
    Condition,
    Content,
    ObjectState,
    Part,
    Upload,
    Written,
)
from tandem.stores.base import Version as Listed
from tandem.stores.keys import flaw

MAX_TAGS = 10
DEFAULT_CONTENT_TYPE = "binary/octet-stream"


@dataclass(slots=True)
class Version:
    """One version of a key; `body` is None for a delete marker."""

    state: ObjectState
    body: bytes | None
    tags: dict[str, str]
    modified: datetime
    part_sizes: tuple[int, ...]


@dataclass(slots=True)
class Unfinished:
    """One unfinished upload: its parts by number, each with the moment it was stored."""

    told: Upload
    content: Content
    parts: dict[int, tuple[bytes, datetime]] = field(default_factory=dict)


class MemoryBucket:
    """Keep the versions and the unfinished uploads of one bucket.

    `site` is the name that errors give it; `clock` tells the time. While a versioned bucket is
    `suspended`, what is written is the key's one NO_VERSION.
    """

    def __init__(self, site: str, *, versioned: bool, clock: Callable[[], datetime]) -> None:
        self.site = site
        self.uploads: dict[str, Unfinished] = {}
        self.versioned = versioned
        self.suspended = False
        self._clock = clock
        self._versions: dict[str, list[Version]] = {}
        self._numbers = itertools.count(1)

    def current(self, key: str, version_id: str | None = None) -> Version | None:
        """Return the current version of `key`, or the one of that id; None for a delete marker."""
        if name := flaw(key, "aws"):
            raise Invalid(f"{self.site}:{key!r}: this site cannot keep the key: it has {name}")
        found = [
            one
            for one in self._versions.get(key, [])[-1 if version_id is None else 0 :]
            if version_id in (None, one.state.version_id or NO_VERSION) and one.body is not None
        ]
        return found[-1] if found else None

    def history(self, key: str) -> Iterator[Version]:
        """Yield the versions before the latest, the newest first, without delete markers."""
        earlier = self._versions.get(key, [])[:-1]
        return (version for version in reversed(earlier) if version.body is not None)

    def versions(self, prefix: str, start_after: str) -> Iterator[Listed]:
        """Yield all versions and delete markers by key, each key's newest first."""
        for key in sorted(self._versions):
            if key.startswith(prefix) and key > start_after:
                for place, one in enumerate(reversed(self._versions[key])):
                    yield Listed(
                        key=key,
                        version_id=one.state.version_id or NO_VERSION,
                        etag=one.state.etag,
                        size=one.state.size,
                        last_modified=one.modified,
                        is_latest=place == 0,
                        is_marker=one.body is None,
                    )

    def forget(self, key: str, version_id: str) -> None:
        """Remove one version or delete marker for good."""
        left = [one for one in self._versions[key] if one.state.version_id != version_id]
        self._versions[key] = left
        if not left:
            del self._versions[key]

    def objects(self) -> Iterator[tuple[str, Version]]:
        """Yield the current versions in the order of their keys' UTF-8 bytes."""
        for key in sorted(self._versions):
            current = self.current(key)
            if current:
                yield key, current

    def add(
        self, key: str, etag: str, body: bytes, content: Content, part_sizes: tuple[int, ...]
    ) -> Written:
        """Make a version current: the only one, unless the bucket is versioned."""
        modified = self._clock()
        tags = self.checked_tags(key, content.tags)
        state = ObjectState(
            key=key,
            etag=etag,
            size=len(body),
            # HTTP knows no fractions of a second; a listing does.
            last_modified=modified.replace(microsecond=0),
            version_id=self._new_id(),
            headers={"content-type": DEFAULT_CONTENT_TYPE, **content.headers},
            metadata={name.lower(): value for name, value in content.metadata.items()},
            tag_count=len(tags),
        )
        self._push(key, Version(state, body, tags, modified, part_sizes))
        return Written(etag, state.version_id)

    def remove(self, key: str) -> None:
        """Delete `key`; on a versioned bucket this leaves a delete marker."""
        if not self.versioned:
            self._versions.pop(key, None)
            return
        modified = self._clock()
        marker = ObjectState(key, "", 0, modified, version_id=self._new_id())
        self._push(key, Version(marker, None, {}, modified, ()))

    def purge(self, prefix: str) -> None:
        """Delete every version and delete marker of the keys under `prefix`."""
        for key in [key for key in self._versions if key.startswith(prefix)]:
            del self._versions[key]

    def retag(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of `key`; raises `Conflict` if it is not there."""
        current = self.current(key)
        if current is None:
            raise Conflict(f"tag {self.site}:{key!r}: it is not there")
        current.tags = self.checked_tags(key, tags)
        current.state = replace(current.state, tag_count=len(tags))

    def begin(self, key: str, content: Content) -> str:
        """Begin an upload and return its id."""
        self.current(key)  # whether the key can be kept
        self.checked_tags(key, content.tags)
        upload_id = f"upload-{next(self._numbers)}"
        self.uploads[upload_id] = Unfinished(Upload(key, upload_id, self._clock()), content)
        return upload_id

    def upload(self, key: str, upload_id: str) -> Unfinished:
        """Return an unfinished upload; raises `Conflict` if it is gone."""
        upload = self.uploads.get(upload_id)
        if upload is None or upload.told.key != key:
            raise Conflict(f"{self.site}:{key!r}: there is no upload {upload_id}")
        return upload

    def chosen(
        self, key: str, upload: Unfinished, parts: tuple[Part, ...], smallest: int
    ) -> tuple[bytes, ...]:
        """Return the bodies of the parts named at completion.

        Raises `Conflict` if a part is gone, and `Invalid` if they are out of order or one but
        the last has fewer bytes than `smallest`.
        """
        numbers = [part.number for part in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise Invalid(f"{self.site}:{key!r}: the parts {numbers} are not in order")
        bodies = []
        for part in parts:
            body, _ = upload.parts.get(part.number, (None, None))
            if body is None or md5(body).hex() != part.etag:
                raise Conflict(f"{self.site}:{key!r}: part {part.number} is gone")
            bodies.append(body)
        if any(len(body) < smallest for body in bodies[:-1]):
            raise Invalid(f"{self.site}:{key!r}: a part other than the last is too small")
        return tuple(bodies)

    def check(
        self,
        operation: str,
        key: str,
        condition: Condition,
        *,
        can: bool = True,
        version_id: str | None = None,
    ) -> None:
        """Raise `Conflict` if a condition does not hold, `Invalid` if it is not known here."""
        current = self.current(key, version_id)
        if condition != ALWAYS and not can:
            raise Invalid(f"{operation} {self.site}: this site knows no such condition")
        if condition.if_absent and current:
            raise Conflict(f"{operation} {self.site}:{key!r}: it is there already")
        if condition.if_match is not None and (
            current is None or current.state.etag != condition.if_match
        ):
            raise Conflict(f"{operation} {self.site}:{key!r}: it no longer is {condition.if_match}")

    def check_sum(self, key: str, body: bytes | bytearray, checksum: Checksum) -> None:
        """Raise `Invalid` if a body has another checksum."""
        if hashlib.new(checksum.algorithm, body).digest() != checksum.digest:
            raise Invalid(f"put {self.site}:{key!r}: the body has another {checksum.algorithm}")

    def checked_tags(self, key: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Return a copy of `tags`; raises `Invalid` if there are too many."""
        if len(tags) > MAX_TAGS:
            raise Invalid(f"{self.site}:{key!r}: {len(tags)} tags, and {MAX_TAGS} are the most")
        return dict(tags)

    def _push(self, key: str, version: Version) -> None:
        before = self._versions.get(key, []) if self.versioned else []
        replaced = NO_VERSION if self.suspended else None
        before = [one for one in before if replaced is None or one.state.version_id != replaced]
        self._versions[key] = [*before, version]

    def _new_id(self) -> str | None:
        if not self.versioned:
            return None
        return NO_VERSION if self.suspended else f"version-{next(self._numbers)}"


def md5(body: bytes | bytearray) -> bytes:
    """Return the MD5 of a body, by which S3 defines ETags."""
    return hashlib.md5(body).digest()  # noqa: S324 -- S3 defines ETags by MD5
