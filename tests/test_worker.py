"""The worker: every way in which a message can end, on a queue in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tandem import backoff as delays
from tandem import places
from tandem import worker as worker_module
from tandem.attempt import Attempt
from tandem.backoff import FIRST_DELAY, LONGEST_DELAY, backoff
from tandem.change import Change, decode, encode, native
from tandem.decision import Action, Decision
from tandem.errors import (
    Conflict,
    Denied,
    ErrorClass,
    Invalid,
    Missing,
    Poison,
    TandemError,
    Throttled,
    Transient,
    Unfinished,
)
from tandem.late_look import SETTLE
from tandem.metrics import NoMetrics
from tandem.outcome import Outcome
from tandem.queues.base import Failure
from tandem.queues.memory import MemoryDelivery, MemoryQueue
from tandem.recent import Recent
from tandem.rule import Rule
from tandem.settings import Site
from tandem.worker import Worker

EVENTS = Path(__file__).parent / "events"
ONE = Rule("one", "left", ("right",))
TWO = Rule("two", "left", ("right", "far"))
SITES = {name: Site(name, "plain", "http://127.0.0.1:9", "u", "p") for name in ("left", "right")}
THREE = {**SITES, "far": replace(SITES["left"], name="far")}

Answer = Callable[[str], Awaitable[float | None]]


class FakeEngine:
    """Answer as the test says: return a recheck or None, or raise."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules or (ONE,)
        self.calls: list[tuple[str, str, str]] = []
        self.at_once = self.most_at_once = 0
        self.answer: Answer = raising(None)

    def routes(self, change: Change) -> tuple[tuple[Rule, str], ...]:
        return tuple(
            (rule, target)
            for rule in self.rules
            if rule.source == change.site and change.rule in (None, rule.name)
            for target in rule.targets
            if change.target in (None, target)
        )

    async def converge(self, rule: Rule, target: str, change: Change, **_: object) -> Outcome:
        self.calls.append((rule.name, target, change.key))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            recheck = await self.answer(target)
        finally:
            self.at_once -= 1
        decision = Decision(Action.COPY, "not at the target")
        return Outcome(
            rule=rule.name,
            source="left",
            target=target,
            key=change.key,
            decision=decision,
            size=1,
            seconds=0.1,
            lag=0.2,
            rounds=1,
            recheck=recheck,
            at=datetime.now(UTC),
        )


class Tally(NoMetrics):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.failures: list[tuple[str, str, ErrorClass, bool]] = []
        self.retries = 0

    def converged(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def failed(self, rule: str, target: str, error_class: ErrorClass, *, final: bool) -> None:
        self.failures.append((rule, target, error_class, final))

    def retried(self) -> None:
        self.retries += 1


def is_ours(message: MemoryDelivery) -> bool:
    return message.body.startswith(b'{"tandem"')


class Bench:
    """A worker at work, its queue, engine and figures."""

    def __init__(
        self,
        *rules: Rule,
        queue: MemoryQueue | None = None,
        slots: int = 4,
        sites: Mapping[str, Site] = SITES,
    ) -> None:
        self.queue = queue or MemoryQueue(lease=1.0)
        self.engine: Any = FakeEngine(*rules)
        self.tally = Tally()
        self.worker = Worker(self.queue, self.engine, sites, self.tally, slots)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.worker.run())
        try:
            yield
        finally:
            self.worker.stop()
            await running

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 -- what is waited for has no event
                await asyncio.sleep(0.005)

    async def empty(self) -> None:
        """Wait until nothing is queued or in hand, but for late looks."""
        await self.until(lambda: len(self.queue._messages) == len(self.late()))

    def late(self) -> list[Change]:
        """Return the late looks that are queued."""
        soon = datetime.now(UTC) + timedelta(seconds=SETTLE / 2)
        waiting = [native(message.body) for message in self.queue._messages if is_ours(message)]
        return [change for change in waiting if change.due and change.due > soon]

    async def failures(self) -> list[Failure]:
        return [failure async for failure in self.queue.failures()]


