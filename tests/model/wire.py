"""The seams of a process: an ObjectStore and a Queue whose every call goes over the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from tandem.queues.memory import MemoryDelivery, MemoryQueue
from tandem.stores.base import Entry, ObjectState
from tandem.stores.memory import MemoryStore
from tests.model.network import Network, Process

# How many entries one answer to a listing holds.
PAGE = 2
QUEUE = "queue"
LOOKS = {"head", "is_absent", "open", "read", "list", "history", "tags", "part_sizes", "versions"}
READS = LOOKS | {"list_uploads", "list_parts", "failures", "failed", "backlog"}
UPLOADS = {"create_upload", "upload_part", "complete_upload", "abort_upload"}
WRITES = UPLOADS | {"put", "copy", "delete", "put_tags", "send", "fail", "drop"}
# What is sent without waiting for an answer, so that its loss goes unseen.
UNANSWERED = frozenset(["done", "retry", "working", "publish_outcome"])


class Wire:
    """Carry the calls of one process to one server, each as a request."""

    def __init__(self, server: Any, site: str, network: Network, process: Process) -> None:
        self.server = server
        self.process = process
        self._site = site
        self._network = network

    async def ask(self, operation: str, key: str, perform: Callable[[], Any]) -> Any:
        assert operation in READS | WRITES | UNANSWERED, f"does {operation} change anything?"
        return await self._network.ask(
            self.process,
            self._site,
            operation,
            key,
            perform,
            mutates=operation in WRITES,
            settles=operation in UNANSWERED,
        )

    def __getattr__(self, operation: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return the call of that name, to be carried out by the server when it arrives."""
        call = getattr(self.server, operation)

        async def ask(*arguments: Any, **named: Any) -> Any:
            key = arguments[0] if arguments and isinstance(arguments[0], str) else ""
            return await self.ask(operation, key, partial(call, *arguments, **named))

        return ask


class WiredReader:
    """Give an open object; the bytes come in an answer of their own, which may be cut short."""

    def __init__(self, store: WiredStore, state: ObjectState, body: bytes) -> None:
        self.state = state
        self._store = store
        self._body = body

    async def read(self) -> bytes:
        async def rest() -> bytes:
            return self._body

        return await self._store.ask("read", self.state.key, rest)


class WiredStore(Wire):
    """Be the client of a bucket; see `tandem.stores.base.ObjectStore`."""

    def __init__(self, store: MemoryStore, network: Network, process: Process) -> None:
        super().__init__(store, store.site, network, process)
        self.site = store.site
        self.capabilities = store.capabilities

    @asynccontextmanager
    async def open(self, key: str, **named: Any) -> AsyncIterator[WiredReader | None]:
        async def fetch() -> tuple[ObjectState, bytes] | None:
            async with self.server.open(key, **named) as reader:
                return (reader.state, await reader.read()) if reader else None

        fetched = await self.ask("open", key, fetch)
        yield WiredReader(self, *fetched) if fetched else None

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Entry]:
        async def page() -> list[Entry]:
            return [entry async for entry in self.server.list(prefix, start_after)][:PAGE]

        while True:
            entries = await self.ask("list", prefix, page)
            for entry in entries:
                yield entry
            if len(entries) < PAGE:
                return
            start_after = entries[-1].key


class WiredDelivery:
    """Give one message; see `tandem.queues.base.Delivery`."""

    def __init__(self, delivery: MemoryDelivery, queue: WiredQueue) -> None:
        self.site, self.body = delivery.site, delivery.body
        self.attempt, self.received = delivery.attempt, delivery.received
        self.repeated = delivery.repeated
        self.message = delivery
        self._queue = queue

    async def done(self) -> None:
        self._queue.process.held.remove(self)
        await self._queue.ask("done", "", self.message.done)

    async def retry(self, delay: float) -> None:
        self._queue.process.held.remove(self)
        await self._queue.ask("retry", "", partial(self.message.retry, delay))

    async def working(self) -> None:
        await self._queue.ask("working", "", self.message.working)


class WiredQueue(Wire):
    """Be the client of the queue; see `tandem.queues.base.Queue`."""

    def __init__(self, queue: MemoryQueue, network: Network, process: Process) -> None:
        super().__init__(queue, QUEUE, network, process)
        self.lease = queue.lease

    async def receive(self) -> WiredDelivery:
        if not self.process.alive:
            raise asyncio.CancelledError
        delivery = WiredDelivery(await self.server.receive(), self)
        self.process.held.append(delivery)
        return delivery

    def outcomes(self) -> Any:
        """Listen; what is told while nobody listens goes unheard."""
        return self.server.outcomes()
