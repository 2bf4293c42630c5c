"""Moving bytes from one store to another: one request when small, parallel parts when large.

Memory: all copies of a process together hold at most `Transfer.memory` bytes of bodies.

The ledger of an unfinished large copy is the target's own upload. Which source object an upload
belongs to is told by its marker: part number `max_parts`, whose body is a digest of the source's
identity. A part's ETag is the MD5 of its body, so ListParts shows the marker; and since it is
not named at completion, the server drops it (S3 API reference, CompleteMultipartUpload). So a
copy that was cut short is taken up by whoever gets the change next, from nothing but the target.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from tandem.concurrency import Budget, together
from tandem.errors import Conflict, Denied, Invalid, Missing, Transient
from tandem.stores.base import Condition, Content, ObjectState, ObjectStore, Part, Written

MIB = 1024 * 1024
MARKER = b"tandem upload "
# A part younger than this, in seconds, says that another worker is sending the object now.
BUSY = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """Name one part: its number from 1, its first and last byte (inclusive)."""

    number: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return self.last - self.first + 1


def plan(sizes: tuple[int, ...]) -> tuple[Span, ...]:
    """Return the parts of the given sizes in bytes, laid end to end."""
    spans = []
    first = 0
    for number, size in enumerate(sizes, 1):
        spans.append(Span(number, first, first + size - 1))
        first += size
    return tuple(spans)


def even(size: int, part_size: int) -> tuple[int, ...]:
    """Return `size` bytes cut into parts of `part_size`, the last one as large as it comes."""
    whole, rest = divmod(size, part_size)
    return (part_size,) * whole + ((rest,) if rest else ())


def marker(source: ObjectState, content: Content, sizes: tuple[int, ...]) -> bytes:
    """Return the body of the marker part: it tells of the same copy of the same object."""
    identity = json.dumps(
        [
            source.etag,
            source.version_id,
            sizes,
            sorted(content.headers.items()),
            sorted(content.metadata.items()),
            sorted(content.tags.items()),
        ]
    )
    return MARKER + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest().encode()


class Transfer:
    """Copy objects between stores under one bound of memory.

    `part_size`, in bytes, is also the largest object that goes in one request; `memory`, in
    bytes, bounds all bodies held at once; `lanes` is how many parts of one object move at once.
    """

    def __init__(
        self, *, part_size: int = 16 * MIB, memory: int = 96 * MIB, lanes: int = 4
    ) -> None:
        self.part_size = part_size
        self.lanes = lanes
        self.budget = Budget(memory)

    def sizes(self, size: int, max_parts: int) -> tuple[int, ...]:
        """Return the parts in which an object of `size` bytes is sent; empty for one request.

        One part number is kept for the marker. Raises `Invalid` if parts that large do not fit
        into the memory bound.
        """
        if size <= self.part_size:
            return ()
        part_size = max(self.part_size, -(-size // (max_parts - 1)))
        if part_size > self.budget.total:
            raise Invalid(
                f"an object of {size} bytes needs parts of {part_size} bytes, which is more than "
                f"the memory bound of {self.budget.total}: give the worker more memory"
            )
        return even(size, part_size)

    async def copy(
        self,
        source: ObjectStore,
        target: ObjectStore,
        state: ObjectState,
        content: Content,
        condition: Condition,
        sizes: tuple[int, ...],
    ) -> Written:
        """Copy the object that `state` describes, and no other, to the same key of `target`.

        `sizes` are the parts to send it in, none for one request. Raises `Conflict` if the
        source moved, or the condition does not hold at the target; then nothing is there that
        was not before.
        """
        if not sizes:
            async with self.budget.take(state.size):
                body = await read(source, state)
                return await target.put(state.key, body, content, condition)
        work = _PartCopy(self, source, target, state, content, sizes)
        return await work.run(condition)


async def read(
    source: ObjectStore, state: ObjectState, span: tuple[int, int] | None = None
) -> bytes | bytearray:
    """Read the object that `state` describes, or a span of it, pinned to its ETag.

    Raises `Conflict` if the source no longer holds that very object.
    """
    async with source.open(state.key, span=span, if_match=state.etag) as reader:
        if reader is None:
            raise Conflict(f"{source.site}:{state.key} was deleted while it was being read")
        return await reader.read()


class _PartCopy:
    """One large object on its way to one target."""

    def __init__(
        self,
        transfer: Transfer,
        source: ObjectStore,
        target: ObjectStore,
        state: ObjectState,
        content: Content,
        sizes: tuple[int, ...],
    ) -> None:
        self.transfer = transfer
        self.source = source
        self.target = target
        self.state = state
        self.content = content
        self.spans = plan(sizes)
        self.marker = marker(state, content, sizes)
        self.marker_number = target.capabilities.max_parts
        self.parts: dict[int, Part] = {}

    async def run(self, condition: Condition) -> Written:
        """Take up the upload or begin one, send what is missing, complete it."""
        key = self.state.key
        upload_id = await self._resume()
        if upload_id is None:
            upload_id = await self.target.create_upload(key, self.content)
            await self.target.upload_part(key, upload_id, self.marker_number, self.marker)
        try:
            missing = iter([span for span in self.spans if span.number not in self.parts])
            await together(*(self._lane(upload_id, missing) for _ in range(self.transfer.lanes)))
            parts = tuple(self.parts[span.number] for span in self.spans)
            return await self.target.complete_upload(key, upload_id, parts, condition)
        except (Conflict, Denied, Invalid, Missing):
            # What is kept after a fault that may pass is taken up again; this one did not.
            await self.target.abort_upload(key, upload_id)
            raise

    async def _lane(self, upload_id: str, spans: Iterator[Span]) -> None:
        for span in spans:
            async with self.transfer.budget.take(span.size):
                body = await read(self.source, self.state, (span.first, span.last))
                if len(body) != span.size:
                    raise Transient(
                        f"{self.source.site}:{self.state.key} gave {len(body)} bytes "
                        f"where {span.size} were asked for"
                    )
                part = await self.target.upload_part(self.state.key, upload_id, span.number, body)
            self.parts[span.number] = part

    async def _resume(self) -> str | None:
        """Return the upload that holds part of this very copy, having learnt its parts.

        Uploads of ours that belong to another state of the source are aborted: nobody will
        complete them. Raises `Conflict` if another worker is at it.
        """
        key = self.state.key
        found = None
        for upload in await self.target.list_uploads(key):
            if upload.key != key:
                continue
            parts = {part.number: part for part in await self._parts_of(upload.upload_id)}
            mark = parts.pop(self.marker_number, None)
            if mark is None or mark.size != len(self.marker):
                continue  # somebody else's
            if min(part.age for part in (mark, *parts.values())) < BUSY:
                raise Conflict(f"another worker is sending {key} to {self.target.site}")
            if found is None and mark.etag == hashlib.md5(self.marker).hexdigest():  # noqa: S324 -- S3 defines a part's ETag by MD5
                found = upload.upload_id
                self.parts = {
                    span.number: parts[span.number]
                    for span in self.spans
                    if span.number in parts and parts[span.number].size == span.size
                }
            else:
                await self.target.abort_upload(key, upload.upload_id)
        return found

    async def _parts_of(self, upload_id: str) -> tuple[Part, ...]:
        try:
            return await self.target.list_parts(self.state.key, upload_id)
        except Conflict:
            return ()  # finished or aborted since it was listed
