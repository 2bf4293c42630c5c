"""Moving bytes from one store to another: one request when small, parallel parts when large.

Memory: all copies of a process together hold at most `Transfer.memory` bytes of bodies.

The ledger of an unfinished large copy is the target's own upload (`tandem.ledger`). So a copy that
was cut short, or stopped before its deadline, is taken up by whoever gets the change next, from
nothing but the target.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tandem.concurrency import Budget, together
from tandem.decision import SOURCE_SHA256
from tandem.errors import (
    Conflict,
    Denied,
    Invalid,
    Missing,
    TandemError,
    Throttled,
    Transient,
    Unfinished,
)
from tandem.ledger import (
    HANDED_ON,
    KEPT,
    UNDER_WAY,
    flag_number,
    ledger_of,
    marker,
    marker_number,
)
from tandem.pace import Pace
from tandem.sharing import SharedReading, read
from tandem.stores.base import Condition, Content, ObjectState, ObjectStore, Part, Written

MIB = 1024 * 1024
# A part younger than this, in seconds, says that another worker is sending the object now.
BUSY = 10.0
# A body above this many bytes is hashed in a thread: hashlib lets go of the interpreter's lock.
ASIDE = 256 * 1024


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

        The last part numbers are kept for the ledger. Raises `Invalid` if parts that large do
        not fit into the memory bound, or the target takes no parts.
        """
        if size <= self.part_size:
            return ()
        if max_parts <= KEPT:
            raise Invalid(
                f"an object of {size} bytes must go in parts, and the target takes none: "
                f"{self.part_size} bytes are the most that goes in one request"
            )
        part_size = max(self.part_size, -(-size // (max_parts - KEPT)))
        if part_size > self.budget.total:
            raise Invalid(
                f"an object of {size} bytes needs parts of {part_size} bytes, which is more than "
                f"the memory bound of {self.budget.total}: give the worker more memory"
            )
        return even(size, part_size)

    def takes(self, sizes: tuple[int, ...], max_parts: int) -> bool:
        """Return whether parts of these sizes fit into memory and into the target's numbers."""
        return max(sizes, default=0) <= self.budget.total and len(sizes) <= max_parts - KEPT

    async def put(
        self,
        target: ObjectStore,
        key: str,
        body: bytes | bytearray,
        content: Content,
        condition: Condition,
    ) -> Written:
        """Write a whole object in one request, with the SHA-256 of its bytes in its provenance."""
        metadata = {**content.metadata, SOURCE_SHA256: await _sha256(body)}
        return await target.put(key, body, replace(content, metadata=metadata), condition)

    async def copy(
        self,
        source: ObjectStore,
        target: ObjectStore,
        state: ObjectState,
        content: Content,
        condition: Condition,
        sizes: tuple[int, ...],
        deadline: float | None = None,
        key: str | None = None,
        shared: SharedReading | None = None,
        version_id: str | None = None,
    ) -> Written:
        """Copy the object that `state` describes, and no other, to `key` of `target`.

        It is the current one, or that of `version_id`; `key` is by default the same as at the
        source. `sizes` are the parts to send it in, none for one request. `deadline` is a moment of
        the event loop's clock. What goes in one request is read by way of `shared`, if other
        targets may want it too; parts and old versions are read for each target by itself. Raises
        `Conflict` if the source moved, or the condition does not hold at the target; then nothing
        is there that was not before. Raises `Unfinished` before the deadline if not all can be sent
        by then; `Invalid` if that would lead nowhere.
        """
        key = state.key if key is None else key
        pace = Pace(deadline)
        if not pace.allows(state.size):
            raise Unfinished(
                f"no time was left to copy {source.site}:{state.key!r}",
                sent=0,
                done=0,
                size=state.size,
            )
        if not sizes:
            async with self.budget.take(state.size):
                if shared and version_id is None:
                    async with shared.whole(source, state) as body:
                        return await self.put(target, key, body, content, condition)
                body = await read(source, state, version_id=version_id)
                return await self.put(target, key, body, content, condition)
        work = _PartCopy(self, source, target, state, key, content, sizes, pace, version_id)
        return await work.run(condition)


async def _sha256(body: bytes | bytearray) -> str:
    if len(body) > ASIDE:
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return hashlib.sha256(body).hexdigest()


class _PartCopy:
    """One large object on its way to one target."""

    def __init__(
        self,
        transfer: Transfer,
        source: ObjectStore,
        target: ObjectStore,
        state: ObjectState,
        key: str,
        content: Content,
        sizes: tuple[int, ...],
        pace: Pace,
        version_id: str | None,
    ) -> None:
        self.version_id = version_id
        self.transfer = transfer
        self.source = source
        self.target = target
        self.state = state
        self.key = key
        self.content = content
        self.spans = plan(sizes)
        self.pace = pace
        self.marker = marker(state, content, sizes)
        self.parts: dict[int, Part] = {}
        self.sent = 0

    async def run(self, condition: Condition) -> Written:
        """Take up the upload or begin one, send what is missing, complete it."""
        key = self.key
        upload_id = await self._resume() or await self._begin()
        try:
            await self._send(upload_id)
            if len(self.parts) < len(self.spans):
                await self._hand_on(upload_id)
                raise self._unfinished()
            parts = tuple(self.parts[span.number] for span in self.spans)
            return await self.target.complete_upload(key, upload_id, parts, condition)
        except (Conflict, Denied, Invalid, Missing):
            # What is kept after a fault that may pass is taken up again; this one did not.
            await self.target.abort_upload(key, upload_id)
            raise

    async def _begin(self) -> str:
        upload_id = await self.target.create_upload(self.key, self.content)
        try:
            await together(self._mark(upload_id), self._flag(upload_id, UNDER_WAY))
        except TandemError:
            # Without its ledger nobody could tell whose it is, and nobody would sweep it up.
            with contextlib.suppress(TandemError):
                await self.target.abort_upload(self.key, upload_id)
            raise
        return upload_id

    async def _mark(self, upload_id: str) -> None:
        number = marker_number(self.target.capabilities.max_parts)
        await self.target.upload_part(self.key, upload_id, number, self.marker)

    async def _flag(self, upload_id: str, body: bytes) -> None:
        number = flag_number(self.target.capabilities.max_parts)
        await self.target.upload_part(self.key, upload_id, number, body)

    async def _send(self, upload_id: str) -> None:
        """Send the parts that are missing, as many as the time allows."""
        missing = iter([span for span in self.spans if span.number not in self.parts])
        with contextlib.suppress(TimeoutError):  # of the deadline: a store raises Transient
            async with asyncio.timeout_at(self.pace.end):
                lanes = range(self.transfer.lanes)
                await together(*(self._lane(upload_id, missing) for _ in lanes))

    async def _lane(self, upload_id: str, spans: Iterator[Span]) -> None:
        loop = asyncio.get_running_loop()
        for span in spans:
            async with self.transfer.budget.take(span.size):
                if not self.pace.allows(span.size):
                    return
                started = loop.time()
                body = await read(self.source, self.state, (span.first, span.last), self.version_id)
                if len(body) != span.size:
                    raise Transient(
                        f"{self.source.site}:{self.state.key} gave {len(body)} bytes "
                        f"where {span.size} were asked for"
                    )
                part = await self.target.upload_part(self.key, upload_id, span.number, body)
            self.pace.note(span.size, loop.time() - started)
            self.parts[span.number] = part
            self.sent += span.size

    async def _hand_on(self, upload_id: str) -> None:
        """Tell whoever goes on that nobody is at it, so that they need not wait to be sure.

        Raises `Invalid` where whoever goes on could not know what was sent.
        """
        if not self.target.capabilities.resumes:
            raise Invalid(
                f"{self.target.site}:{self.key!r} cannot be sent before the deadline, and "
                "this site tells too little of an unfinished upload to go on with it: "
                "give the worker more time, or use one without a deadline"
            )
        # Should this fail, they wait: that is all.
        with contextlib.suppress(TimeoutError, Transient, Throttled):
            async with asyncio.timeout_at(self.pace.deadline):
                await self._flag(upload_id, HANDED_ON)

    def _unfinished(self) -> Unfinished:
        done = sum(part.size for part in self.parts.values())
        return Unfinished(
            f"{done} of {self.state.size} bytes of {self.source.site}:{self.state.key!r} are at "
            f"{self.target.site}: the rest goes on from there",
            sent=self.sent,
            done=done,
            size=self.state.size,
        )

    async def _resume(self) -> str | None:
        """Return the upload that holds part of this very copy, having learnt its parts.

        Uploads of ours that belong to another state of the source are aborted: nobody will
        complete them. Raises `Conflict` if another worker is at it.
        """
        key = self.key
        found = None
        for upload in await self.target.list_uploads(key):
            ledger = await ledger_of(self.target, upload) if upload.key == key else None
            if ledger is None:
                continue
            if ledger.youngest < BUSY and not ledger.handed_on:
                raise Conflict(
                    f"another worker is sending {key} to {self.target.site}",
                    retry_after=BUSY - ledger.youngest,
                )
            if found is None and ledger.is_of(self.marker):
                found = upload.upload_id
                self.parts = {
                    span.number: ledger.parts[span.number]
                    for span in self.spans
                    if span.number in ledger.parts and ledger.parts[span.number].size == span.size
                }
            else:
                await self.target.abort_upload(key, upload.upload_id)
        if found:
            await self._flag(found, UNDER_WAY)
        return found
