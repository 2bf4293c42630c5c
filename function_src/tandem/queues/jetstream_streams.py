"""The streams of a NATS server, and what goes wrong there in Tandem's words."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg, StreamInfo
from nats.js.errors import APIError, NotFoundError

from tandem.errors import Transient

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0
# JetStream's error codes: JSNoMessageFoundErr at a removal, and JSStreamNotFoundErr.
NO_MESSAGE, NO_STREAM = 10057, 10059


def said(error: Exception) -> str:
    """Return what an error says, or what it is called if it says nothing."""
    return str(error) or repr(error)


@contextlib.contextmanager
def lenient(what: str) -> Iterator[None]:
    """Take note of a NATS that is away: what it does not hear, it delivers again."""
    try:
        yield
    except (NatsError, OSError) as error:
        logger.warning("could not %s: %s", what, said(error))


class Streams:
    """Write to streams and read them. Every method raises `Transient` if NATS does not answer."""

    def __init__(self, client: Client) -> None:
        self._js = client.jetstream(timeout=REQUEST_SECONDS)

    async def publish(self, subject: str, body: bytes) -> None:
        """Store a message in the stream that its subject belongs to."""
        try:
            await self._js.publish(subject, body)
        except (NatsError, OSError) as error:
            raise Transient(
                f"NATS did not confirm a message on {subject}: {said(error)}"
            ) from error

    async def last(self, stream: str) -> int:
        """Return the number of the last message that a stream has taken."""
        return (await self._info(stream)).state.last_seq

    async def subjects(self, stream: str) -> dict[str, int]:
        """Return how many messages a stream holds under each subject."""
        return (await self._info(stream)).state.subjects or {}

    async def next(self, stream: str, subject: str, number: int = 1) -> RawStreamMsg | None:
        """Return the first message under a subject whose number is at least `number`."""
        try:
            return await self._js.get_msg(stream, number, subject=subject, next=True)
        except NotFoundError as error:
            if error.err_code == NO_STREAM:
                raise Transient(
                    f"there is no stream {stream}: `make up` makes what a stack lacks"
                ) from error
            return None
        except (NatsError, OSError) as error:
            raise Transient(f"the stream {stream} cannot be read: {said(error)}") from error

    async def remove(self, stream: str, number: int) -> None:
        """Remove a message; one that is gone already is no error."""
        try:
            await self._js.delete_msg(stream, number)
        except (NatsError, OSError) as error:
            if isinstance(error, APIError) and error.err_code == NO_MESSAGE:
                return
            raise Transient(f"{number} stays in {stream}: {said(error)}") from error

    async def _info(self, stream: str) -> StreamInfo:
        try:
            return await self._js.stream_info(stream, subjects_filter=">")
        except (NatsError, OSError) as error:
            raise Transient(f"the stream {stream} cannot be asked: {said(error)}") from error