def raising(*errors: Exception | None) -> Answer:
    """Answer with each error in turn, and then with the last one for ever; None is fine."""
    left = list(errors)

    async def answer(_: str) -> float | None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error
        return None

    return answer


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "FIRST_DELAY", 0.01)


async def test_a_change_is_converged_told_counted_and_done():
    bench = Bench()
    change = Change("left", "k", event="e")
    async with bench.queue.outcomes() as heard, bench.working():
        await bench.queue.send(change)
        await bench.empty()
        told = await anext(heard)
    assert bench.engine.calls == [("one", "right", "k")]
    assert (told.rule, told.target, told.change, told.number) == ("one", "right", change, 1)
    assert told.outcome
    assert told.outcome.decision.action is Action.COPY
    assert [outcome.key for outcome in bench.tally.outcomes] == ["k"]
    assert bench.tally.retries == 0


async def test_every_rule_and_target_is_served():
    bench = Bench(ONE, TWO)
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    assert sorted(bench.engine.calls) == [
        ("one", "right", "k"),
        ("two", "far", "k"),
        ("two", "right", "k"),
    ]


async def test_a_notification_that_concerns_no_rule_is_done():
    bench = Bench()
    async with bench.working():
        bench.queue.put("right", encode(Change("right", "k")))
        await bench.empty()
    assert bench.engine.calls == []


@pytest.mark.parametrize("error", [Transient("reset"), Throttled("slow"), Conflict("moved")])
async def test_what_may_pass_is_tried_again_until_it_has_passed(error: TandemError):
    bench = Bench()
    bench.engine.answer = raising(error, error, None)
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    assert len(bench.engine.calls) == 3
    assert bench.tally.retries == 2
    assert bench.tally.failures == [("one", "right", error.error_class, False)] * 2
    assert await bench.failures() == []


@pytest.mark.parametrize("error", [Throttled, Conflict])
async def test_patience_that_is_asked_for_is_granted(error: type[Throttled | Conflict]):
    bench = Bench()
    bench.engine.answer = raising(error("slow", retry_after=0.6), None)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    assert loop.time() - started > 0.55


async def test_what_comes_again_is_looked_at_once_more_when_what_was_given_up_must_be_over():
    bench = Bench()
    bench.engine.answer = raising(Transient("time-out", unresolved=True), None)
    async with bench.working():
        await bench.queue.send(Change("left", "k", event="e"))
        await bench.empty()
    assert len(bench.engine.calls) == 2
    (late,) = bench.late()
    assert late == Change("left", "k", rule="one", target="right", due=late.due)


async def test_a_late_look_waits_until_it_is_time_and_is_not_followed_by_another():
    bench = Bench()
    due = datetime.now(UTC) + timedelta(seconds=0.6)
    async with bench.working():
        await bench.queue.send(Change("left", "k", rule="one", target="right", due=due))
        await asyncio.sleep(0.1)
        assert bench.engine.calls == []
        await bench.empty()
    assert datetime.now(UTC) > due
    assert bench.engine.calls == [("one", "right", "k")]
    assert bench.late() == []
    assert bench.tally.retries == 0


async def test_a_late_look_that_cannot_be_sent_for_keeps_the_message():
    class Refusing(MemoryQueue):
        refusals = 1

        async def send(self, *changes: Change) -> None:
            if self.refusals:
                self.refusals -= 1
                raise Transient("the queue takes nothing")
            await super().send(*changes)

    bench = Bench(queue=Refusing(lease=1.0))
    rechecks: list[float | None] = [SETTLE, None]

    async def answer(_: str) -> float | None:
        return rechecks.pop(0)

    bench.engine.answer = answer
    async with bench.working():
        bench.queue.put("left", encode(Change("left", "k")))
        await bench.empty()
    assert len(bench.engine.calls) == 2
    assert len(bench.late()) == 1


