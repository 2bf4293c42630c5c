"""A connection to the stack's NATS server, to make streams and consumers with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

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
