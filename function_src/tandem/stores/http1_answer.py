"""Answers to HTTP/1.1 requests, parsed by httptools."""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools

# Bytes of a body that nobody has asked for yet, before the server is made to wait.
READ_BUFFER = 256 * 1024
FIRST_FINAL_STATUS = 200


class Unanswered(OSError):
    """The connection ended before a whole answer had come."""


class Carrier(Protocol):
    """Name what an answer asks of the connection that brings it."""

    def hold(self) -> None:
        """Let the server wait."""

    def go_on(self) -> None:
        """Let the server go on."""

    def abort(self) -> None:
        """Close at once."""

    def free(self, *, reusable: bool) -> None:
        """Take the connection back: the whole answer is there."""


class Answer:
    """Receive the answer to one request.

    `headers` has lower-case names; one that came several times has its values joined by commas.
    `begun` says that at least a byte has come, `headed` that all headers have, `ended` that
    everything has.
    """

    def __init__(self, method: str, carrier: Carrier) -> None:
        self.method = method
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = self.headed = self.ended = False
        self._carrier = carrier
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = False
        # Where the body goes if it is read into a buffer, and how much of it has come.
        self._buffer: memoryview | None = None
        self._filled = 0
        self._fault: OSError | None = None
        self._news: asyncio.Future[None] | None = None

    @property
    def length(self) -> int | None:
        """Return the size of the body in bytes, None if the server did not tell."""
        told = self.headers.get("content-length")
        return int(told) if told is not None else None

    async def head(self) -> None:
        """Wait for the status and the headers.

        Raises OSError if they do not come, TimeoutError if nothing does for too long.
        """
        while not self.headed:
            await self._hear()

    async def read(self, most: int | None = None) -> bytes:
        """Return the body; with `most`, no more than a little over so many bytes of it.

        Raises OSError if it ends early, TimeoutError if it stalls.
        """
        self._want()
        while not self.ended and (most is None or self._held < most):
            await self._hear()
        self.close()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        return body

    async def read_into(self, buffer: bytearray) -> None:
        """Fill `buffer` with the body.

        Raises as `read` does, also if the body has another size than `buffer`.
        """
        with memoryview(buffer) as self._buffer:
            for piece in self._pieces:
                self._store(piece)
            self._pieces = []
            self._want()
            while not self.ended:
                await self._hear()
        self._buffer = None
        if self._filled != len(buffer):
            raise Unanswered(f"the body has {self._filled} bytes, not {len(buffer)}")

    def close(self) -> None:
        """Give up what has not come yet, and the connection with it."""
        if not self.ended:
            self._carrier.abort()

    def feed(self, data: bytes) -> None:
        """Take bytes off the wire."""
        self.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(Unanswered(f"what came is no HTTP: {error}"))

    def feed_end(self) -> None:
        """Take note that the server sends no more, which ends a body of untold length.

        RFC 9112, section 6.3, case 8.
        """
        told = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.headed and not told:
            self._end(reusable=False)

    def fail(self, fault: OSError) -> None:
        """Tell whoever waits that nothing more will come."""
        if not self.ended and self._fault is None:
            self._fault = fault
            self._tell()
            self._carrier.abort()

    # httptools calls these.

    def on_message_begin(self) -> None:
        """Begin an answer; before the final one there may be others, such as 100 Continue."""
        if not self.headed:
            self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        key = name.decode("utf-8", "surrogateescape").lower()
        text = value.decode("utf-8", "surrogateescape")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """Take the status."""
        status = self._parser.get_status_code()
        if self.headed or status < FIRST_FINAL_STATUS:
            return
        self.status = status
        self.headed = True
        if self.method == "HEAD":  # whatever Content-Length says, no body follows
            self._end(reusable=self._parser.should_keep_alive())
        else:
            self._tell()

    def on_body(self, piece: bytes) -> None:
        """Take some of the body."""
        if self._buffer is not None:
            self._store(piece)
        elif not self.ended:
            self._pieces.append(piece)
            self._held += len(piece)
            if self._held > READ_BUFFER and not self._wanted:
                self._carrier.hold()

    def on_message_complete(self) -> None:
        """End the answer, unless it was one before the final one."""
        if self.headed:
            self._end(reusable=self._parser.should_keep_alive())

    def _store(self, piece: bytes) -> None:
        end = self._filled + len(piece)
        if self._buffer is None or end > len(self._buffer):
            self.fail(Unanswered("the body is longer than was told"))
            return
        self._buffer[self._filled : end] = piece
        self._filled = end

    def _want(self) -> None:
        self._wanted = True
        if not self.ended:
            self._carrier.go_on()

    def _end(self, *, reusable: bool) -> None:
        if not self.ended and self._fault is None:
            self.ended = True
            self._tell()
            self._carrier.free(reusable=reusable)

    def _tell(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)

    async def _hear(self) -> None:
        """Wait until something has happened."""
        if self._fault:
            raise self._fault
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        except asyncio.CancelledError:
            self.close()
            raise
        if self._fault:
            raise self._fault
