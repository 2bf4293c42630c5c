"""A TCP proxy that does to requests what bad networks do, on demand or at random from a seed.

It stands before one server of 127.0.0.1 and reads no more of HTTP than where a request begins.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Self

CHUNK = 64 * 1024
# How long, in seconds, the server may take over a request that its client has given up.
ORPHANED_SECONDS = 10.0
# A late request costs minutes where other faults cost moments: one of so many faults is late.
LATE_ONE_IN = 25
_BEGINNING = re.compile(rb"(?:GET|HEAD|PUT|POST|DELETE) /\S* HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


async def at_once() -> None:
    """Wait for nothing."""


@dataclass(frozen=True)
class Fault:
    """Say what becomes of one request.

    `after` bytes of it (or of its answer, by `side`) pass; then comes `wait`, and then either the
    rest passes, or both connections are closed. A request that has been waited for passes even if
    its client has gone meanwhile, as one does that lay in a queue.
    """

    name: str
    side: Literal["request", "answer"] = "request"
    after: int = 0
    wait: Callable[[], Awaitable[object]] = at_once
    closes: bool = False
    # Called when the server has answered.
    answered: Callable[[], None] = lambda: None


# Says what becomes of a new connection (given b"") or of a request (given its head); None: nothing.
Choose = Callable[[bytes], Fault | None]


def nothing(_: bytes) -> Fault | None:
    """Let all pass."""
    return None


@dataclass
class Gate:
    """Hold the first request whose first line begins with `line`, until it is let go.

    `after` bytes of it pass first.
    """

    line: bytes
    after: int = 0
    side: Literal["request", "answer"] = "request"
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, head: bytes) -> Fault | None:
        if self.reached.is_set() or not head.startswith(self.line):
            return None
        self.reached.set()
        return Fault("gate", self.side, self.after, self.opened.wait, answered=self.answered.set)


class Weather:
    """Choose faults at random: about one for every `calm` requests or connections.

    `late` is how long, in seconds, a request may lie somewhere and then pass all the same; make it
    longer than clients wait. None: none does.
    """

    def __init__(self, seed: int, *, calm: int, late: float | None) -> None:
        self._chance = random.Random(seed)
        self._calm = calm
        self._late = late
        self.clear = False

    def __call__(self, head: bytes) -> Fault | None:
        chance = self._chance
        if self.clear or chance.randrange(self._calm):
            return None
        if not head:
            return Fault("connection refused", closes=True)
        length = _LENGTH.search(head.lower())
        size = len(head) + (int(length[1]) if length else 0)
        faults = [
            Fault("request dropped", closes=True),
            Fault("request cut", after=chance.randrange(size), closes=True),
            Fault("answer dropped", "answer", closes=True),
            Fault("answer cut", "answer", after=chance.randrange(600), closes=True),
            Fault("request delayed", wait=_pause(chance.uniform(0.05, 2))),
            Fault("answer delayed", "answer", wait=_pause(chance.uniform(0.05, 2))),
        ]
        if self._late and not chance.randrange(LATE_ONE_IN):
            return Fault("request late", after=chance.randrange(size), wait=_pause(self._late))
        return chance.choice(faults)


def _pause(seconds: float) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.sleep(seconds)


class Proxy:
    """Listen on a free port of 127.0.0.1, and pass on to `port` what `choose` lets pass."""

    def __init__(self, port: int, choose: Choose = nothing) -> None:
        self.choose = choose
        # What was done, by the names of faults.
        self.done: Counter[str] = Counter()
        self.requests = 0
        self._server_port = port
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        """Return the URL at which clients find the proxy."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def chosen(self, head: bytes) -> Fault | None:
        """Return what becomes of a request, and keep count."""
        self.requests += bool(head)
        fault = self.choose(head)
        if fault:
            self.done[fault.name] += 1
        return fault

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.chosen(b"") is None:
                server = await asyncio.open_connection("127.0.0.1", self._server_port)
                await _Exchange(self, (reader, writer), server).run()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Closed(Exception):
    """Both connections are to be closed."""


class _Exchange:
    """One connection of a client, and the one to the server that goes with it."""

    def __init__(self, proxy: Proxy, client: Stream, server: Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        # What becomes of the request under way, until it is answered.
        self._fault: Fault | None = None

    async def run(self) -> None:
        """Pass on both ways, until one side or a fault ends it."""
        requests = asyncio.create_task(self._requests())
        answers = asyncio.create_task(self._answers())
        try:
            await asyncio.wait((requests, answers), return_when=asyncio.FIRST_COMPLETED)
            if self._fault and not self._fault.closes and not answers.done():
                await asyncio.wait((answers,), timeout=ORPHANED_SECONDS)
        finally:
            for task in (requests, answers):
                task.cancel()
            await asyncio.gather(requests, answers, return_exceptions=True)
            self._server[1].transport.abort()

    async def _requests(self) -> None:
        (reader, _), (_, writer) = self._client, self._server
        while chunk := await reader.read(CHUNK):
            if not _BEGINNING.match(chunk):
                await _pass_on(chunk, writer)
                continue
            self._fault = self._proxy.chosen(chunk)
            if self._fault and self._fault.side == "request":
                await _suffer(self._fault, chunk, reader, writer)
            else:
                await _pass_on(chunk, writer)

    async def _answers(self) -> None:
        (reader, _), (_, writer) = self._server, self._client
        while chunk := await reader.read(CHUNK):
            fault, self._fault = self._fault, None
            if fault:
                fault.answered()
            if fault and fault.side == "answer":
                await _suffer(fault, chunk, reader, writer)
            else:
                await _pass_on(chunk, writer)


async def _suffer(
    fault: Fault, chunk: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Do to a message, of which `chunk` is the beginning, what `fault` says."""
    left = fault.after
    while left > len(chunk):
        await _pass_on(chunk, writer)
        left -= len(chunk)
        chunk = await reader.read(CHUNK)
        if not chunk:
            return
    await _pass_on(chunk[:left], writer)
    await fault.wait()
    if fault.closes:
        raise _Closed
    await _pass_on(chunk[left:], writer)


async def _pass_on(data: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(data)
    await writer.drain()
