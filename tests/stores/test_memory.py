"""What the in-memory store has beyond the sentences that hold of every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tandem.errors import Conflict, Invalid, Throttled
from tandem.stores.base import Capabilities, Condition, Content
from tandem.stores.memory import MemoryStore

START = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment


async def test_its_clock_is_the_tests():
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.put("k", b"", Content())
    upload = await store.create_upload("k", Content())
    await store.upload_part("k", upload, 1, b"x")
    clock.moment += timedelta(seconds=3)
    state = await store.head("k")
    assert state is not None
    assert state.last_modified == START.replace(microsecond=0)
    assert [entry.last_modified async for entry in store.list()] == [START]
    assert [part.age for part in await store.list_parts("k", upload)] == [3.0]
    assert [one.initiated for one in await store.list_uploads("k")] == [START]


async def test_every_call_takes_a_turn_that_a_test_can_step_into():
    turns: list[tuple[str, str]] = []

    class Stubborn(MemoryStore):
        async def _turn(self, operation: str, key: str) -> None:
            turns.append((operation, key))
            if operation == "put":
                raise Throttled("not now")

    store = Stubborn()
    with pytest.raises(Throttled):
        await store.put("k", b"", Content())
    assert await store.head("k") is None
    assert turns == [("put", "k"), ("head", "k")]


async def test_a_reader_keeps_what_it_opened():
    store = MemoryStore()
    body = bytearray(b"old")
    await store.put("k", body, Content())
    async with store.open("k") as reader:
        body[:] = b"???"
        await store.put("k", b"new", Content())
        assert reader is not None
        assert await reader.read() == b"old"


async def test_a_conditional_delete_is_made_where_it_is_a_capability():
    store = MemoryStore(capabilities=Capabilities(conditional_delete=True))
    written = await store.put("k", b"1", Content())
    with pytest.raises(Conflict):
        await store.delete("k", Condition(if_match="other"))
    with pytest.raises(Invalid):
        await store.delete("k", Condition(if_absent=True))
    await store.delete("k", Condition(if_match=written.etag))
    assert await store.is_absent("k")


@pytest.mark.parametrize("number", [0, 10_001])
async def test_there_are_no_parts_beyond_the_limits(number):
    store = MemoryStore()
    upload = await store.create_upload("k", Content())
    with pytest.raises(Invalid, match="no part number"):
        await store.upload_part("k", upload, number, b"")


async def test_parts_out_of_order_and_an_eleventh_tag_are_refused():
    store = MemoryStore()
    upload = await store.create_upload("k", Content())
    parts = [await store.upload_part("k", upload, number, b"x") for number in (1, 2)]
    with pytest.raises(Invalid, match="not in order"):
        await store.complete_upload("k", upload, (parts[1], parts[0]))
    with pytest.raises(Invalid, match="11 tags"):
        await store.put("k", b"", Content(tags={str(number): "" for number in range(11)}))
