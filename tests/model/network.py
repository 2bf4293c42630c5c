"""What lies between a process and its servers: every request stops here until its fate is chosen.

A request is any call of a store or a queue. It names the point at which its process stands, so
whoever chooses fates also chooses the interleaving, and the points at which processes die.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tandem.errors import Missing, TandemError, Throttled, Transient
from tests.model.clock import VirtualLoop

# The longest, in seconds, that an abandoned request lives: less than the engine's SETTLE.
LIFE = 59.0
RETRY_AFTER = 2.0
# What changes no bucket.
QUEUEING = frozenset({"send", "fail", "drop"})

Perform = Callable[[], Coroutine[Any, Any, Any]]


class Fate(StrEnum):
    """Name what can become of a request."""

    ARRIVES = "arrives"
    # On its way for as long as it takes; its process waits.
    HELD = "held"
    # Answered 429, with Retry-After, and not carried out.
    THROTTLED = "throttled"
    # Answered 503, and not carried out.
    UNAVAILABLE = "unavailable"
    # No answer (a time-out, a reset), and never carried out.
    LOST = "lost"
    # Carried out, but the answer is lost, or cut off half-way.
    UNHEARD = "unheard"
    # No answer, and carried out later: see `Network.release`.
    LATE = "late"
    # Answered 404 as by a server that does not know the bucket.
    NO_BUCKET = "no bucket"
    # The process dies: before the request has left it, after it was carried out, or while this
    # and all else that it has sent is on its way.
    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    DIES_DURING = "dies during"


DEATHS = frozenset({Fate.DIES_BEFORE, Fate.DIES_AFTER, Fate.DIES_DURING})


_current: ContextVar[Process] = ContextVar("process")


@dataclass(eq=False)
class Process:
    """Own the tasks of one worker or command, so that all of it can die at once."""

    name: str
    loop: VirtualLoop
    alive: bool = True
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    # The deliveries that it has received and not settled.
    held: list[Any] = field(default_factory=list)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`; every task that it starts belongs to this process too."""
        token = _current.set(self)
        try:
            return self.loop.create_task(work)
        finally:
            _current.reset(token)

    def die(self) -> None:
        """End all tasks; what they do to clean up reaches nobody (see `Network.ask`)."""
        self.alive = False
        while self.tasks:
            for task in list(self.tasks):
                task.cancel()
            self.loop.run_for()


def own_tasks(loop: VirtualLoop) -> None:
    """Let each task of `loop` be known to the process that starts it."""

    def make(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **named: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **named)
        process = _current.get(None)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda task: process.tasks.pop(task, None))
        return task

    loop.set_task_factory(make)


@dataclass(eq=False)
class Request:
    """One call of `process` to `site` (a store or the queue), under way."""

    number: int
    process: Process
    site: str
    operation: str
    key: str
    mutates: bool
    perform: Perform
    answer: asyncio.Future[Any]
    settles: bool = False

    def __repr__(self) -> str:
        return f"#{self.number} {self.process.name}: {self.operation} {self.site}:{self.key}"


class Network:
    """Hold requests until they are told their fate.

    `serve` carries one out, at the server that it is for.
    """

    def __init__(self, loop: VirtualLoop, serve: Callable[[Request], Any]) -> None:
        self.loop = loop
        self.pending: list[Request] = []
        # Requests that are slow: nobody picks them until they are let go.
        self.held: list[Request] = []
        # Requests that nobody waits for any more, and that are still on their way, oldest first.
        self.abandoned: list[Request] = []
        self.carried_out = 0
        self.written = 0
        self._serve = serve
        self.asked = 0

    async def ask(
        self,
        process: Process,
        site: str,
        operation: str,
        key: str,
        perform: Perform,
        *,
        mutates: bool = False,
        settles: bool = False,
    ) -> Any:
        """Send a request and wait for its answer."""
        if not process.alive:
            raise asyncio.CancelledError
        self.asked += 1
        request = Request(
            self.asked,
            process,
            site,
            operation,
            key,
            mutates,
            perform,
            self.loop.create_future(),
            settles,
        )
        self.pending.append(request)
        try:
            return await request.answer
        except asyncio.CancelledError:
            # The connection is dropped; what was sent is sent.
            if self._withdraw(request) and process.alive and not settles:
                self._abandon(request)
            raise

    def decide(self, request: Request, fate: Fate) -> None:
        """Let `fate` come to a pending request; of those by which its process dies, see `sever`."""
        self.pending.remove(request)
        if request.settles and fate not in (Fate.ARRIVES, Fate.HELD):
            request.answer.set_result(None)  # settling is fire and forget, so it fails unseen
            return
        if fate is Fate.HELD:
            self.held.append(request)
        elif fate is Fate.ARRIVES:
            self._answer(request)
        elif fate is Fate.NO_BUCKET and request.operation == "head":
            request.answer.set_result(None)  # a HEAD's 404 has no body to say why
        else:
            if fate is Fate.UNHEARD:
                self._carry_out(request)
            elif fate is Fate.LATE:
                self._abandon(request)
            request.answer.set_exception(self._fault(request, fate))

    def release(self, request: Request) -> None:
        """Let a slow request arrive, or an abandoned one be carried out, now."""
        if request in self.held:
            self.held.remove(request)
            self._answer(request)
        elif request in self.abandoned:
            self.abandoned.remove(request)
            self._carry_out(request)

    def sever(self, process: Process, life: float = 0.0) -> None:
        """Let nobody wait for what a dying process has sent; it lives for `life` seconds more."""
        for request in [one for one in self.pending + self.held if one.process is process]:
            self._withdraw(request)
            if life > 0:
                self._abandon(request, life)

    def abandoned_by(self, process: Process) -> list[Request]:
        """Return what `process` has sent and may yet be carried out, though it does not wait."""
        return [request for request in self.abandoned if request.process is process]

    def _withdraw(self, request: Request) -> bool:
        """Take a request off the way; return whether it was on it."""
        for way in (self.pending, self.held):
            if request in way:
                way.remove(request)
                return True
        return False

    def _abandon(self, request: Request, life: float = LIFE) -> None:
        if request.mutates:
            self.abandoned.append(request)
            # Tasks that are cancelled together let go in no order that can be relied on.
            self.abandoned.sort(key=lambda one: one.number)
            self.loop.call_later(life, self.release, request)

    def _answer(self, request: Request) -> None:
        try:
            request.answer.set_result(self._carry_out(request, heard=True))
        except TandemError as error:
            request.answer.set_exception(error)

    def _carry_out(self, request: Request, *, heard: bool = False) -> Any:
        self.carried_out += 1
        self.written += request.mutates and request.operation not in QUEUEING
        try:
            return self._serve(request)
        except TandemError:
            if heard:
                raise
            return None

    def _fault(self, request: Request, fate: Fate) -> TandemError:
        match fate:
            case Fate.THROTTLED:
                return Throttled(f"{request}: SlowDown", retry_after=RETRY_AFTER)
            case Fate.UNAVAILABLE:
                return Transient(f"{request}: 503")
            case Fate.NO_BUCKET:
                return Missing(f"{request}: NoSuchBucket")
        return Transient(f"{request}: no answer", unresolved=request.mutates)
