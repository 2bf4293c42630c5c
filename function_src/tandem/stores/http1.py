"""HTTP/1.1 requests over kept connections: asyncio's transports around httptools' parser.

What is sent is exactly what is given: no header is added but Content-Length, no path is
normalised, no redirect followed, no body decoded. A general client does more for each request
than a copy of 4 KiB can afford: docs/decisions/0004 has the figures.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import cast
from urllib.parse import SplitResult

import aiohappyeyeballs

from tandem.stores.http1_answer import Answer, Unanswered

# A body above this many bytes is sent in slices, without a copy.
SLICE = 256 * 1024
# A connection that was idle for longer, in seconds, may be about to be closed by the server.
KEEP_SECONDS = 15.0
# How long one of a host's addresses is tried before the next one is tried beside it: RFC 8305.
NEXT_ADDRESS_SECONDS = 0.25
# These change nothing, so they may be repeated: RFC 9110, section 9.2.1. A PUT or DELETE may not,
# though repeating it leaves the same: the first one may be carried out after the second.
REPEATABLE = frozenset({"GET", "HEAD"})
PORTS = {"http": 80, "https": 443}
_UNSENDABLE = re.compile(r"[\r\n\0]")


class Unsent(OSError):
    """No connection could be made, so the server has seen nothing of the request."""


class HttpConnection(asyncio.Protocol):
    """Carry one exchange at a time over one connection; see `Client`."""

    def __init__(self, client: Client, silence: float) -> None:
        self.busy = False
        self.idle_since = 0.0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = client
        self._silence = silence
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._sending = False
        self._reading = True
        self._writable = asyncio.Event()
        self._writable.set()
        self._watch: asyncio.TimerHandle | None = None
        self._heard = 0.0

    @property
    def open(self) -> bool:
        """Return whether a request may go out."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, answer: Answer, head: bytes, body: bytes | bytearray) -> None:
        """Send a request, and wait until the headers of `answer` are there."""
        loop = asyncio.get_running_loop()
        self._answer = answer
        self._heard = loop.time()
        self._watch = loop.call_later(self._silence, self._check)
        try:
            if len(body) > SLICE:
                self._write(head)
                await self._send_slices(answer, body)
            else:
                self._write(head + body if body else head)
            await answer.head()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Close at once."""
        if self._transport:
            self._transport.abort()

    def hold(self) -> None:
        """Let the server wait."""
        if self._transport and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Let the server go on."""
        if self._transport and not self._reading:
            self._reading = True
            self._heard = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def free(self, *, reusable: bool) -> None:
        """Give the connection back: the whole answer is there."""
        self._answer = None
        if self._watch:
            self._watch.cancel()
        # A server that answers before it has the whole request does not want the rest.
        if reusable and self.open and not self._sending:
            self.go_on()
            self._client.keep(self)
        else:
            self.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what comes; nothing may come while nothing was asked."""
        self._heard = asyncio.get_running_loop().time()
        if self._answer:
            self._answer.feed(data)
        else:
            self.abort()

    def eof_received(self) -> None:
        """Pass on that no more comes; the transport then closes itself."""
        if self._answer:
            self._answer.feed_end()

    def pause_writing(self) -> None:
        """Wait for the server to take what was written."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._heard = asyncio.get_running_loop().time()
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self.lost.set_result(None)
        self._client.forget(self)
        self._writable.set()
        if self._watch:
            self._watch.cancel()
        if self._answer:
            self._answer.fail(Unanswered(str(exc or "the server closed the connection")))

    def _write(self, data: bytes | memoryview) -> None:
        if self._transport is None or self._transport.is_closing():
            raise Unanswered("the server closed the connection")
        self._transport.write(data)

    async def _send_slices(self, answer: Answer, body: bytes | bytearray) -> None:
        """Send a large body, unless the server answers before it has all of it."""
        self._sending = True
        view = memoryview(body)
        for start in range(0, len(view), SLICE):
            await self._writable.wait()
            if answer.headed:
                return
            self._write(view[start : start + SLICE])
        self._sending = False

    def _check(self) -> None:
        """Give up if nothing has been heard of the server for too long."""
        loop = asyncio.get_running_loop()
        if not self._reading:
            self._heard = loop.time()  # it is we who are slow
        left = self._heard + self._silence - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._check)
        elif self._answer:
            self._answer.fail(TimeoutError(f"nothing came for {self._silence:g} s"))


