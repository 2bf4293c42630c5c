"""The durable consumer by which workers share a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import Resource

from stacks.local import jetstream
from stacks.local.jetstream import JetStreamProvider, NatsDown
from stacks.local.provider import Properties
from stacks.settings import MOST_SLOTS, MOST_WORKERS

# After so many seconds without a sign of its worker a message is given to another.
ACK_SECONDS = 10
# A consumer stalls when so many messages are neither done nor given back; those that wait for
# another try count, so there must be room for a whole burst of them.
MOST_PENDING = 100_000
# Every slot of every worker waits with a request of its own: as many as the settings allow.
MOST_WAITING = MOST_WORKERS * MOST_SLOTS


async def discard(props: Mapping[str, Any]) -> None:
    """Delete the consumer; the messages stay in the stream."""
    async with jetstream.connect(props["server"]) as js:
        try:
            await js.delete_consumer(props["stream"], props["consumer"])
        except NotFoundError:
            return


class ConsumerProvider(JetStreamProvider):
    """Keep a consumer as it should be."""

    inputs = ("server", "stream", "consumer", "ack_seconds", "most_pending")
    replacing = ("stream", "consumer")
    named = "consumer"

    async def establish(self, js: JetStreamContext, props: Properties) -> None:
        """Make the consumer, or bring the one that is there in line."""
        config = ConsumerConfig(
            name=props["consumer"],
            durable_name=props["consumer"],
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=props["ack_seconds"],
            max_ack_pending=int(props["most_pending"]),
            max_deliver=-1,
            max_waiting=MOST_WAITING,
        )
        await js.add_consumer(props["stream"], config)

    async def look(self, js: JetStreamContext, props: Properties) -> Properties | None:
        """Return the consumer's settings; None if there is no such consumer."""
        try:
            found = (await js.consumer_info(props["stream"], props["consumer"])).config
        except NotFoundError:
            return None
        return {"ack_seconds": found.ack_wait, "most_pending": found.max_ack_pending}

    def delete(self, _id: str, props: Properties) -> None:
        """Delete the consumer."""
        try:
            asyncio.run(discard(props))
        except NatsDown:
            return  # Its stream stays or goes with the server's folder, and it with the stream.


class Consumer(Resource, module="local", name="Consumer"):
    """A durable pull consumer: every message is acknowledged, or comes again without end."""

    def __init__(
        self,
        name: str,
        *,
        server: Input[Mapping[str, Input[str]]],
        stream: Input[str],
        consumer: str,
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "server": Output.secret(server),
            "stream": stream,
            "consumer": consumer,
            "ack_seconds": ACK_SECONDS,
            "most_pending": MOST_PENDING,
        }
        super().__init__(ConsumerProvider(), name, properties, opts)
