"""Changes over NATS JetStream: one stream, one durable pull consumer that all workers share.

`pulumi up` makes the streams and the consumer; nothing here does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Self

from nats.aio.client import Client
from nats.errors import Error as NatsError

from tandem.attempt import Attempt
from tandem.change import Change, encode
from tandem.errors import ErrorClass, Transient
from tandem.queues.base import Backlog, Failure
from tandem.queues.jetstream_delivery import JetStreamDelivery
from tandem.queues.jetstream_failures import Failures
from tandem.queues.jetstream_outcomes import Outcomes
from tandem.queues.jetstream_pull import Puller
from tandem.queues.jetstream_streams import Streams, lenient, said
from tandem.settings import JetStream

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.2
# A server that leaves two pings unanswered counts as gone.
PING_SECONDS = 5
# The consumer's ack wait, in seconds, as `pulumi up` sets it.
LEASE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 1.0
# Changes sent before their acknowledgements are awaited.
SENT_AT_ONCE = 256


class JetStreamQueue:
    """Carry changes over JetStream; see `tandem.queues.base.Queue`."""

    lease = LEASE_SECONDS

    def __init__(self, settings: JetStream, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._streams = Streams(client)
        self._failures = Failures(settings, self._streams)
        self._outcomes = Outcomes(settings, client, self._streams)
        self._puller = Puller(client, settings.changes, settings.consumer)
        self._unsettled: set[JetStreamDelivery] = set()
        self._trouble: Exception | None = None

    @classmethod
    async def connect(cls, settings: JetStream) -> Self:
        """Connect, and keep reconnecting for as long as it takes.

        Raises `Transient` if NATS cannot be reached at first.
        """
        client = Client()
        queue = cls(settings, client)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(
                    settings.url,
                    user=settings.user,
                    password=settings.password,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # it sleeps so long
                    ping_interval=PING_SECONDS,
                    error_cb=queue._hear,
                    disconnected_cb=queue._lost,
                    reconnected_cb=queue._found,
                )
                await queue._puller.start()
        except (NatsError, OSError, TimeoutError) as error:
            await client.close()
            why = queue._trouble or error
            raise Transient(f"NATS at {settings.url} cannot be reached: {said(why)}") from error
        return queue

    async def receive(self) -> JetStreamDelivery:
        """Wait for the next message.

        Raises `Transient` if the connection was closed.
        """
        delivery = JetStreamDelivery(await self._puller.next(), self._unsettled)
        self._unsettled.add(delivery)
        return delivery

    async def send(self, *changes: Change) -> None:
        """Queue changes, and wait until all of them are stored.

        Raises `Transient` if NATS did not confirm each one; some may have been stored.
        """
        for first in range(0, len(changes), SENT_AT_ONCE):
            some = changes[first : first + SENT_AT_ONCE]
            await asyncio.gather(*(self._send(change) for change in some))

    async def _send(self, change: Change) -> None:
        await self._streams.publish(self._settings.subject(change.site, "tandem"), encode(change))

    async def fail(self, failure: Failure) -> None:
        """Store a failure in the error stream of its class.

        Raises `Transient` if NATS did not confirm it.
        """
        await self._failures.add(failure)

    def failures(self, error_class: ErrorClass | None = None) -> AsyncIterator[Failure]:
        """Yield what lies in the error streams, oldest first within each class.

        Raises `Transient` if NATS does not answer.
        """
        return self._failures.all(error_class)

    async def drop(self, failure: Failure) -> None:
        """Remove a failure from its stream.

        Raises `Transient` if NATS does not answer.
        """
        await self._failures.drop(failure)

    async def failed(self) -> dict[str, dict[ErrorClass, int]]:
        """Return how many failures lie in the error streams, by rule and class.

        Raises `Transient` if NATS does not answer.
        """
        return await self._failures.count()

    async def backlog(self) -> Backlog:
        """Return what waits or is being handled; acknowledged changes are gone from the stream.

        Raises `Transient` if NATS does not answer.
        """
        found = Backlog({}, {})
        for subject, count in (await self._streams.subjects(self._settings.changes)).items():
            site = subject.split(".")[-2]
            found.count[site] = found.count.get(site, 0) + count
            first = await self._streams.next(self._settings.changes, subject)
            # Where there is none it has been handled since the stream was asked.
            if first and first.time:
                found.oldest[site] = min(first.time, found.oldest.get(site, first.time))
        return found

    async def publish_outcome(self, attempt: Attempt) -> None:
        """Tell an attempt to whoever listens, and wait for nobody."""
        await self._outcomes.tell(attempt)

    def outcomes(self) -> AbstractAsyncContextManager[AsyncIterator[Attempt]]:
        """Give the outcomes told from now on; what is told while NATS is away goes unheard."""
        return self._outcomes.listening()

    async def history(self, key: str) -> list[Attempt]:
        """Return the last attempts at a key, oldest first.

        Raises `Transient` if NATS does not answer.
        """
        return await self._outcomes.history(key)

    async def close(self) -> None:
        """Hand back what is not settled and close the connection, within a few seconds.

        What NATS does not hear of that, it delivers again when the lease is over.
        """
        for part in (self._let_go, self._client.close):
            with lenient("close in order"), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await part()

    async def _let_go(self) -> None:
        await self._puller.stop()
        for delivery in tuple(self._unsettled):
            await delivery.retry(0)
        await self._client.flush()

    async def _hear(self, error: Exception) -> None:
        # What NATS itself says tells more than the reset that comes after it.
        if self._trouble is None or isinstance(error, NatsError):
            self._trouble = error
        logger.debug("NATS: %s", said(error))

    async def _lost(self) -> None:
        if not self._client.is_closed:
            logger.warning("NATS at %s is away; trying until it is back", self._settings.url)

    async def _found(self) -> None:
        logger.info("NATS at %s is back", self._settings.url)
        await self._puller.renew()