@pytest.mark.parametrize(("sent", "pause"), [(5, 0.0), (0, 0.6)], ids=["some sent", "none sent"])
async def test_what_was_stopped_before_a_deadline_goes_on_at_once_if_it_got_on(
    monkeypatch: pytest.MonkeyPatch, sent: int, pause: float
):
    monkeypatch.setattr(delays, "backoff", lambda _: 0.6)
    bench = Bench()
    bench.engine.answer = raising(Unfinished("stopped", sent=sent, done=5, size=9), None)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    assert pause <= loop.time() - started < pause + 0.5
    assert len(bench.engine.calls) == 2
    assert await bench.failures() == []


async def test_an_outcome_that_wants_another_look_gets_it():
    bench = Bench()

    async def answer(_: str) -> float | None:
        return SETTLE

    bench.engine.answer = answer
    async with bench.working():
        await bench.queue.send(Change("left", "k", event="e"))
        await bench.empty()
    assert len(bench.engine.calls) == 1
    assert [change.key for change in bench.late()] == ["k"]


@pytest.mark.parametrize(
    "error", [Denied("no"), Missing("no bucket"), Invalid("too long"), Poison("what")]
)
async def test_what_no_retry_can_mend_goes_to_the_error_stream_at_once(error: TandemError):
    bench = Bench()
    bench.engine.answer = raising(error)
    async with bench.working():
        await bench.queue.send(Change("left", "k", etag="e"))
        await bench.empty()
    (failure,) = await bench.failures()
    assert failure.error_class is error.error_class
    assert (failure.rule, failure.target, failure.message) == ("one", "right", str(error))
    assert failure.change == Change("left", "k", etag="e", rule="one", target="right")
    assert (failure.attempts, failure.raw) == (1, "")
    assert failure.since <= failure.at
    assert bench.tally.failures == [("one", "right", error.error_class, True)]


async def test_one_target_that_fails_for_good_does_not_hold_up_the_others():
    bench = Bench(TWO)

    async def answer(target: str) -> float | None:
        if target == "far":
            raise Denied("no")
        return None

    bench.engine.answer = answer
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    assert [(outcome.rule, outcome.target) for outcome in bench.tally.outcomes] == [
        ("two", "right")
    ]
    assert [failure.target for failure in await bench.failures()] == ["far"]


async def test_a_failure_is_recorded_once_though_another_target_is_tried_again_and_again():
    bench = Bench(TWO)
    left = 3

    async def answer(target: str) -> float | None:
        nonlocal left
        if target == "far":
            raise Denied("no")
        left -= 1
        if left:
            raise Transient("reset")
        return None

    bench.engine.answer = answer
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    assert len(await bench.failures()) == 1
    assert [target for _, target, _ in bench.engine.calls] == ["right", "far", "right", "right"]


async def test_what_cannot_be_understood_is_kept_as_it_came():
    bench = Bench()
    async with bench.working():
        bench.queue.put("left", b"\xff{")
        bench.queue.put("nowhere", encode(Change("nowhere", "k")))
        await bench.empty()
    garbled, homeless = await bench.failures()
    assert (garbled.error_class, garbled.change, garbled.raw) == (
        ErrorClass.POISON,
        None,
        "\ufffd{",
    )
    assert homeless.message == "no site is called 'nowhere'"


async def test_a_mistake_of_ours_is_logged_tried_five_times_and_kept(
    caplog: pytest.LogCaptureFixture,
):
    bench = Bench()
    bench.engine.answer = raising(ZeroDivisionError("division by zero"))
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    (failure,) = await bench.failures()
    assert failure.error_class is ErrorClass.POISON
    assert failure.message == "ZeroDivisionError: division by zero"
    assert failure.change == Change("left", "k", rule="one", target="right")
    assert len(bench.engine.calls) == failure.attempts == 5
    assert "Traceback" in caplog.text


