"""The worker's loop: receive, decode, converge, settle.

A worker has a number of slots; each handles one message at a time. Retries hold a place in the
queue, never a slot. A message is settled only after its outcome is known, so that whatever
kills the worker, the message comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from weakref import WeakValueDictionary

from tandem.attempt import BUG_ATTEMPTS, Attempt
from tandem.backoff import backoff, delay_after
from tandem.change import Change, decode
from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import Poison, TandemError
from tandem.late_look import in_doubt, late_look, put_off, time_left
from tandem.lease import held
from tandem.metrics import Metrics
from tandem.outcome import Outcome
from tandem.patience import Patience
from tandem.places import Places
from tandem.queues.base import Delivery, Failure, Queue
from tandem.recent import Recent
from tandem.rule import Rule
from tandem.settings import Site
from tandem.sharing import SharedReading

logger = logging.getLogger(__name__)

# How many repeated messages are looked into before others have their turn.
REPEATS_AT_ONCE = 4
# How long a stopping worker lets its slots finish, in seconds.
GRACE_SECONDS = 8.0
# Of so many sites none has another target beside it, that it could hold back.
PAIR = 2


class Late(Enum):
    """Say that all is done for now, and that another look is wanted when it is time."""

    LOOK = auto()


@dataclass(frozen=True, slots=True)
class Again:
    """Say that work must come again after so many seconds, and if a write may still happen."""

    delay: float
    unresolved: bool = True


# How work on one key at one target ends: finished, to come again, failed for good, or finished
# but for a late look.
Ending = Again | TandemError | Late | None
# What a message asks for: a rule, a target of it, and the change.
Part = tuple[Rule, str, Change]
_Shared = SharedReading | None


@dataclass(eq=False)
class Turn:
    """Keep the order of those who work on one key at one target.

    `begun` counts convergences, `finished` is the number of the last one that came to an end.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    finished: int = 0


