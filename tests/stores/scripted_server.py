"""An HTTP server that answers by script, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request, as it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


class Hangup:
    """In place of an answer: close the connection."""


class Silence:
    """In place of an answer: say nothing more on this connection."""


class Deafness:
    """In place of an answer: do not even read the body."""


Step = bytes | type[Hangup] | type[Silence] | type[Deafness]


@dataclass
class ScriptedServer:
    """Answer the requests in turn; `script` is what is left to answer."""

    script: list[Step] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Stop listening, and drop every connection."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._answer(reader, writer, number):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        step = self.script.pop(0)
        if step is Deafness:
            await asyncio.Event().wait()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, target, headers, body, number))
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            return b"Connection: close" not in step
        if step is Silence:
            await asyncio.Event().wait()
        return False


def answer(status: str, body: bytes = b"", length: int | None = None, **headers: str) -> bytes:
    """Return an answer's bytes; `length` is what it claims, by default the truth."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def found(body: bytes = b"hello", length: int | None = None, **headers: str) -> bytes:
    """Return the answer to a GET or HEAD of an object that is there."""
    told = {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 08:32:59 GMT"} | headers
    return answer("200 OK", body, length, **told)


def refused(status: str, code: str, message: str = "so it is", **headers: str) -> bytes:
    """Return an S3 error."""
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return answer(status, body.encode(), **headers)