async def test_a_mistake_anywhere_costs_neither_the_message_nor_the_slot():
    bench = Bench(slots=1)

    def broken(change: Change) -> tuple[tuple[Rule, str], ...]:
        if change.key == "bad":
            raise RuntimeError("routes")
        return ((ONE, "right"),)

    bench.engine.routes = broken
    async with bench.working():
        await bench.queue.send(Change("left", "bad"), Change("left", "good"))
        await bench.empty()
    assert bench.engine.calls == [("one", "right", "good")]
    (failure,) = await bench.failures()
    assert failure.message == "RuntimeError: routes"
    assert decode(failure.raw.encode(), SITES["left"]) == (Change("left", "bad"),)


class Forgetful(MemoryQueue):
    """A queue whose first answers are errors."""

    def __init__(self) -> None:
        super().__init__(lease=1.0)
        self.refusals: list[Exception] = []
        self.troubles: list[Exception] = []

    async def fail(self, failure: Failure) -> None:
        if self.refusals:
            raise self.refusals.pop()
        await super().fail(failure)

    async def receive(self) -> Any:
        if self.troubles:
            raise self.troubles.pop()
        return await super().receive()


async def test_a_failure_that_could_not_be_recorded_comes_again_until_it_is():
    queue = Forgetful()
    queue.refusals = [Transient("away"), Transient("away")]
    bench = Bench(queue=queue)
    bench.engine.answer = raising(Denied("no"))
    async with bench.working():
        await queue.send(Change("left", "k"))
        await bench.empty()
    (failure,) = await bench.failures()
    assert failure.attempts == 3


async def test_a_queue_in_trouble_does_not_end_a_slot():
    queue = Forgetful()
    queue.troubles = [Transient("away"), RuntimeError("worse")]
    bench = Bench(queue=queue, slots=1)
    async with bench.working():
        await queue.send(Change("left", "k"))
        await bench.empty()
    assert len(bench.engine.calls) == 1


async def test_long_work_keeps_its_message():
    queue = MemoryQueue(lease=0.15)
    bench = Bench(queue=queue)

    async def answer(_: str) -> float | None:
        await asyncio.sleep(0.6)
        return None

    bench.engine.answer = answer
    async with bench.working():
        await queue.send(Change("left", "k"))
        await bench.empty()
    assert len(bench.engine.calls) == 1


async def test_as_many_are_worked_on_at_once_as_there_are_slots():
    bench = Bench(slots=3)

    async def answer(_: str) -> float | None:
        await asyncio.sleep(0.02)
        return None

    bench.engine.answer = answer
    async with bench.working():
        await bench.queue.send(*(Change("left", str(n)) for n in range(12)))
        await bench.empty()
    assert bench.engine.most_at_once == 3


async def held_open(bench: Bench) -> asyncio.Event:
    """Make every convergence wait for an event, and return it."""
    door = asyncio.Event()

    async def answer(_: str) -> float | None:
        await door.wait()
        return None

    bench.engine.answer = answer
    return door


async def test_a_change_that_comes_while_its_key_is_worked_on_gets_a_look_of_its_own():
    bench = Bench()
    door = await held_open(bench)
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.until(lambda: len(bench.engine.calls) == 1)
        await bench.queue.send(Change("left", "k"))
        await asyncio.sleep(0.05)
        door.set()
        await bench.empty()
    assert len(bench.engine.calls) == 2
    assert bench.engine.most_at_once == 1


async def test_several_changes_that_come_meanwhile_share_one_look():
    bench = Bench(slots=8)
    door = await held_open(bench)
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.until(lambda: len(bench.engine.calls) == 1)
        await bench.queue.send(*(Change("left", "k") for _ in range(6)))
        await asyncio.sleep(0.05)
        door.set()
        await bench.empty()
    assert len(bench.engine.calls) == 2


async def test_a_look_that_failed_spares_nobody_a_look():
    bench = Bench(slots=8)
    door = asyncio.Event()
    failing = raising(None, Transient("reset"), Transient("reset"), None)

    async def answer(target: str) -> float | None:
        await door.wait()
        return await failing(target)

    bench.engine.answer = answer
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.until(lambda: len(bench.engine.calls) == 1)
        await bench.queue.send(*(Change("left", "k") for _ in range(3)))
        await asyncio.sleep(0.05)
        door.set()
        await bench.empty()
    assert len(bench.engine.calls) >= 4


