"""What workers tell of their attempts: on core NATS, and for a while in a stream that listens.

A worker waits for nobody: it publishes as to any listener, and the stream is one of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from tandem.attempt import Attempt
from tandem.queues.jetstream_streams import REQUEST_SECONDS, Streams, lenient
from tandem.settings import JetStream

logger = logging.getLogger(__name__)

# The subject's last word, so that those who fail again and again push out no outcome.
ENDED, FAILED = "ended", "failed"


def token(key: str) -> str:
    """Return the word of a subject that stands for a key, which may hold what a subject cannot."""
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class Outcomes:
    """Tell attempts, hear of them, and recall the last ones of a key."""

    def __init__(self, settings: JetStream, client: Client, streams: Streams) -> None:
        self._settings = settings
        self._client = client
        self._streams = streams

    async def tell(self, attempt: Attempt) -> None:
        """Publish an attempt and do not wait; while NATS is away it goes unheard."""
        ending = FAILED if attempt.outcome is None else ENDED
        subject = self._settings.outcome_subject(
            attempt.rule, attempt.target, token(attempt.change.key), ending
        )
        with lenient("tell an outcome"):
            await self._client.publish(subject, attempt.dump())

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[Attempt]]:
        """Give the attempts with an outcome that are told from now on."""
        subject = self._settings.outcome_subject(ending=ENDED)
        subscription: Subscription | None = None
        try:
            with lenient("listen to outcomes"):
                subscription = await self._client.subscribe(subject)
                # The server has the subscription before anything else is done; if it is away,
                # it gets it when it is back.
                await self._client.flush(int(REQUEST_SECONDS))
            yield _heard(subscription)
        finally:
            if subscription is not None:
                with lenient("listen no more"):
                    await subscription.unsubscribe()

    async def history(self, key: str) -> list[Attempt]:
        """Return the attempts at a key that are remembered, oldest first.

        Raises `Transient` if NATS does not answer.
        """
        stream, subject = self._settings.outcomes, self._settings.outcome_subject(key=token(key))
        found, number = [], 0
        while stored := await self._streams.next(stream, subject, number + 1):
            number = stored.seq or 0
            found += _attempts(stored.data or b"")
        return found


async def _heard(subscription: Subscription | None) -> AsyncIterator[Attempt]:
    if subscription is not None:
        async for message in subscription.messages:
            for attempt in _attempts(message.data):
                yield attempt


def _attempts(body: bytes) -> list[Attempt]:
    """Return the attempt that a message tells of; none if another version of Tandem wrote it."""
    try:
        return [Attempt.load(body)]
    except ValueError as error:
        logger.warning("%s", error)
        return []