class Worker:
    """Share the work of a queue, with as many messages in hand as there are slots."""

    def __init__(
        self,
        queue: Queue,
        engine: Engine,
        sites: Mapping[str, Site],
        metrics: Metrics,
        slots: int = 128,
        name: str = "",
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._sites = sites
        self._metrics = metrics
        self._slots = slots
        # By it a worker knows what it has told itself.
        self._name = name or secrets.token_hex(4)
        self._stopping = asyncio.Event()
        self._recent = Recent(name for name, site in sites.items() if site.dialect == "aws")
        self._patience = Patience(queue, engine)
        # A turn lives for as long as somebody is in it or waits for it.
        self._turns: WeakValueDictionary[tuple[str, str, str], Turn] = WeakValueDictionary()
        self._gate = asyncio.Semaphore(REPEATS_AT_ONCE)
        self._places = Places(slots if len(sites) <= PAIR else max(1, slots // 2))
        # Slots that wait for a message, and have nothing to finish.
        self._waiting: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Ask the worker to finish what it has in hand and take no more."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`; what is not finished within the grace after it is handed back."""
        slots = {asyncio.create_task(self._slot()) for _ in range(self._slots)}
        listening = asyncio.create_task(self._listen())
        await self._stopping.wait()
        for slot in self._waiting:
            slot.cancel()
        _, unfinished = await asyncio.wait(slots, timeout=GRACE_SECONDS)
        for slot in unfinished:
            slot.cancel()
        listening.cancel()
        await asyncio.gather(listening, *slots, return_exceptions=True)

    async def _listen(self) -> None:
        """Learn from the other workers what they have handled."""
        async with self._queue.outcomes() as told:
            async for attempt in told:
                outcome = attempt.outcome
                if outcome is None or attempt.worker == self._name:
                    continue
                if outcome.settled:
                    self._recent.note(attempt.rule, attempt.target, attempt.change)
                if outcome.decision.action is Action.DELETE:
                    self._engine.deletes.note(attempt.rule, attempt.target)

    async def _slot(self) -> None:
        slot = asyncio.current_task()
        while slot and not self._stopping.is_set():
            self._waiting.add(slot)
            try:
                delivery = await self._queue.receive()
            except Exception as error:  # noqa: BLE001 -- a slot outlives whatever the queue does
                logger.warning("the queue gives nothing: %r", error)
                await asyncio.sleep(backoff(1))
                continue
            finally:
                self._waiting.discard(slot)
            await self._handle(delivery)

    async def _handle(self, delivery: Delivery) -> None:
        """Work on one message and settle it, whatever happens."""
        try:
            with held(delivery, self._queue.lease):
                delay = await self._work(delivery)
        except asyncio.CancelledError:
            await delivery.retry(0)
            raise
        except Exception as error:  # noqa: BLE001 -- a slot outlives whatever a message does
            delay = await self._mishap(delivery, error)
            if delay is not None:
                self._metrics.retried()
        if delay is None:
            await delivery.done()
        else:
            await delivery.retry(delay)

    async def _mishap(self, delivery: Delivery, error: Exception) -> float | None:
        """Return a delay as `_work` does, where that has failed itself."""
        if isinstance(error, TandemError):
            # The queue took no failure from us: the whole message comes again.
            logger.warning("%s", error)
            return backoff(delivery.attempt)
        logger.error("a message of %s could not be handled", delivery.site, exc_info=error)
        if delivery.attempt >= BUG_ATTEMPTS:
            with contextlib.suppress(TandemError):
                await self._give_up(delivery, _poison(error))
                return None
        return backoff(delivery.attempt)

    async def _work(self, delivery: Delivery) -> float | None:
        """Return after how many seconds the message must come again, None if it is finished."""
        if delivery.repeated:
            # They come by the hundred, and most need nothing: let what is new pass between them.
            async with self._gate:
                await asyncio.sleep(0)
        try:
            changes = decode(delivery.body, self._sites[delivery.site])
        except (Poison, KeyError) as error:
            unknown = Poison(f"no site is called {error}") if isinstance(error, KeyError) else error
            await self._give_up(delivery, unknown)
            return None
        if (left := time_left(changes, datetime.now(UTC))) > 0:
            return left
        parts = [
            (rule, target, change)
            for change in changes
            for rule, target in self._engine.routes(change)
        ]
        if len(parts) == 1:  # nearly always, and then a task of its own would only cost time
            endings = [await self._in_turn(delivery, parts[0], None)]
        else:
            # Several changes are of several keys, and have nothing to share.
            shared = SharedReading() if len(changes) == 1 else None
            work = (self._in_turn(delivery, part, shared) for part in parts)
            endings = await asyncio.gather(*work)
        return await self._settle(delivery, list(zip(parts, endings, strict=True)))

    async def _settle(
        self, delivery: Delivery, endings: Sequence[tuple[Part, Ending]]
    ) -> float | None:
        """Record what failed for good, send for late looks; return a delay as `_work` does."""
        now, delay = datetime.now(UTC), 0.0
        again, later = [], []
        for (rule, target, change), ending in endings:
            narrowed = replace(change, rule=rule.name, target=target)
            if isinstance(ending, TandemError):
                await self._give_up(delivery, ending, narrowed)
                continue
            if isinstance(ending, Again):
                again.append(narrowed)
                delay = max(delay, ending.delay)
            unresolved = ending.unresolved if isinstance(ending, Again) else ending is Late.LOOK
            if unresolved or in_doubt(change, delivery.attempt):
                later.append(late_look(narrowed, now))
        if again and len(again) == len(endings):
            # What comes again as a whole is followed by late looks once it has succeeded.
            self._metrics.retried()
            return delay
        # Only the rest comes again: nothing is written, and no failure recorded, twice.
        later += [put_off(change, now, delay) for change in again]
        if later:
            await self._queue.send(*later)
        return None

    async def _in_turn(self, delivery: Delivery, part: Part, shared: _Shared) -> Ending:
        """Converge a key at a target once at a time.

        Whoever had to wait is spared the work if another look began after it came.
        """
        rule, target, change = part
        turn = self._turns.setdefault((rule.name, target, change.key), Turn())
        begun_before = turn.begun
        async with turn.lock:
            # What comes again comes for a reason, such as a write that may have landed late.
            told_twice = delivery.attempt == 1 and self._recent.holds(rule.name, target, change)
            if turn.finished > begun_before or told_twice:
                return None
            turn.begun += 1
            ending = await self._attempt(delivery, part, shared)
            if ending is None:
                turn.finished = turn.begun
            return ending

    async def _attempt(self, delivery: Delivery, part: Part, shared: _Shared) -> Ending:
        """Converge a key at a target, and tell how it ended."""
        rule, target, change = part
        try:
            async with self._places.at(target):
                outcome = await self._engine.converge(rule, target, change, shared=shared)
            if outcome.held:
                await self._patience.mind(rule, target, outcome, delivery.attempt)
        except TandemError as error:
            await self._tell(delivery, part, error)
            if not error.retryable:
                return error
            logger.info("%s to %s, attempt %d: %s", rule.name, target, delivery.attempt, error)
            self._metrics.failed(rule.name, target, error.error_class, final=False)
            return Again(delay_after(error, delivery.attempt), error.unresolved)
        except Exception as error:
            # A mistake of ours: loud, tried a few times, and never lost.
            logger.exception("%s to %s failed on %r", rule.name, target, change.key)
            await self._tell(delivery, part, _poison(error))
            if delivery.attempt < BUG_ATTEMPTS:
                return Again(backoff(delivery.attempt))
            return _poison(error)
        self._metrics.converged(outcome)
        if outcome.settled:
            self._recent.note(rule.name, target, change)
        await self._tell(delivery, part, outcome)
        if outcome.held:
            return Again(backoff(delivery.attempt), unresolved=outcome.recheck is not None)
        return None if outcome.settled else Late.LOOK

    async def _tell(self, delivery: Delivery, part: Part, ending: Outcome | TandemError) -> None:
        """Let other workers and `tandem why` know how an attempt ended, be it the last or not."""
        rule, target, change = part
        await self._queue.publish_outcome(
            Attempt.of(self._name, rule.name, target, change, delivery.attempt, ending)
        )

    async def _give_up(
        self, delivery: Delivery, error: TandemError, change: Change | None = None
    ) -> None:
        """Put what a retry cannot mend where it is seen.

        Raises a TandemError if that cannot be done.
        """
        rule, target = (change and change.rule) or "", (change and change.target) or ""
        await self._queue.fail(
            Failure(
                id="",
                error_class=error.error_class,
                rule=rule,
                target=target,
                change=change,
                message=str(error),
                attempts=delivery.attempt,
                since=delivery.received,
                at=datetime.now(UTC),
                raw="" if change else delivery.body.decode(errors="replace"),
            )
        )
        logger.error("%s: %s", error.error_class, error)
        self._metrics.failed(rule, target, error.error_class, final=True)


def _poison(error: Exception) -> Poison:
    return Poison(f"{type(error).__name__}: {error}")
