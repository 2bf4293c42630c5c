"""Changes over NATS JetStream: one stream, one durable pull consumer that all workers share.

`pulumi up` makes the streams and the consumer; nothing here does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo
from nats.js.errors import APIError, NotFoundError

from tandem.change import Change, encode, native
from tandem.errors import ErrorClass, Transient
from tandem.queues.base import Backlog, Failure
from tandem.queues.jetstream_pull import Puller
from tandem.settings import JetStream

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.2
# A server that leaves two pings unanswered counts as gone.
PING_SECONDS = 5
# The consumer's ack wait, in seconds, as `pulumi up` sets it.
LEASE_SECONDS = 10.0
REQUEST_SECONDS = 5.0
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 1.0
# The origin of events that come a second time, as `pulumi up` names it.
DURABLE = "durable"
# The subject's last word for failures of messages that were never understood.
NO_RULE = "_"
# JetStream's error code for a message that is not in the stream (JSNoMessageFoundErr).
NO_MESSAGE = 10057
# Changes sent before their acknowledgements are awaited.
SENT_AT_ONCE = 256


class JetStreamDelivery:
    """One message from the stream of changes; see `tandem.queues.base.Delivery`."""

    def __init__(self, message: Msg, unsettled: set[JetStreamDelivery]) -> None:
        self._message = message
        self._unsettled = unsettled
        self.body = message.data
        # tandem.<stack>.changes.<site>.<origin>
        self.site, origin = message.subject.split(".")[-2:]
        self.repeated = origin == DURABLE

    @property
    def attempt(self) -> int:
        """Return how often the message has been delivered, this time included."""
        return self._message.metadata.num_delivered

    @property
    def received(self) -> datetime:
        """Return when the message came into the stream."""
        return self._message.metadata.timestamp

    async def done(self) -> None:
        """Acknowledge; if that is lost the message comes again, which is harmless."""
        self._unsettled.discard(self)
        with _lenient("acknowledge"):
            await self._message.ack()

    async def retry(self, delay: float) -> None:
        """Ask for another delivery after `delay` seconds."""
        self._unsettled.discard(self)
        with _lenient("ask for another delivery"):
            await self._message.nak(delay=delay)

    async def working(self) -> None:
        """Hold the message for another lease."""
        with _lenient("say that the work goes on"):
            await self._message.in_progress()


@contextlib.contextmanager
def _lenient(what: str) -> Iterator[None]:
    """Take note of a NATS that is away: what it does not hear, it delivers again."""
    try:
        yield
    except (NatsError, OSError) as error:
        logger.warning("could not %s: %s", what, _said(error))


class JetStreamQueue:
    """Carry changes over JetStream; see `tandem.queues.base.Queue`."""

    lease = LEASE_SECONDS

    def __init__(self, settings: JetStream, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._js = client.jetstream(timeout=REQUEST_SECONDS)
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
            raise Transient(f"NATS at {settings.url} cannot be reached: {_said(why)}") from error
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
            await asyncio.gather(
                *(
                    self._publish(self._settings.subject(change.site, "tandem"), encode(change))
                    for change in changes[first : first + SENT_AT_ONCE]
                )
            )

    async def fail(self, failure: Failure) -> None:
        """Store a failure in the error stream of its class.

        Raises `Transient` if NATS did not confirm it.
        """
        subject = self._settings.error_subject(failure.error_class, failure.rule or NO_RULE)
        await self._publish(subject, _dump(failure))

    async def failures(self, error_class: ErrorClass | None = None) -> AsyncIterator[Failure]:
        """Yield what lies in the error streams, oldest first within each class.

        Raises `Transient` if NATS does not answer.
        """
        for one in ErrorClass if error_class is None else (error_class,):
            stream, sequence = self._settings.errors(one), 0
            # Not beyond what is there now: a redrive may fail again while this goes on.
            last = (await self._info(stream)).state.last_seq
            while sequence < last:
                try:
                    stored = await self._js.get_msg(
                        stream, sequence + 1, subject=self._settings.error_subject(one), next=True
                    )
                except NotFoundError:
                    break
                except (NatsError, OSError) as error:
                    raise Transient(
                        f"the stream {stream} cannot be read: {_said(error)}"
                    ) from error
                sequence = stored.seq or last
                yield _load(stored.data or b"", str(sequence))

    async def drop(self, failure: Failure) -> None:
        """Remove a failure from its stream.

        Raises `Transient` if NATS does not answer.
        """
        stream = self._settings.errors(failure.error_class)
        try:
            await self._js.delete_msg(stream, int(failure.id))
        except APIError as error:
            if error.err_code != NO_MESSAGE:
                raise Transient(f"{failure.id} stays in {stream}: {_said(error)}") from error
        except (NatsError, OSError) as error:
            raise Transient(f"{failure.id} stays in {stream}: {_said(error)}") from error

    async def failed(self) -> dict[str, dict[ErrorClass, int]]:
        """Return how many failures lie in the error streams, by rule and class.

        Raises `Transient` if NATS does not answer.
        """
        found: dict[str, dict[ErrorClass, int]] = {}
        for one in ErrorClass:
            for subject, count in (await self._subjects(self._settings.errors(one))).items():
                rule = subject.rpartition(".")[2]
                found.setdefault("" if rule == NO_RULE else rule, {})[one] = count
        return found

    async def _subjects(self, stream: str) -> dict[str, int]:
        """Return how many messages a stream holds under each subject."""
        return (await self._info(stream)).state.subjects or {}

    async def _info(self, stream: str) -> StreamInfo:
        try:
            return await self._js.stream_info(stream, subjects_filter=">")
        except (NatsError, OSError) as error:
            raise Transient(f"the stream {stream} cannot be asked: {_said(error)}") from error

    async def backlog(self) -> Backlog:
        """Return what waits or is being handled; acknowledged changes are gone from the stream.

        Raises `Transient` if NATS does not answer.
        """
        found = Backlog({}, {})
        for subject, count in (await self._subjects(self._settings.changes)).items():
            site = subject.split(".")[-2]
            found.count[site] = found.count.get(site, 0) + count
            oldest = await self._oldest(subject)
            if oldest is not None:
                found.oldest[site] = min(oldest, found.oldest.get(site, oldest))
        return found

    async def _oldest(self, subject: str) -> datetime | None:
        stream = self._settings.changes
        try:
            return (await self._js.get_msg(stream, seq=1, subject=subject, next=True)).time
        except NotFoundError:
            return None  # handled since the stream was asked
        except (NatsError, OSError) as error:
            raise Transient(f"the stream {stream} cannot be read: {_said(error)}") from error

    async def publish_outcome(self, body: bytes) -> None:
        """Tell an outcome to whoever listens on core NATS."""
        with _lenient("tell an outcome"):
            await self._client.publish(self._settings.outcomes, body)

    async def outcomes(self) -> AsyncIterator[bytes]:
        """Yield the outcomes told from now on; what is told while NATS is away goes unheard."""
        with _lenient("listen to outcomes"):
            subscription = await self._client.subscribe(self._settings.outcomes)
            try:
                async for message in subscription.messages:
                    yield message.data
            finally:
                await subscription.unsubscribe()

    async def close(self) -> None:
        """Hand back what is not settled and close the connection, within a few seconds.

        What NATS does not hear of that, it delivers again when the lease is over.
        """
        for part in (self._let_go, self._client.close):
            with _lenient("close in order"), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await part()

    async def _let_go(self) -> None:
        await self._puller.stop()
        for delivery in tuple(self._unsettled):
            await delivery.retry(0)
        await self._client.flush()

    async def _publish(self, subject: str, body: bytes) -> None:
        try:
            await self._js.publish(subject, body)
        except (NatsError, OSError) as error:
            raise Transient(
                f"NATS did not confirm a message on {subject}: {_said(error)}"
            ) from error

    async def _hear(self, error: Exception) -> None:
        # What NATS itself says tells more than the reset that comes after it.
        if self._trouble is None or isinstance(error, NatsError):
            self._trouble = error
        logger.debug("NATS: %s", _said(error))

    async def _lost(self) -> None:
        if not self._client.is_closed:
            logger.warning("NATS at %s is away; trying until it is back", self._settings.url)

    async def _found(self) -> None:
        logger.info("NATS at %s is back", self._settings.url)
        await self._puller.renew()


def _said(error: Exception) -> str:
    return str(error) or repr(error)


def _dump(failure: Failure) -> bytes:
    told = asdict(failure)
    told["change"] = encode(failure.change).decode() if failure.change else None
    told["since"], told["at"] = failure.since.isoformat(), failure.at.isoformat()
    return json.dumps(told).encode()


def _load(body: bytes, sequence: str) -> Failure:
    told = json.loads(body)
    change = told["change"]
    return Failure(
        **{
            **told,
            "id": sequence,
            "error_class": ErrorClass(told["error_class"]),
            "change": native(change) if change else None,
            "since": datetime.fromisoformat(told["since"]),
            "at": datetime.fromisoformat(told["at"]),
        }
    )