async def test_different_keys_and_targets_do_not_wait_for_each_other():
    bench = Bench(TWO)
    door = await held_open(bench)
    async with bench.working():
        await bench.queue.send(Change("left", "a"), Change("left", "b"))
        await bench.until(lambda: len(bench.engine.calls) == 4)
        door.set()
        await bench.empty()


async def test_the_same_event_told_twice_is_handled_once():
    bench = Bench()
    told = (EVENTS / "minio-put.json").read_bytes()
    async with bench.working():
        for _ in range(2):
            bench.queue.put("left", told)
            await bench.empty()
    assert bench.engine.calls == [("one", "right", "put.txt")]


async def test_tagging_is_handled_though_minio_gives_it_the_puts_sequencer():
    bench = Bench()
    async with bench.working():
        for name in ("put", "tagging", "untagging"):
            bench.queue.put("left", (EVENTS / f"minio-{name}.json").read_bytes())
            await bench.empty()
    assert len(bench.engine.calls) == 3


async def test_old_news_from_aws_costs_no_look_unless_it_comes_again():
    bench = Bench()
    site = replace(SITES["left"], dialect="aws")
    bench.worker = Worker(bench.queue, bench.engine, {"left": site}, bench.tally, 4)
    newer, older = (Change("left", "k", sequencer=told, event=told) for told in ("0A5", "0A1"))
    async with bench.working():
        await bench.queue.send(newer)
        await bench.empty()
        await bench.queue.send(older)
        await bench.empty()
        assert len(bench.engine.calls) == 1
        bench.queue.put("left", encode(older))
        bench.queue._messages[-1].attempt = 1
        await bench.empty()
    assert len(bench.engine.calls) == 2


async def test_an_event_that_another_worker_handled_is_not_handled_again():
    bench = Bench()
    told = (EVENTS / "minio-put.json").read_bytes()
    (change,) = decode(told, SITES["left"])
    elsewhere = await FakeEngine().converge(ONE, "right", change)
    async with bench.working():
        await asyncio.sleep(0.05)
        await bench.queue.publish_outcome(
            Attempt("another", "one", "right", change, 1, elsewhere.at, elsewhere)
        )
        await asyncio.sleep(0.05)
        bench.queue.put("left", told)
        await bench.empty()
    assert bench.engine.calls == []


async def test_what_a_worker_tells_it_does_not_note_again(monkeypatch: pytest.MonkeyPatch):
    noted: list[Change] = []
    monkeypatch.setattr(Recent, "note", lambda *told: noted.append(told[-1]))
    bench = Bench()
    change = Change("left", "k", event="e")
    async with bench.queue.outcomes() as heard, bench.working():
        await bench.queue.send(change)
        await bench.empty()
        told = await anext(heard)
        await asyncio.sleep(0.02)
        assert noted == [change]
        await bench.queue.publish_outcome(replace(told, worker="another"))
        await bench.until(lambda: len(noted) == 2)


async def test_attempts_that_fail_are_remembered_with_their_number_until_one_succeeds():
    bench = Bench()
    bench.engine.answer = raising(Transient("reset"), ZeroDivisionError("oops"), Denied("no"))
    async with bench.working():
        await bench.queue.send(Change("left", "k"))
        await bench.empty()
    found = await bench.queue.history("k")
    assert [(one.number, one.error_class, one.message) for one in found] == [
        (1, ErrorClass.TRANSIENT, "reset"),
        (2, ErrorClass.POISON, "ZeroDivisionError: oops"),
        (3, ErrorClass.DENIED, "no"),
    ]


async def test_a_redrive_is_never_taken_for_handled():
    bench = Bench()
    change = Change("left", "k", event="e")
    async with bench.working():
        await bench.queue.send(change)
        await bench.empty()
        await bench.queue.send(replace(change, rule="one", target="right"))
        await bench.empty()
    assert len(bench.engine.calls) == 2


