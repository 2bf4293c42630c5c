"""The stack's NATS server: a connection to it, and what streams and consumers have in common."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from pulumi.dynamic import CreateResult, ReadResult, UpdateResult

from stacks.local.provider import Properties, Provider, gone, unchanged
from stacks.local.readiness import listens

SECONDS = 10.0

logger = logging.getLogger(__name__)


class NatsDown(Exception):
    """Report a NATS server that does not answer."""


@asynccontextmanager
async def connect(server: Mapping[str, Any]) -> AsyncIterator[JetStreamContext]:
    """Give JetStream on a server: its `url`, `user` and `password`.

    Raises NatsDown if the server cannot be reached, or does not answer in time.
    """
    # The client would try sixty times before it gave up on a server that is down.
    if not listens(urlsplit(server["url"]).port or 0):
        raise NatsDown(f"nothing listens on {server['url']}")
    client = Client()
    try:
        await _reach(client, server)
        yield client.jetstream(timeout=SECONDS)
    finally:
        await client.close()


async def _reach(client: Client, server: Mapping[str, Any]) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            await client.connect(
                server["url"],
                user=server["user"],
                password=server["password"],
                allow_reconnect=False,
                error_cb=_note,
            )
    except (NatsError, OSError, TimeoutError) as error:
        raise NatsDown(f"NATS at {server['url']} cannot be reached: {error!r}") from error


async def _note(error: Exception) -> None:
    logger.debug("NATS: %r", error)


class JetStreamProvider(Provider):
    """Make something on the server, look at it, and bring it in line; `named` holds its name."""

    named: ClassVar[str]

    @abstractmethod
    async def establish(self, js: JetStreamContext, props: Properties) -> None:
        """Make it, or bring the one that is there in line."""

    @abstractmethod
    async def look(self, js: JetStreamContext, props: Properties) -> Properties | None:
        """Return what the server says of it; None if it is not there."""

    def create(self, props: Properties) -> CreateResult:
        """Make it, or take over the one that is there."""
        asyncio.run(self._established(props))
        return CreateResult(props[self.named], dict(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look at it; while NATS is down nothing is known."""
        try:
            found = asyncio.run(self._looked(props))
        except NatsDown:
            return unchanged(id_, props)
        return gone() if found is None else ReadResult(id_, {**props, **found})

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Bring it in line."""
        asyncio.run(self._established(news))
        return UpdateResult(dict(news))

    async def _established(self, props: Properties) -> None:
        async with connect(props["server"]) as js:
            await self.establish(js, props)

    async def _looked(self, props: Properties) -> Properties | None:
        async with connect(props["server"]) as js:
            return await self.look(js, props)
