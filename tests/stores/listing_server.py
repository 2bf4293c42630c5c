"""An S3 server that only lists: a bucket of any size, page by page over HTTP, with no object."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-11-21T08:33:23.056Z</LastModified>"
    "<ETag>&#34;d41d8cd98f00b204e9800998ecf8427e&#34;</ETag><Size>1024</Size></Contents>"
)


def key(number: int) -> str:
    return f"reports/{number // PAGE:05}/{number % PAGE:04}.txt"


class ListingServer:
    """Answer each ListObjectsV2 of a bucket with a page of `size` keys; the token is a number."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pages = 0

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
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = self._page(head.split(" ")[1])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _page(self, target: str) -> bytes:
        query = parse_qs(urlsplit(target).query)
        first = int(query.get("continuation-token", ["0"])[0])
        after = min(first + PAGE, self.size)
        # A probe's requests, for whom this is any answer, are no pages of the bucket.
        self.pages += "list-type" in query and "prefix" not in query
        more = after < self.size
        token = f"<NextContinuationToken>{after}</NextContinuationToken>" if more else ""
        entries = "".join(ENTRY.format(key(number)) for number in range(first, after))
        return (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
            "</ListBucketResult>"
        ).encode()