def test_only_the_events_handled_last_are_remembered():
    recent = Recent(size=2)
    for event in ("a", "b", "c", None):
        recent.note("one", "right", Change("left", "k", event=event))
    held = [recent.holds("one", "right", Change("left", "k", event=name)) for name in "abc"]
    assert held == [False, True, True]
    assert not recent.holds("one", "far", Change("left", "k", event="c"))
    assert not recent.holds("one", "right", Change("left", "k"))


async def test_stopping_lets_what_is_in_hand_finish():
    bench = Bench()
    door = await held_open(bench)
    running = asyncio.create_task(bench.worker.run())
    await bench.queue.send(Change("left", "k"))
    await bench.until(lambda: len(bench.engine.calls) == 1)
    bench.worker.stop()
    await asyncio.sleep(0.05)
    await bench.queue.send(Change("left", "later"))
    door.set()
    async with asyncio.timeout(5):
        await running
    assert (await bench.queue.backlog()).count == {"left": 1}
    assert [key for _, _, key in bench.engine.calls] == ["k"]


async def test_stopping_hands_back_what_does_not_finish_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_module, "GRACE_SECONDS", 0.2)
    bench = Bench()
    await held_open(bench)
    running = asyncio.create_task(bench.worker.run())
    await bench.queue.send(Change("left", "k"))
    await bench.until(lambda: len(bench.engine.calls) == 1)
    bench.worker.stop()
    async with asyncio.timeout(5):
        await running
        assert (await bench.queue.receive()).attempt == 2
    assert bench.engine.at_once == 0


def test_backoff_grows_to_its_cap_with_jitter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delays, "FIRST_DELAY", FIRST_DELAY)
    for attempt in (1, 2, 5, 7, 40, 10**6):
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt - 1, 30))
        drawn = [backoff(attempt) for _ in range(200)]
        assert max(drawn) <= ceiling
        assert max(drawn) > ceiling / 2 > min(drawn) > 0


async def test_a_target_that_does_not_answer_leaves_slots_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(places, "PATIENCE", 0.1)
    bench = Bench(ONE, Rule("other", "left", ("far",)), slots=8, sites=THREE)
    answered = asyncio.Event()

    async def answer(target: str) -> None:
        if target == "right":
            await answered.wait()

    bench.engine.answer = answer
    for number in range(50):
        bench.queue.put("left", encode(Change("left", f"key-{number}", rule="one")))
        bench.queue.put("left", encode(Change("left", f"key-{number}", rule="other")))
    async with bench.working():
        await bench.until(lambda: len(bench.tally.outcomes) == 50)
        assert {outcome.target for outcome in bench.tally.outcomes} == {"far"}
        assert bench.engine.at_once == 4
        answered.set()
        await bench.empty()
    assert len(bench.tally.outcomes) == 100
    assert bench.tally.failures
    assert set(bench.tally.failures) == {("one", "right", ErrorClass.TRANSIENT, False)}


async def test_a_target_that_answers_is_waited_for_however_many_its_changes_are():
    bench = Bench(ONE, Rule("other", "left", ("far",)), slots=8, sites=THREE)
    bench.engine.answer = raising(None)
    for number in range(100):
        bench.queue.put("left", encode(Change("left", f"key-{number}", rule="one")))
    async with bench.working():
        await bench.empty()
    assert len(bench.tally.outcomes) == 100
    assert not bench.tally.failures


async def test_what_is_new_passes_between_events_that_come_again():
    bench = Bench(slots=250)
    for number in range(200):
        bench.queue.put("left", encode(Change("left", f"again-{number}")), repeated=True)
    bench.queue.put("left", encode(Change("left", "new")))
    async with bench.working():
        await bench.empty()
    keys = [key for _, _, key in bench.engine.calls]
    assert len(keys) == 201
    assert keys.index("new") < 50
