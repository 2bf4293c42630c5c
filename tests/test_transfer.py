"""Moving bytes: parts that cover, memory that is bounded, uploads that are taken up again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import Conflict, Invalid, Transient
from tandem.ledger import marker
from tandem.stores.base import ALWAYS, Condition, Content, ObjectState, Part
from tandem.stores.memory import MemoryStore
from tandem.transfer import BUSY, MIB, Transfer, even, plan

PART = 5 * MIB
SIZE = 3 * PART + 17
BODY = bytes(range(256)) * (SIZE // 256 + 1)
BODY = BODY[:SIZE]


class Watched(MemoryStore):
    """A store that counts what it is asked, and fails when told to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[str] = []
        self.fail_at: dict[str, Exception] = {}
        self.part_age = BUSY * 2

    async def _turn(self, operation: str, key: str) -> None:
        self.calls.append(operation)
        if operation in self.fail_at:
            raise self.fail_at.pop(operation)
        await super()._turn(operation, key)

    async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        found = await super().list_parts(key, upload_id)
        return tuple(replace(part, age=self.part_age) for part in found)


@pytest.fixture
def source() -> Watched:
    return Watched("a")


@pytest.fixture
def target() -> Watched:
    return Watched("b")


@pytest.fixture
def transfer() -> Transfer:
    return Transfer(part_size=PART, memory=2 * PART, lanes=3)


async def seed(source: MemoryStore, body: bytes = BODY) -> ObjectState:
    await source.put("k", body, Content())
    state = await source.head("k")
    assert state is not None
    return state


async def bytes_of(store: MemoryStore, key: str = "k") -> bytes:
    async with store.open(key) as reader:
        assert reader is not None
        return bytes(await reader.read())


async def copy(
    transfer: Transfer,
    source: MemoryStore,
    target: MemoryStore,
    state: ObjectState,
    condition: Condition = ALWAYS,
) -> None:
    sizes = transfer.sizes(state.size, target.capabilities.max_parts)
    await transfer.copy(source, target, state, Content(metadata={"m": "1"}), condition, sizes)


@given(st.integers(0, 10**7), st.integers(10**3, 10**6))
def test_parts_cover_every_byte_once_and_in_order(size: int, part_size: int):
    spans = plan(even(size, part_size))
    assert sum(span.size for span in spans) == size
    assert [span.number for span in spans] == list(range(1, len(spans) + 1))
    edges = [span.first for span in spans] + [size]
    assert edges[1:] == [span.last + 1 for span in spans]


@given(st.integers(1, 900 * 1024**3))
def test_any_object_that_memory_allows_leaves_a_part_number_for_the_marker(size: int):
    sizes = Transfer().sizes(size, max_parts=10_000)
    assert len(sizes) < 10_000
    assert not sizes or sum(sizes) == size


def test_an_object_whose_parts_outgrow_the_memory_bound_is_refused_with_the_reason():
    with pytest.raises(Invalid, match="more than the memory bound of 100663296"):
        Transfer().sizes(5 * 1024**4, max_parts=10_000)


async def test_a_small_object_goes_in_one_request(transfer, source, target):
    await copy(transfer, source, target, await seed(source, b"small"))
    assert await bytes_of(target) == b"small"
    assert target.calls.count("put") == 1
    assert "create_upload" not in target.calls


async def test_a_large_object_goes_in_parts_and_leaves_no_upload(transfer, source, target):
    await copy(transfer, source, target, await seed(source))
    assert await bytes_of(target) == BODY
    assert await target.list_uploads("k") == ()
    state = await target.head("k")
    assert state is not None
    assert state.etag.endswith("-4")
    assert state.metadata == {"m": "1"}


async def test_the_sources_own_parts_make_the_same_etag(source, target):
    upload = await source.create_upload("k", Content())
    sizes = (PART, PART + 3, 9)
    bodies = [BODY[span.first : span.last + 1] for span in plan(sizes)]
    parts = [await source.upload_part("k", upload, n, b) for n, b in enumerate(bodies, 1)]
    written = await source.complete_upload("k", upload, tuple(parts))
    state = await source.head("k")
    assert state is not None
    assert await source.part_sizes("k", state.etag) == sizes
    wide = Transfer(part_size=PART, memory=4 * PART)
    copied = await wide.copy(source, target, state, Content(), ALWAYS, sizes)
    assert copied.etag == written.etag


async def test_a_copy_cut_short_goes_on_where_it_stood(source):
    state = await seed(source)
    lone = Transfer(part_size=PART, memory=PART, lanes=1)
    sent = 0

    class Cut(Watched):
        async def _turn(self, operation: str, key: str) -> None:
            nonlocal sent
            sent += operation == "upload_part"
            if sent == 5:  # the ledger and two parts are there
                sent += 1
                raise Transient("cut")
            await super()._turn(operation, key)

    cut = Cut("b")
    with pytest.raises(Transient):
        await copy(lone, source, cut, state)
    assert len(await cut.list_uploads("k")) == 1
    source.calls.clear()
    await copy(lone, source, cut, state)
    assert source.calls.count("open") == 2  # of four parts, two were there
    assert await bytes_of(cut) == BODY
    assert await cut.list_uploads("k") == ()


