"""A message from the stream of changes, until it is settled."""

from __future__ import annotations

from datetime import datetime

from nats.aio.msg import Msg

from tandem.queues.jetstream_streams import lenient

# The origin of events that come a second time, as `pulumi up` names it.
DURABLE = "durable"


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
        with lenient("acknowledge"):
            await self._message.ack()

    async def retry(self, delay: float) -> None:
        """Ask for another delivery after `delay` seconds."""
        self._unsettled.discard(self)
        with lenient("ask for another delivery"):
            await self._message.nak(delay=delay)

    async def working(self) -> None:
        """Hold the message for another lease."""
        with lenient("say that the work goes on"):
            await self._message.in_progress()
