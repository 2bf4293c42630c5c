"""Pull messages of a JetStream consumer: one for each caller that waits.

nats-py's own pull subscription does not notice that its request was lost with the server, so it
would sit out its time-out after every restart of NATS; and what arrives for a caller that has
given up, it keeps until the lease runs out.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from tandem.errors import Transient

logger = logging.getLogger(__name__)

# How long a request stays with the server, in seconds; then it says so, and is asked again.
PULL_SECONDS = 20.0
# How much later a request counts as lost, should the server not have said so.
MARGIN_SECONDS = 1.0
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
        self._request = json.dumps({"batch": 1, "expires": int(PULL_SECONDS * 1e9)}).encode()
        self._subscription: Subscription | None = None
        # In the order of their arrival; a dict because one may leave from the middle.
        self._callers: dict[asyncio.Future[Msg], None] = {}
        # When each request that the server holds will have had its time, on the loop's clock.
        self._asked: deque[float] = deque()
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
        if self._client.is_closed:
            raise _closed()
        caller: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._callers[caller] = None
        await self._ask()
        try:
            return await caller
        except asyncio.CancelledError:
            if caller.done() and not caller.cancelled():
                await _hand_back(caller.result())
            raise
        finally:
            self._callers.pop(caller, None)

    async def renew(self) -> None:
        """Ask again for everyone who waits: the server may have forgotten."""
        self._asked.clear()
        await self._ask()

    async def stop(self) -> None:
        """Take back all requests; what arrives meanwhile goes back to the server."""
        if self._again:
            self._again.cancel()
        if self._subscription:
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # the library's omission
        for caller in self._callers:
            if not caller.done():
                caller.set_exception(_closed())

    async def _ask(self) -> None:
        """Let the server hold as many requests as callers wait."""
        if not self._client.is_connected or not self._subscription:
            return  # `renew` is called as soon as it is
        now = asyncio.get_running_loop().time()
        while self._asked and self._asked[0] < now:
            self._asked.popleft()
        if self._callers:
            self._ask_in(PULL_SECONDS + MARGIN_SECONDS)  # should an answer be lost
        while len(self._asked) < len(self._callers):
            self._asked.append(now + PULL_SECONDS + MARGIN_SECONDS)
            try:
                await self._client.publish(
                    self._subject, self._request, reply=self._subscription.subject
                )
            except (NatsError, OSError) as error:
                self._asked.pop()
                self._ask_later(repr(error))
                return

    def _ask_later(self, why: str) -> None:
        if self._ask_in(PAUSE_SECONDS):
            logger.warning("NATS does not deliver: %s", why)

    def _ask_in(self, seconds: float) -> bool:
        """Ask after so many seconds, and return whether that is sooner than was intended."""
        loop = asyncio.get_running_loop()
        if self._again:
            if self._again.when() <= loop.time() + seconds:
                return False
            self._again.cancel()
        self._again = loop.call_later(seconds, self._ask_now)
        return True

    def _ask_now(self) -> None:
        self._again = None
        self._renewing = asyncio.create_task(self._ask())

    async def _arrived(self, message: Msg) -> None:
        if self._asked:
            self._asked.popleft()
        status = JetStreamContext.is_status_msg(message)
        if status in EXPIRED:
            await self._ask()
        elif status is not None:
            self._ask_later(f"{status} {(message.headers or {}).get('Description', '')}")
        elif self._callers:
            caller = next(iter(self._callers))
            self._callers.pop(caller)
            caller.set_result(message)
        else:
            await _hand_back(message)


def _closed() -> Transient:
    return Transient("the connection to NATS was closed")


async def _hand_back(message: Msg) -> None:
    """Let somebody else have a message at once."""
    try:
        await message.nak()
    except (NatsError, OSError) as error:
        logger.warning("a message comes again only after its lease: %r", error)