async def test_an_upload_whose_ledger_cannot_be_written_is_not_left_behind(
    transfer, source, target
):
    target.fail_at["upload_part"] = Transient("cut")
    with pytest.raises(Transient, match="cut"):
        await copy(transfer, source, target, await seed(source))
    assert await target.list_uploads("k") == ()


async def test_an_upload_of_another_state_of_the_source_is_aborted(transfer, source, target):
    old = await seed(source, b"old" * PART)
    target.fail_at["complete_upload"] = Transient("cut")
    with pytest.raises(Transient):
        await copy(transfer, source, target, old)
    await copy(transfer, source, target, await seed(source))
    assert await bytes_of(target) == BODY
    assert await target.list_uploads("k") == ()


async def test_an_upload_that_another_worker_is_sending_is_left_alone(transfer, source, target):
    state = await seed(source)
    target.fail_at["complete_upload"] = Transient("cut")
    with pytest.raises(Transient):
        await copy(transfer, source, target, state)
    target.part_age = BUSY / 2
    with pytest.raises(Conflict, match="another worker is sending") as busy:
        await copy(transfer, source, target, state)
    assert busy.value.retry_after == BUSY / 2
    assert len(await target.list_uploads("k")) == 1


async def test_an_upload_that_is_not_ours_is_never_touched(transfer, source, target):
    foreign = await target.create_upload("k", Content())
    await target.upload_part("k", foreign, 1, b"x" * PART)
    await copy(transfer, source, target, await seed(source))
    assert [upload.upload_id for upload in await target.list_uploads("k")] == [foreign]


async def test_a_source_that_moves_between_parts_is_never_completed(transfer, source, target):
    state = await seed(source)
    await seed(source, b"new" + BODY)
    with pytest.raises(Conflict):
        await copy(transfer, source, target, state)
    assert await target.head("k") is None
    assert await target.list_uploads("k") == ()


async def test_a_condition_that_fails_at_completion_leaves_the_target_and_no_upload(
    transfer, source, target
):
    await target.put("k", b"theirs", Content())
    with pytest.raises(Conflict):
        await copy(transfer, source, target, await seed(source), Condition(if_absent=True))
    assert await bytes_of(target) == b"theirs"
    assert await target.list_uploads("k") == ()


async def test_bodies_in_memory_never_exceed_the_bound(source):
    transfer = Transfer(part_size=PART, memory=2 * PART, lanes=8)
    held, most = 0, 0

    class Counting(MemoryStore):
        async def upload_part(self, key: str, upload_id: str, number: int, body: Any) -> Part:
            nonlocal held, most
            held += len(body)
            most = max(most, held)
            try:
                return await super().upload_part(key, upload_id, number, body)
            finally:
                held -= len(body)

    await copy(transfer, source, Counting("b"), await seed(source, BODY * 3))
    assert 0 < most <= 2 * PART + 101


def test_a_marker_tells_every_state_of_a_source_apart():
    state = ObjectState("k", "e", 1, last_modified=None)  # type: ignore[arg-type]  # not looked at
    content = Content(headers={"content-type": "a"}, metadata={"m": "1"}, tags={"t": "1"})
    variants = [
        marker(state, content, (1,)),
        marker(replace(state, etag="f"), content, (1,)),
        marker(replace(state, version_id="v"), content, (1,)),
        marker(state, content, (1, 1)),
        marker(state, replace(content, headers={}), (1,)),
        marker(state, replace(content, metadata={}), (1,)),
        marker(state, replace(content, tags={}), (1,)),
    ]
    assert len(set(variants)) == len(variants)
    assert len({len(one) for one in variants}) == 1


def test_a_marker_leaves_out_by_which_notification_the_copy_came():
    state = ObjectState("k", "e", 1, last_modified=None)  # type: ignore[arg-type]  # not looked at
    heard = marker(state, Content(metadata={"m": "1", "tandem-sequencer": "7"}), (1,))
    assert heard == marker(state, Content(metadata={"m": "1"}), (1,))


@pytest.mark.parametrize("size", [5, 300 * 1024])
async def test_a_copy_in_one_request_keeps_the_digest_of_its_bytes(transfer, source, target, size):
    body = BODY[:size]
    await copy(transfer, source, target, await seed(source, body))
    state = await target.head("k")
    assert state is not None
    assert state.metadata == {"m": "1", "tandem-sha256": hashlib.sha256(body).hexdigest()}
