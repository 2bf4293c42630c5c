"""The HTTP client's own promises, against a server that says what it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tandem.stores.http1 import SLICE, Client, Unsent
from tandem.stores.http1_answer import READ_BUFFER, Unanswered

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Handler], Awaitable[Client]]
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Give a function that starts a server of a handler, and returns a client of it."""
    servers: list[asyncio.Server] = []
    clients: list[Client] = []

    async def start(handler: Handler) -> Client:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        servers.append(await asyncio.start_server(connected, "127.0.0.1"))
        port = servers[-1].sockets[0].getsockname()[1]
        origin = urlsplit(f"http://127.0.0.1:{port}")
        clients.append(Client(origin, limit=2, connect=5.0, silence=5.0))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()
    for server in servers:
        server.close()
        await server.wait_closed()


def replying(*answers: bytes, keep: bool = True) -> Handler:
    """Return a handler that gives each request without a body the next of these answers."""
    rest = iter(answers)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(next(rest))
            await writer.drain()
            if not keep:
                return

    return handler


async def test_a_chunked_body_is_put_together(serve: Serve):
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    client = await serve(replying(chunked, EMPTY))
    answer = await client.request("GET", "/", {})
    assert (answer.length, await answer.read()) == (None, b"abcde")
    assert await (await client.request("GET", "/", {})).read() == b""


async def test_a_body_of_untold_length_ends_with_the_connection(serve: Serve):
    client = await serve(replying(b"HTTP/1.1 200 OK\r\n\r\nabc", keep=False))
    assert await (await client.request("GET", "/", {})).read() == b"abc"


async def test_what_comes_before_the_final_answer_is_passed_over(serve: Serve):
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    client = await serve(replying(b"HTTP/1.1 100 Continue\r\n\r\n" + early + EMPTY))
    answer = await client.request("GET", "/", {})
    assert (answer.status, answer.headers) == (200, {"content-length": "0"})


async def test_a_head_has_no_body_and_keeps_its_connection(serve: Serve):
    client = await serve(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", EMPTY))
    answer = await client.request("HEAD", "/", {})
    assert (answer.length, await answer.read()) == (7, b"")
    assert (await client.request("GET", "/", {})).status == 200


async def test_a_header_that_comes_twice_has_both_values(serve: Serve):
    twice = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-a: 2\r\nContent-Length: 0\r\n\r\n"
    client = await serve(replying(twice))
    assert (await client.request("GET", "/", {})).headers["x-a"] == "1, 2"


async def test_no_more_connections_are_open_than_allowed(serve: Serve):
    open_now = most = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(0.01)
            writer.write(EMPTY)

    client = await serve(handler)
    answers = await asyncio.gather(*(client.request("GET", "/", {}) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert most == 2


async def test_requests_that_were_given_up_leave_room_for_others(serve: Serve):
    silent = True

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            if not silent:
                writer.write(EMPTY)

    client = await serve(handler)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.request("GET", "/", {})
    silent = False
    async with asyncio.timeout(60):
        assert (await client.request("GET", "/", {})).status == 200


async def test_a_body_that_was_not_read_costs_the_connection_and_nothing_else(serve: Serve):
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc"
    client = await serve(replying(long, long, long, EMPTY))
    for _ in range(3):
        (await client.request("GET", "/", {})).close()
    async with asyncio.timeout(60):
        assert (await client.request("GET", "/", {})).length == 0


async def test_the_server_waits_for_a_body_that_nobody_reads_yet(serve: Serve):
    size = 64 * 1024 * 1024
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // SLICE):
            writer.write(bytes(SLICE))
            await writer.drain()
            sent += SLICE

    client = await serve(handler)
    answer = await client.request("GET", "/", {})
    await asyncio.sleep(0.3)
    assert READ_BUFFER < sent < size / 2  # what lies in the sockets' buffers
    buffer = bytearray(size)
    await answer.read_into(buffer)
    assert sent == size


async def test_a_body_that_is_longer_or_shorter_than_the_buffer_is_no_body(serve: Serve):
    three = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    client = await serve(replying(three, three, EMPTY))
    for size in (2, 4):
        answer = await client.request("GET", "/", {})
        with pytest.raises(Unanswered, match="the body"):
            await answer.read_into(bytearray(size))


async def test_a_refusal_ends_the_sending_of_a_large_body(serve: Serve):
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    client = await serve(replying(refusal))
    answer = await client.request("PUT", "/", {}, bytes(64 * 1024 * 1024))
    assert (answer.status, await answer.read()) == (403, b"no")


async def test_what_nobody_asked_for_is_not_taken_for_the_next_answer(serve: Serve):
    client = await serve(replying(EMPTY + b"HTTP/1.1 500 No\r\n\r\n", EMPTY))
    assert (await client.request("GET", "/", {})).status == 200
    assert (await client.request("GET", "/", {})).status == 200


async def test_what_is_no_http_is_an_error(serve: Serve):
    client = await serve(replying(b"SSH-2.0-OpenSSH\r\n"))
    with pytest.raises(Unanswered, match="no HTTP"):
        await client.request("GET", "/", {})


async def test_nobody_smuggles_a_header_in(serve: Serve):
    client = await serve(replying(EMPTY))
    with pytest.raises(ValueError, match="line ends"):
        await client.request("GET", "/", {"x-amz-meta-a": "1\r\nx-evil: 1"})


async def test_a_port_on_which_nobody_listens_is_said_to_have_got_nothing():
    client = Client(urlsplit("http://127.0.0.1:1"), limit=1, connect=5.0, silence=5.0)
    for _ in range(2):
        with pytest.raises(Unsent):
            await client.request("POST", "/", {})


async def test_a_server_is_believed_only_with_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(replying(EMPTY, EMPTY), "127.0.0.1", ssl=context)
    origin = urlsplit(f"https://localhost:{server.sockets[0].getsockname()[1]}")
    stranger = Client(origin, limit=1, connect=5.0, silence=5.0)
    with pytest.raises(Unsent, match="CERTIFICATE_VERIFY_FAILED"):
        await stranger.request("GET", "/", {})
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    friend = Client(origin, limit=1, connect=5.0, silence=5.0)
    for _ in range(2):
        assert (await friend.request("GET", "/", {})).status == 200
    await friend.close()
    server.close()
    await server.wait_closed()