class Client:
    """Send requests to one origin over at most `limit` connections at once.

    `connect` bounds the time to connect, `silence` the longest time in which nothing is read or
    written; both in seconds.
    """

    def __init__(self, origin: SplitResult, limit: int, *, connect: float, silence: float) -> None:
        self._host = origin.hostname or ""
        self._port = origin.port or PORTS[origin.scheme]
        self._tls = ssl.create_default_context() if origin.scheme == "https" else None
        self._connect_seconds = connect
        self._silence = silence
        self._slots = asyncio.Semaphore(limit)
        self._open: set[HttpConnection] = set()
        # The one that was used last comes last, and is used first: the others may grow old.
        self._kept: list[HttpConnection] = []

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | bytearray = b""
    ) -> Answer:
        """Send a request and return its answer, with the body unread.

        `target` is the path with the query, encoded; `headers` names the host. If a kept
        connection turns out to be closed before a byte of an answer, a method that may be
        repeated goes out once more on a new one. Raises `Unsent` if no connection could be made,
        TimeoutError or another OSError if no answer came, ValueError if a header has line ends.
        """
        head = _head(method, target, headers, len(body))
        connection, fresh = await self._take()
        answer = Answer(method, connection)
        try:
            await connection.exchange(answer, head, body)
        except Unanswered:
            if fresh or answer.begun or method not in REPEATABLE:
                raise
            connection, _ = await self._take(fresh=True)
            answer = Answer(method, connection)
            await connection.exchange(answer, head, body)
        return answer

    async def close(self) -> None:
        """Close all connections."""
        closing = tuple(self._open)
        for connection in closing:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in closing))

    def keep(self, connection: HttpConnection) -> None:
        """Keep a connection whose exchange is over for the next one."""
        connection.idle_since = asyncio.get_running_loop().time()
        self._kept.append(connection)
        self._release(connection)

    def forget(self, connection: HttpConnection) -> None:
        """Drop a connection that is closed."""
        self._open.discard(connection)
        if connection in self._kept:
            self._kept.remove(connection)
        self._release(connection)

    def _release(self, connection: HttpConnection) -> None:
        if connection.busy:
            connection.busy = False
            self._slots.release()

    async def _take(self, *, fresh: bool = False) -> tuple[HttpConnection, bool]:
        """Return a connection that is free, and whether it is a new one."""
        await self._slots.acquire()
        connection = None if fresh else self._last_kept()
        try:
            taken = connection or await self._connect()
        except BaseException:
            self._slots.release()
            raise
        taken.busy = True
        return taken, connection is None

    def _last_kept(self) -> HttpConnection | None:
        oldest = asyncio.get_running_loop().time() - KEEP_SECONDS
        while self._kept:
            connection = self._kept.pop()
            if connection.open and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                connected = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS
                )
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(self, self._silence),
                    sock=connected,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except OSError as error:
            slow = f"no connection within {self._connect_seconds:g} s"
            raise Unsent(slow if isinstance(error, TimeoutError) else str(error)) from error
        self._open.add(connection)
        return connection


def _head(method: str, target: str, headers: Mapping[str, str], size: int) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    if size or method in {"PUT", "POST"}:
        lines.append(f"content-length: {size}")
    for line in lines:
        if _UNSENDABLE.search(line):
            raise ValueError(f"{line!r} cannot be sent: it has line ends")
    return "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape")
