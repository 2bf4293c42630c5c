"""Large objects on real servers: handed on, taken up, swept, and never torn."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from tandem.change import Change
from tandem.engine import Engine
from tandem.errors import TandemError, Unfinished
from tandem.pace import RESERVE
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores import s3_connection
from tandem.stores.base import Content, Part
from tandem.stores.s3 import S3Store
from tandem.sweep import sweep
from tandem.transfer import MIB, Transfer, even, plan
from tests.servers import Minio
from tests.test_large_objects import GIB, SIZE, Source, generated

PART = 5 * MIB
KEY = "large/k"
BODY = random.Random(7).randbytes(6 * PART + 11)
RULE = Rule("r", "source", ("target",), parts="source")


class Slow(S3Store):
    """A store that takes its time over each large part, and counts those begun and sent."""

    seconds = 0.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray
    ) -> Part:
        if len(body) < MIB:
            return await super().upload_part(key, upload_id, number, body)
        self.begun[number] += 1
        await asyncio.sleep(self.seconds)
        part = await super().upload_part(key, upload_id, number, body)
        self.sent[number] += 1
        return part


@pytest.fixture
async def source(minio: Minio, bucket: str) -> AsyncIterator[S3Store]:
    site = Site("source", bucket, minio.endpoint, minio.access_key, minio.secret_key)
    store = S3Store.connect(site)
    yield store
    await store.close()


@pytest.fixture
async def target(second_minio: Minio, make_bucket: Callable[..., str]) -> AsyncIterator[Slow]:
    server = second_minio
    bucket = make_bucket(server)
    site = Site("target", bucket, server.endpoint, server.access_key, server.secret_key)
    store = Slow.connect(site)
    yield store
    await store.close()


@pytest.fixture
def engine(source: S3Store, target: Slow) -> Engine:
    transfer = Transfer(part_size=PART, memory=4 * PART, lanes=2)
    return Engine({"source": source, "target": target}, [RULE], transfer)


def after(seconds: float) -> float:
    return asyncio.get_running_loop().time() + RESERVE + seconds


async def put_in_parts(store: S3Store, body: bytes, sizes: tuple[int, ...]) -> str:
    """Upload `body` in parts of these sizes and return its ETag."""
    upload = await store.create_upload(KEY, Content())
    parts = [
        await store.upload_part(KEY, upload, span.number, body[span.first : span.last + 1])
        for span in plan(sizes)
    ]
    return (await store.complete_upload(KEY, upload, tuple(parts))).etag


async def body_at(store: S3Store) -> bytes:
    async with store.open(KEY) as reader:
        assert reader is not None
        return bytes(await reader.read())


async def hand_on_until_done(
    engine: Engine, seconds: float, rule: Rule = RULE, key: str = KEY
) -> list[Unfinished]:
    """Converge a key so many seconds at a time, and return what was handed on."""
    handed_on: list[Unfinished] = []
    change = Change(site="source", key=key)
    while True:
        try:
            await engine.converge(rule, "target", change, deadline=after(seconds))
        except Unfinished as unfinished:
            handed_on.append(unfinished)
        else:
            return handed_on


async def test_what_is_handed_on_is_gone_on_with_at_once_and_keeps_unequal_parts(
    engine: Engine, source: S3Store, target: Slow
):
    sizes = (PART + 1, PART, 2 * PART, PART + 9, len(BODY) - 5 * PART - 10)
    etag = await put_in_parts(source, BODY, sizes)
    target.seconds = 0.4  # three rounds of two parts take longer than the second that there is
    handed_on = await hand_on_until_done(engine, 1.0)
    assert handed_on
    assert any(one.sent for one in handed_on)
    state = await target.head(KEY)
    assert state is not None
    assert state.etag == etag
    assert await target.part_sizes(KEY, etag) == sizes
    assert await body_at(target) == BODY
    assert await target.list_uploads(KEY) == ()


async def test_an_upload_of_more_than_a_thousand_parts_is_known_to_its_last(target: Slow):
    upload = await target.create_upload(KEY, Content())
    most = asyncio.Semaphore(16)

    async def send(number: int) -> None:
        async with most:
            await target.upload_part(KEY, upload, number, b"%d" % number)

    await asyncio.gather(*(send(number) for number in range(1, 2_102)))
    parts = await target.list_parts(KEY, upload)
    assert [part.number for part in parts] == list(range(1, 2_102))
    assert parts[-1].etag == hashlib.md5(b"2101").hexdigest()  # noqa: S324 -- S3 defines it so
    await target.abort_upload(KEY, upload)


async def test_a_sweep_finds_what_is_left_and_leaves_what_is_not_ours(
    engine: Engine, source: S3Store, target: Slow
):
    await put_in_parts(source, BODY, even(len(BODY), PART))
    target.seconds = 5.0
    with pytest.raises(Unfinished):
        await engine.converge(RULE, "target", Change(site="source", key=KEY), deadline=after(0.3))
    target.seconds = 0.0
    foreign = await target.create_upload("large/theirs", Content())
    await target.upload_part("large/theirs", foreign, 1, b"x" * PART)
    assert [one.aborted async for one in sweep(engine, RULE, "target", older_than=0)] == [False]
    await source.delete(KEY)
    (found,) = [one async for one in sweep(engine, RULE, "target", older_than=0)]
    assert (found.upload.key, found.aborted, found.reason) == (KEY, True, "on neither side")
    assert [one.upload_id for one in await target.list_uploads()] == [foreign]


async def test_a_body_that_changes_on_its_way_is_refused(
    target: Slow, monkeypatch: pytest.MonkeyPatch
):
    real = s3_connection._payload_hash

    async def of_what_was_meant(body: bytes | bytearray) -> str:
        return await real(body.replace(b"7", b"6") if body else body)

    monkeypatch.setattr(s3_connection, "_payload_hash", of_what_was_meant)
    with pytest.raises(TandemError, match="XAmzContentSHA256Mismatch"):
        await target.put(KEY, b"changed 7", Content())
    upload = await target.create_upload(KEY, Content())
    with pytest.raises(TandemError, match="XAmzContentSHA256Mismatch"):
        await target.upload_part(KEY, upload, 1, b"changed 7" * 100_000)
    assert await target.list_parts(KEY, upload) == ()
    assert await target.head(KEY) is None
    await target.abort_upload(KEY, upload)


@pytest.mark.timeout(1200)
async def test_5_gib_go_over_in_invocations_of_ten_seconds(target: Slow):
    # Slow enough that no machine does it in one invocation.
    target.seconds = 0.12
    engine = Engine({"source": Source(SIZE), "target": target}, [RULE], Transfer())
    try:
        handed_on = await hand_on_until_done(
            engine, 10.0 - RESERVE, replace(RULE, parts="auto"), "k"
        )
        assert handed_on
        assert all(one.sent for one in handed_on)
        assert set(target.sent.values()) == {1}
        cut = sum(target.begun.values()) - sum(target.sent.values())
        assert cut <= len(handed_on) * engine.transfer.lanes
        for first in (0, 16 * MIB - 5, GIB + 1, 4 * GIB - 9, SIZE - MIB):
            span = (first, first + MIB - 1)
            async with target.open("k", span=span) as reader:
                assert reader is not None
                assert reader.state.size == SIZE
                assert await reader.read() == generated(*span)
    finally:
        await target.delete("k")  # pytest keeps the folders of its last runs
