"""What only a queue on a server can suffer: the server's death, and other workers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import nats as nats_py
import pytest

from tandem.change import Change, native
from tandem.errors import ErrorClass, Transient
from tandem.queues.jetstream import CLOSE_SECONDS, JetStreamQueue
from tandem.queues.jetstream_outcomes import token
from tandem.settings import JetStream
from tests.queues.conftest import Connect
from tests.queues.test_every_queue import copied, failure, receive, remembered
from tests.servers import Nats


async def test_a_message_of_a_server_bears_the_site_that_its_subject_names(
    connect: Connect, jetstream: JetStream
):
    queue = await connect()
    client = await nats_py.connect(jetstream.url, user=jetstream.user, password=jetstream.password)
    await client.jetstream().publish(jetstream.subject("left", "durable"), b"raw")
    delivery = await receive(queue)
    assert (delivery.site, delivery.body) == ("left", b"raw")
    await client.close()


async def test_the_backlog_adds_up_all_origins_of_a_site(connect: Connect, jetstream: JetStream):
    queue = await connect()
    client = await nats_py.connect(jetstream.url, user=jetstream.user, password=jetstream.password)
    for origin in ("fast", "durable"):
        await client.jetstream().publish(jetstream.subject("left", origin), b"raw")
    await queue.send(Change("left", "k"))
    assert (await queue.backlog()).count == {"left": 3}
    await client.close()


async def test_two_workers_share_the_load(connect: Connect):
    first, second = await connect(), await connect()
    got: dict[JetStreamQueue, list[str]] = {first: [], second: []}

    async def work(queue: JetStreamQueue) -> None:
        while True:
            delivery = await queue.receive()
            await asyncio.sleep(0.005)
            got[queue].append(native(delivery.body).key)
            await delivery.done()

    slots = [asyncio.create_task(work(queue)) for queue in (first, second) for _ in range(4)]
    await first.send(*(Change("left", f"{n:03}") for n in range(200)))
    async with asyncio.timeout(60):
        while len(got[first]) + len(got[second]) < 200:  # noqa: ASYNC110 -- slots know of no event
            await asyncio.sleep(0.02)
    for slot in slots:
        slot.cancel()
    assert sorted(got[first] + got[second]) == [f"{n:03}" for n in range(200)]
    assert min(len(got[first]), len(got[second])) > 40


async def test_those_who_wait_are_served_soon_after_a_killed_server_is_back(
    connect: Connect, nats: Nats
):
    queue = await connect()
    callers = [asyncio.create_task(queue.receive()) for _ in range(4)]
    await asyncio.sleep(0.2)
    nats.kill()
    await asyncio.sleep(0.5)
    nats.start()
    other = await connect()
    await other.send(*(Change("left", str(n)) for n in range(4)))
    async with asyncio.timeout(5):
        found = [await caller for caller in callers]
    assert sorted(native(delivery.body).key for delivery in found) == ["0", "1", "2", "3"]


async def test_work_in_hand_while_the_server_dies_is_neither_lost_nor_in_the_way(
    connect: Connect, nats: Nats
):
    queue = await connect()
    await queue.send(Change("left", "finished"), Change("left", "unfinished"))
    finished, _ = await receive(queue), await receive(queue)
    nats.kill()
    await asyncio.sleep(0.1)
    await finished.done()
    await finished.working()
    nats.start()
    again = await receive(queue, 10)
    assert native(again.body).key in {"finished", "unfinished"}
    await again.done()

    async def finish() -> None:
        while True:
            await (await queue.receive()).done()

    rest = asyncio.create_task(finish())
    async with asyncio.timeout(60):
        while (await queue.backlog()).count:  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.02)
    rest.cancel()


async def test_what_cannot_be_stored_is_said_and_not_taken_for_done(connect: Connect, nats: Nats):
    queue = await connect()
    nats.kill()
    answers = await asyncio.gather(
        queue.send(Change("left", "k")),
        queue.fail(failure("refused")),
        queue.drop(replace(failure("refused"), id="1")),
        queue.backlog(),
        queue.failed(),
        queue.history("k"),
        anext(queue.failures()),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Transient] * len(answers)
    await queue.publish_outcome(copied("nobody hears this"))


async def test_what_another_version_told_is_passed_over(
    connect: Connect, jetstream: JetStream, caplog: pytest.LogCaptureFixture
):
    queue = await connect()
    client = await nats_py.connect(jetstream.url, user=jetstream.user, password=jetstream.password)
    async with queue.outcomes() as heard:
        for body in (b"{", b"[]", b"{}", b'{"worker": "w"}'):
            subject = jetstream.outcome_subject("all", "right", token("k"), "ended")
            await client.jetstream().publish(subject, body)
        await queue.publish_outcome(copied("k"))
        async with asyncio.timeout(60):
            assert (await anext(heard)).change.key == "k"
    await client.close()
    assert [attempt.change.key for attempt in await remembered(queue, "k", 1)] == ["k"]
    assert "this tells of no attempt that we know" in caplog.text


async def test_a_stack_without_a_stream_of_outcomes_is_told_what_makes_one(
    connect: Connect, jetstream: JetStream
):
    client = await nats_py.connect(jetstream.url, user=jetstream.user, password=jetstream.password)
    await client.jetstream().delete_stream(jetstream.outcomes)
    await client.close()
    queue = await connect()
    await queue.publish_outcome(copied("k"))
    with pytest.raises(Transient, match="there is no stream test-outcomes: `make up`"):
        await queue.history("k")


async def test_those_who_listen_hear_on_after_a_killed_server_is_back(connect: Connect, nats: Nats):
    listener, teller = await connect(), await connect()
    async with listener.outcomes() as heard:
        nats.kill()
        await asyncio.sleep(0.3)
        nats.start()
        waiting = asyncio.ensure_future(anext(heard))
        async with asyncio.timeout(60):
            while not waiting.done():
                await teller.publish_outcome(copied("k"))
                await asyncio.sleep(0.05)
        assert waiting.result().change.key == "k"


async def test_closing_hands_back_what_was_not_settled(connect: Connect):
    first, second = await connect(), await connect()
    await first.send(Change("left", "k"))
    await receive(first)
    await first.close()
    assert (await receive(second, 0.5)).attempt == 2


async def test_closing_takes_seconds_at_most_though_the_server_is_gone(
    connect: Connect, nats: Nats
):
    queue = await connect()
    await queue.send(Change("left", "k"))
    await receive(queue)
    nats.kill()
    started = time.monotonic()
    await queue.close()
    assert time.monotonic() - started < 2 * CLOSE_SECONDS + 1
    with pytest.raises(Transient, match="was closed"):
        await queue.receive()


async def test_a_server_that_is_not_there_is_said_with_its_address(nats: Nats):
    nats.kill()
    settings = JetStream(nats.url, nats.user, nats.password, "test")
    with pytest.raises(Transient, match=nats.url):
        await JetStreamQueue.connect(settings)


async def test_a_wrong_password_is_said(nats: Nats):
    with pytest.raises(Transient, match="Authorization"):
        await JetStreamQueue.connect(JetStream(nats.url, nats.user, "wrong", "test"))


async def test_a_thousand_failures_are_read_in_seconds(connect: Connect):
    queue = await connect()
    await asyncio.gather(*(queue.fail(failure(f"refused {n}")) for n in range(1000)))
    started = time.monotonic()
    assert len([kept async for kept in queue.failures(ErrorClass.DENIED)]) == 1000
    assert time.monotonic() - started < 10
