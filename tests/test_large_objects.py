"""Large objects on paper, and one of 5 GiB under a deadline of 10 s for each invocation.

Its bytes are made from their position, and the target keeps digests only; time is virtual, and
passes as if all parts shared one link of a given rate.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tandem.change import Change
from tandem.engine import Engine
from tandem.errors import Conflict, Invalid, Unfinished
from tandem.ledger import KEPT
from tandem.rule import Rule
from tandem.stores.base import ALWAYS, Capabilities, Condition, ObjectState, Part, Written
from tandem.stores.memory import MemoryStore
from tandem.transfer import BUSY, MIB, Transfer
from tests.model.clock import EPOCH, VirtualLoop

GIB = 1024 * MIB
SIZE = 5 * GIB + 12_345
RULE = Rule("r", "a", ("b",))
CHANGE = Change(site="a", key="k")
DEADLINE = 10.0
# Bytes a second.
RATE = 128 * MIB
BLOCK = zlib.compress(b"seed", 0).ljust(MIB, b"\x5a")


def generated(first: int, last: int) -> bytearray:
    """Return the bytes from `first` to `last`: each MiB begins with its number."""
    start = first // MIB
    body = bytearray(BLOCK)
    body *= last // MIB - start + 1
    for number in range(start, last // MIB + 1):
        place = (number - start) * MIB
        body[place : place + 8] = number.to_bytes(8, "big")
    del body[last + 1 - start * MIB :]
    del body[: first - start * MIB]
    return body


class GeneratedReader:
    def __init__(self, state: ObjectState, span: tuple[int, int]) -> None:
        self.state = state
        self.span = span

    async def read(self) -> bytearray:
        return generated(*self.span)


class Source(MemoryStore):
    """Holds one large object, of which there is nothing but a rule."""

    def __init__(self, size: int) -> None:
        super().__init__("a")
        self.state = ObjectState("k", "e" * 32, size, EPOCH)

    async def head(self, key: str, version_id: str | None = None) -> ObjectState | None:
        assert version_id is None
        assert key == self.state.key
        return self.state

    @asynccontextmanager
    async def open(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        if_match: str | None = None,
        version_id: str | None = None,
    ) -> AsyncIterator[Any]:
        assert (key, version_id) == ("k", None)
        assert span is not None
        assert if_match == self.state.etag
        yield GeneratedReader(self.state, span)


class Target(MemoryStore):
    """Keeps sizes and digests of large parts, which come over one link in turn."""

    def __init__(self, loop: VirtualLoop, capabilities: Capabilities | None = None) -> None:
        super().__init__("b", clock=loop.now, capabilities=capabilities)
        self.rate = float(RATE)
        self.link = asyncio.Lock()
        self.held = self.most = 0
        self.begun: Counter[int] = Counter()
        self.arrived: Counter[int] = Counter()
        self.digests: dict[int, tuple[int, int]] = {}
        self.completed: ObjectState | None = None

    async def head(self, key: str, version_id: str | None = None) -> ObjectState | None:
        assert version_id is None
        assert key == "k"
        return self.completed

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray
    ) -> Part:
        if len(body) < 1024:
            return await super().upload_part(key, upload_id, number, body)
        self.held += len(body)
        self.most = max(self.most, self.held)
        self.begun[number] += 1
        try:
            async with self.link:
                await asyncio.sleep(len(body) / self.rate)
        finally:
            self.held -= len(body)
        self.arrived[number] += 1
        self.digests[number] = (len(body), zlib.crc32(body))
        # The number stands for the body.
        part = await super().upload_part(key, upload_id, number, str(number).encode())
        return replace(part, size=len(body))

    async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        return tuple(
            replace(part, size=self.digests[part.number][0])
            if part.number in self.digests
            else part
            for part in await super().list_parts(key, upload_id)
        )

    async def complete_upload(
        self, key: str, upload_id: str, parts: tuple[Part, ...], condition: Condition = ALWAYS
    ) -> Written:
        content = self._bucket.upload(key, upload_id).content
        assert condition.if_absent
        assert [part.number for part in parts] == list(range(1, len(parts) + 1))
        self.completed = ObjectState(
            key, "whole", sum(part.size for part in parts), EPOCH, metadata=content.metadata
        )
        del self._bucket.uploads[upload_id]
        return Written("whole")


def finish(loop: VirtualLoop, task: asyncio.Task[Any]) -> Any:
    """Return what a task returns, letting the time pass that it takes."""
    while not task.done():
        loop.run_to_timer()
    return task.result()


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def target(loop: VirtualLoop) -> Target:
    return Target(loop)


def begin(loop: VirtualLoop, target: Target, size: int) -> asyncio.Task[Any]:
    """Start what a function does that lives for 10 s, in a process of its own."""
    engine = Engine({"a": Source(size), "b": target}, [RULE], Transfer())
    end = loop.time() + DEADLINE
    return loop.create_task(engine.converge(RULE, "b", CHANGE, deadline=end))


def invoke(loop: VirtualLoop, target: Target, size: int = SIZE) -> Unfinished | None:
    """Let such a function do its work; return what it hands on, None when all is done."""
    end = loop.time() + DEADLINE
    try:
        finish(loop, begin(loop, target, size))
    except Unfinished as unfinished:
        assert loop.time() < end
        return unfinished
    return None


def assert_whole(target: Target, size: int = SIZE) -> None:
    assert target.completed is not None
    assert target.completed.size == size
    first = 0
    for number in sorted(target.digests):
        length, digest = target.digests[number]
        assert zlib.crc32(generated(first, first + length - 1)) == digest
        first += length
    assert first == size
    assert not target._bucket.uploads


def test_5_gib_go_over_in_several_invocations_and_no_byte_goes_twice(
    loop: VirtualLoop, target: Target
):
    handed_on = []
    while unfinished := invoke(loop, target):
        assert unfinished.sent > 0
        handed_on.append(unfinished)
    # At 128 MiB/s, 5 GiB take 40 s; each invocation uses most of its nine seconds.
    assert 4 <= len(handed_on) <= 5
    assert [one.done for one in handed_on] == sorted({one.done for one in handed_on})
    assert set(target.begun.values()) == {1}
    assert target.begun == target.arrived
    assert target.most <= 96 * MIB
    assert loop.time() < 55
    assert_whole(target)


def test_a_link_that_slows_down_cuts_parts_short_and_only_those_are_sent_again(
    loop: VirtualLoop, target: Target
):
    size = GIB // 2
    invocation = begin(loop, target, size)
    loop.run_for(1)
    target.rate = RATE / 64  # of four parts on the link, one gets through
    with pytest.raises(Unfinished) as handed_on:
        finish(loop, invocation)
    assert loop.time() < DEADLINE
    target.rate = RATE
    while invoke(loop, target, size):
        pass
    cut = {number: times for number, times in target.begun.items() if times > 1}
    assert 1 <= len(cut) <= 4
    assert set(cut.values()) == {2}
    assert set(target.arrived.values()) == {1}
    assert handed_on.value.done < size
    assert_whole(target, size)


def test_an_invocation_that_is_killed_is_taken_up_when_nobody_has_sent_for_a_while(
    loop: VirtualLoop, target: Target
):
    size = GIB // 2
    killed = begin(loop, target, size)
    loop.run_for(2)
    killed.cancel()
    loop.run_for(0)
    arrived = dict(target.arrived)
    assert arrived
    with pytest.raises(Conflict, match="another worker is sending"):
        invoke(loop, target, size)
    loop.run_for(BUSY)
    assert invoke(loop, target, size) is None
    assert set(target.arrived.values()) == {1}
    assert all(target.begun[number] == 1 for number in arrived)
    assert_whole(target, size)


def test_what_was_handed_on_is_gone_on_with_at_once_and_by_one_only(
    loop: VirtualLoop, target: Target
):
    size = 2 * GIB
    assert invoke(loop, target, size)
    first = begin(loop, target, size)
    loop.run_for(1)
    with pytest.raises(Conflict, match="another worker is sending"):
        invoke(loop, target, size)
    first.cancel()
    loop.run_for(0)


def test_without_time_nothing_is_begun(loop: VirtualLoop, target: Target):
    engine = Engine({"a": Source(GIB), "b": target}, [RULE], Transfer())
    with pytest.raises(Unfinished) as unfinished:
        finish(loop, loop.create_task(engine.converge(RULE, "b", CHANGE, deadline=loop.time())))
    assert (unfinished.value.sent, unfinished.value.done) == (0, 0)
    assert not target._bucket.uploads


def test_a_target_that_cannot_be_gone_on_with_says_that_more_time_is_needed(loop: VirtualLoop):
    target = Target(loop, Capabilities(resumes=False))
    with pytest.raises(Invalid, match="cannot be sent before the deadline"):
        invoke(loop, target, 2 * GIB)
    assert not target._bucket.uploads


@pytest.mark.parametrize(
    ("size", "parts", "part_size"),
    [
        (50 * GIB, 3_200, 16 * MIB),
        (156 * GIB, 9_984, 16 * MIB),
        (500 * GIB, 9_998, 500 * GIB // 9_998 + 1),
        (937 * GIB, 9_998, 937 * GIB // 9_998 + 1),
    ],
)
def test_on_paper_large_objects_fit_into_part_numbers_and_memory(
    size: int, parts: int, part_size: int
):
    transfer = Transfer()
    sizes = transfer.sizes(size, 10_000)
    assert (len(sizes), max(sizes), sum(sizes)) == (parts, part_size, size)
    assert transfer.takes(sizes, 10_000)
    assert max(sizes) <= transfer.budget.total == 96 * MIB


def test_on_paper_5_tib_need_parts_of_525_mib_and_memory_for_them():
    size = 5 * 1024 * GIB
    with pytest.raises(Invalid, match="give the worker more memory"):
        Transfer().sizes(size, 10_000)
    assert max(Transfer(memory=600 * MIB).sizes(size, 10_000)) == size // 9_998 + 1


def test_the_sources_own_parts_are_taken_only_where_the_target_has_numbers_for_them():
    transfer = Transfer()
    assert transfer.takes((5 * MIB,) * 9_998, 10_000)
    assert not transfer.takes((5 * MIB,) * 9_999, 10_000)
    assert not transfer.takes((97 * MIB, 1), 10_000)
    with pytest.raises(Invalid, match="takes none"):
        transfer.sizes(GIB, KEPT)
