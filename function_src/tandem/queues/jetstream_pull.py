"""Pull messages of a JetStream consumer: one for each caller that waits.

nats-py's own pull subscription does not notice that its request was lost with the server, so it
would sit out its time-out after every restart of NATS; and what arrives for a caller that has
given up, it keeps until the lease runs out.
"""

from __future__ import annotations

import asyncio
import json
import logging

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from tandem.errors import Transient

logger = logging.getLogger(__name__)

# How long a caller waits before it asks again, in seconds.
PULL_SECONDS = 20.0
# A request outlives the one that follows it, so that there is always one at the server.
EXPIRES_NANOSECONDS = int((PULL_SECONDS + 1) * 1e9)
# How long to wait before asking again when the server refused, in seconds.
PAUSE_SECONDS = 0.5
# Answers that say no more than that a request has had its time.
EXPIRED = frozenset({"404", "408"})


class Puller:
    """Ask a consumer for as many messages as callers wait, and hand each caller one.

    A request for several messages would wait until all of them are there or its time is up.
    """

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        self._client = client
        # JetStream's API: github.com/nats-io/nats-architecture-and-design, ADR-13.
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._request = json.dumps({"batch": 1, "expires": EXPIRES_NANOSECONDS}).encode()
        self._subscription: Subscription | None = None
        # In the order of their arrival; a dict because one may leave from the middle.
        self._callers: dict[asyncio.Future[Msg], None] = {}
        self._again: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen for messages; none is asked for yet."""
        self._subscription = await self._client.subscribe(
            self._client.new_inbox(), cb=self._arrived
        )

    async def next(self) -> Msg:
        """Wait for a message.

        Raises `Transient` if the connection was closed.
        """
        caller: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._callers[caller] = None
        try:
            while not caller.done():
                if self._client.is_closed:
                    raise Transient("the connection to NATS was closed")
                await self._ask()
                await asyncio.wait((caller,), timeout=PULL_SECONDS)
        except asyncio.CancelledError:
            if caller.done():
                await _hand_back(caller.result())
            raise
        finally:
            self._callers.pop(caller, None)
        return caller.result()

    async def renew(self) -> None:
        """Ask again for everyone who waits: the server may have forgotten."""
        for _ in tuple(self._callers):
            await self._ask()

    async def stop(self) -> None:
        """Take back all requests; what arrives meanwhile goes back to the server."""
        if self._again:
            self._again.cancel()
        if self._subscription:
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # the library's omission

    async def _ask(self) -> None:
        if not self._client.is_connected or not self._subscription:
            return  # `renew` is called as soon as it is
        try:
            await self._client.publish(
                self._subject, self._request, reply=self._subscription.subject
            )
        except (NatsError, OSError) as error:
            self._ask_later(repr(error))

    def _ask_later(self, why: str) -> None:
        if self._again is None:
            logger.warning("NATS does not deliver: %s", why)
            self._again = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._ask_now)

    def _ask_now(self) -> None:
        self._again = None
        self._renewing = asyncio.create_task(self.renew())

    async def _arrived(self, message: Msg) -> None:
        status = JetStreamContext.is_status_msg(message)
        if status in EXPIRED:
            return
        if status is not None:
            self._ask_later(f"{status} {(message.headers or {}).get('Description', '')}")
            return
        for caller in self._callers:
            self._callers.pop(caller)
            caller.set_result(message)
            return
        await _hand_back(message)


async def _hand_back(message: Msg) -> None:
    """Let somebody else have a message at once."""
    try:
        await message.nak()
    except (NatsError, OSError) as error:
        logger.warning("a message comes again only after its lease: %r", error)
