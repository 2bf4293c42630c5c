"""The queues under test: the one in memory, and JetStream on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import nats as nats_py
import pytest
from nats.js.api import AckPolicy, RetentionPolicy

from tandem.errors import ErrorClass
from tandem.queues.base import Queue
from tandem.queues.jetstream import JetStreamQueue
from tandem.queues.memory import MemoryQueue
from tandem.settings import HISTORY, JetStream
from tests.servers import Nats

Connect = Callable[[], Awaitable[JetStreamQueue]]


async def prepared(server: Nats, ack_wait: float = 1.0) -> JetStream:
    """Make the streams and the consumer that `pulumi up` makes, with a lease that suits a test."""
    settings = JetStream(server.url, server.user, server.password, "test")
    client = await nats_py.connect(settings.url, user=settings.user, password=settings.password)
    js = client.jetstream()
    await js.add_stream(
        name=settings.changes,
        subjects=[settings.subject("*", "*")],
        retention=RetentionPolicy.WORK_QUEUE,
    )
    await js.add_consumer(
        settings.changes,
        durable_name=settings.consumer,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_ack_pending=100_000,
        max_deliver=-1,
    )
    for one in ErrorClass:
        await js.add_stream(name=settings.errors(one), subjects=[settings.error_subject(one)])
    await js.add_stream(
        name=settings.outcomes,
        subjects=[settings.outcome_subject()],
        max_msgs_per_subject=HISTORY,
    )
    await client.close()
    return settings


@pytest.fixture
async def jetstream(nats: Nats) -> JetStream:
    """Give the settings of a server whose streams are made."""
    return await prepared(nats)


@pytest.fixture
async def connect(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Give a function that connects one more queue, as another worker does."""
    monkeypatch.setattr(JetStreamQueue, "lease", 1.0)
    made: list[JetStreamQueue] = []

    async def once_more() -> JetStreamQueue:
        made.append(await JetStreamQueue.connect(jetstream))
        return made[-1]

    yield once_more
    for queue in made:
        await queue.close()


@pytest.fixture(params=["memory", "jetstream"])
async def queue(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Queue]:
    """Give each queue there is, with a lease of one second."""
    if request.param == "memory":
        yield MemoryQueue(lease=1.0)
        return
    monkeypatch.setattr(JetStreamQueue, "lease", 1.0)
    server: Nats = request.getfixturevalue("nats")
    made = await JetStreamQueue.connect(await prepared(server))
    yield made
    await made.close()
