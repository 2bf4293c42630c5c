"""What every queue promises."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tandem.attempt import Attempt
from tandem.change import Change, native
from tandem.decision import Action, Decision
from tandem.errors import ErrorClass
from tandem.outcome import Outcome
from tandem.queues.base import Delivery, Failure, Queue
from tandem.settings import HISTORY

SOON = 5.0


async def receive(queue: Queue, patience: float = SOON) -> Delivery:
    async with asyncio.timeout(patience):
        return await queue.receive()


async def nothing_comes(queue: Queue, seconds: float) -> bool:
    try:
        delivery = await receive(queue, seconds)
    except TimeoutError:
        return True
    await delivery.retry(0)
    return False


def failure(
    message: str, error_class: ErrorClass = ErrorClass.DENIED, rule: str = "all"
) -> Failure:
    at = datetime.now(UTC)
    change = Change("left", f"{message}/k\u00e9y", rule=rule, target="right", time=at)
    return Failure("", error_class, rule, "right", change, message, 3, at - timedelta(1), at)


async def test_what_is_sent_arrives_with_its_site_its_time_and_its_first_attempt(queue: Queue):
    before = datetime.now(UTC) - timedelta(seconds=1)
    change = Change("left", "a+b c/%3A/\u00e9", etag="e", size=3)
    await queue.send(change)
    delivery = await receive(queue)
    assert (delivery.site, delivery.attempt) == ("left", 1)
    assert before < delivery.received < datetime.now(UTC) + timedelta(seconds=1)
    assert delivery.received.tzinfo is not None
    assert native(delivery.body) == change


async def test_what_is_done_never_comes_again(queue: Queue):
    await queue.send(Change("left", "k"))
    await (await receive(queue)).done()
    assert await nothing_comes(queue, 1.5)
    assert (await queue.backlog()).count == {}


async def test_what_is_not_settled_comes_again_when_its_lease_is_over(queue: Queue):
    await queue.send(Change("left", "k"))
    await receive(queue)
    started = time.monotonic()
    again = await receive(queue)
    assert again.attempt == 2
    assert 0.7 < time.monotonic() - started < 3


async def test_a_sign_of_work_holds_the_lease(queue: Queue):
    await queue.send(Change("left", "k"))
    delivery = await receive(queue)
    for _ in range(5):
        assert await nothing_comes(queue, 0.4)
        await delivery.working()
    await delivery.done()


async def test_a_retry_comes_after_its_delay_and_no_sooner(queue: Queue):
    await queue.send(Change("left", "k"))
    started = time.monotonic()
    await (await receive(queue)).retry(0.5)
    assert (await receive(queue)).attempt == 2
    assert 0.45 < time.monotonic() - started < 2


async def test_a_retry_without_delay_comes_at_once(queue: Queue):
    await queue.send(Change("left", "k"))
    await (await receive(queue)).retry(0)
    assert (await receive(queue, 0.5)).attempt == 2


async def test_each_of_several_callers_gets_a_message_of_its_own(queue: Queue):
    callers = [asyncio.create_task(receive(queue)) for _ in range(8)]
    await asyncio.sleep(0.05)
    await queue.send(*(Change("left", str(n)) for n in range(8)))
    found = [native((await caller).body).key for caller in callers]
    assert sorted(found) == [str(n) for n in range(8)]


async def test_a_caller_who_gives_up_takes_no_message_with_it(queue: Queue):
    callers = [asyncio.create_task(queue.receive()) for _ in range(4)]
    await asyncio.sleep(0.1)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await queue.send(Change("left", "k"))
    assert native((await receive(queue, 0.5)).body).key == "k"


async def test_many_changes_are_all_queued_and_counted_by_site(queue: Queue):
    before = datetime.now(UTC) - timedelta(seconds=1)
    await queue.send(*(Change("left", str(n)) for n in range(700)), Change("right", "k"))
    held = await receive(queue)
    backlog = await queue.backlog()
    assert backlog.count == {"left": 700, "right": 1}
    assert set(backlog.oldest) == {"left", "right"}
    assert before < backlog.oldest["left"] <= backlog.oldest["right"] <= datetime.now(UTC)
    await held.done()
    async with asyncio.timeout(SOON):
        while sum((await queue.backlog()).count.values()) > 700:  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.01)


async def test_a_failure_is_read_back_as_it_was_and_stays_until_it_is_dropped(queue: Queue):
    told = failure("refused")
    await queue.fail(told)
    for _ in range(2):
        (found,) = [kept async for kept in queue.failures()]
        assert found.id
        assert found.change == told.change
        assert (found.message, found.attempts) == ("refused", 3)
        assert (found.since, found.at) == (told.since, told.at)
    await queue.drop(found)
    await queue.drop(found)
    assert [kept async for kept in queue.failures()] == []


async def test_failures_come_oldest_first_of_one_class_or_of_all(queue: Queue):
    for n in range(3):
        await queue.fail(failure(f"denied {n}"))
    await queue.fail(failure("too long", ErrorClass.INVALID))
    denied = [kept.message async for kept in queue.failures(ErrorClass.DENIED)]
    assert denied == ["denied 0", "denied 1", "denied 2"]
    assert len([kept async for kept in queue.failures()]) == 4
    assert [kept async for kept in queue.failures(ErrorClass.MISSING)] == []


async def test_reading_failures_ends_though_each_one_fails_anew(queue: Queue):
    await queue.fail(failure("once"))
    await queue.fail(failure("twice"))
    seen = 0
    async for kept in queue.failures(ErrorClass.DENIED):
        seen += 1
        await queue.drop(kept)
        await queue.fail(kept)
    assert seen == 2


async def test_a_poison_message_is_kept_raw_and_counted_under_no_rule(queue: Queue):
    now = datetime.now(UTC)
    await queue.fail(
        Failure("", ErrorClass.POISON, "", "", None, "not json", 1, now, now, raw="\ufffd{")
    )
    await queue.fail(failure("refused", rule="documents"))
    (found,) = [kept async for kept in queue.failures(ErrorClass.POISON)]
    assert (found.change, found.raw) == (None, "\ufffd{")
    assert await queue.failed() == {
        "": {ErrorClass.POISON: 1},
        "documents": {ErrorClass.DENIED: 1},
    }


def copied(key: str, rule: str = "all", *, number: int = 1, worker: str = "w") -> Attempt:
    """Return an attempt that ended with a copy."""
    at = datetime.now(UTC)
    change = Change("left", key, etag="e", time=at, event="request 7")
    decision = Decision(Action.COPY, "not at the target")
    outcome = Outcome(
        rule=rule,
        source="left",
        target="right",
        key=key,
        decision=decision,
        size=3,
        seconds=0.1,
        lag=0.2,
        rounds=1,
        recheck=None,
        at=at,
    )
    return Attempt(worker, rule, "right", change, number, at, outcome)


def refused(key: str, rule: str = "all", *, number: int = 1) -> Attempt:
    """Return an attempt that failed."""
    told = replace(copied(key, rule, number=number), outcome=None)
    return replace(told, error_class=ErrorClass.THROTTLED, message="slow down\n\u00e9")


async def remembered(queue: Queue, key: str, count: int) -> list[Attempt]:
    """Wait until so many attempts at a key are remembered: nobody waits for that who tells them."""
    async with asyncio.timeout(SOON):
        while len(found := await queue.history(key)) != count:  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.01)
    return found


async def test_outcomes_are_heard_by_whoever_listens(queue: Queue):
    async with queue.outcomes() as first, queue.outcomes() as second:
        told = copied("a+b c/\u00e9\n")
        await queue.publish_outcome(told)
        async with asyncio.timeout(SOON):
            assert [await anext(first), await anext(second)] == [told, told]


async def test_what_was_told_before_somebody_listened_goes_unheard(queue: Queue):
    await queue.publish_outcome(copied("early"))
    async with queue.outcomes() as heard:
        await queue.publish_outcome(copied("late"))
        async with asyncio.timeout(SOON):
            assert (await anext(heard)).change.key == "late"


async def test_a_failed_attempt_is_remembered_and_not_told_to_those_who_listen(queue: Queue):
    async with queue.outcomes() as heard:
        await queue.publish_outcome(refused("k"))
        await queue.publish_outcome(copied("k"))
        async with asyncio.timeout(SOON):
            assert (await anext(heard)).outcome
    assert [attempt.error_class for attempt in await remembered(queue, "k", 2)] == [
        ErrorClass.THROTTLED,
        None,
    ]


async def test_the_attempts_at_a_key_are_remembered_as_they_were_and_no_others(queue: Queue):
    for key in ("k", "k/", "K", "*", "", "\ud800"):
        told = [refused(key), copied(key), copied(key, "other", number=2)]
        await queue.publish_outcome(copied("elsewhere"))
        for attempt in told:
            await queue.publish_outcome(attempt)
        assert await remembered(queue, key, 3) == told
    assert await queue.history("never") == []


async def test_of_each_rule_the_last_few_are_remembered_however_often_it_failed_since(queue: Queue):
    for number in range(1, HISTORY + 4):
        await queue.publish_outcome(copied("k", number=number))
    await queue.publish_outcome(copied("k", "quiet"))
    for number in range(1, HISTORY + 4):
        await queue.publish_outcome(refused("k", number=number))
    found = await remembered(queue, "k", 2 * HISTORY + 1)
    last = list(range(4, HISTORY + 4))
    assert [one.number for one in found if one.outcome and one.rule == "all"] == last
    assert [one.number for one in found if not one.outcome] == last
    assert [one.number for one in found if one.rule == "quiet"] == [1]
