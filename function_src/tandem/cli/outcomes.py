"""Listening to what workers tell of their outcomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.errors

from tandem.errors import Transient
from tandem.settings import JetStream

# How long, in seconds, NATS may take to answer.
PATIENCE = 5


@asynccontextmanager
async def outcomes(queue: JetStream) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Give the outcomes that are told from now on, as `Outcome.to_json` wrote them.

    Raises `Transient` if NATS does not answer.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            client = await nats.connect(
                queue.url,
                user=queue.user,
                password=queue.password,
                allow_reconnect=False,
                # Even so the client tries a first connection 60 times by default, for two minutes.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=_quiet,
            )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Transient(
            f"NATS at {queue.url} does not answer: {str(error) or type(error).__name__}"
        ) from error
    try:
        subscription = await client.subscribe(queue.outcomes)
        # The server has the subscription before anything is put.
        await client.flush()
        yield _decoded(subscription)
    finally:
        await client.close()


async def _decoded(subscription: Any) -> AsyncIterator[dict[str, Any]]:
    async for message in subscription.messages:
        yield json.loads(message.data)


async def _quiet(_: Exception) -> None:
    """Say nothing: what goes wrong is raised where it matters."""
