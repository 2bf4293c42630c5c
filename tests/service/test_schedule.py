"""The reconcile that comes by itself, on stores and a queue in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service import recurring
from service.journal import Journal, ReconcileRound, now
from service.metrics import Reconciled, exposition
from service.schedule import Schedule
from tandem import emission
from tandem.change import native
from tandem.errors import Denied
from tandem.queues.memory import MemoryQueue
from tandem.report import reconcile_line
from tandem.rule import Rule
from tandem.settings import JetStream, Reconcile, Settings, Site
from tandem.stores.base import Content
from tandem.stores.memory import MemoryStore
from tests.test_reconcile import Listing

SITES = {
    name: Site(name, name, "http://127.0.0.1:1", "key", "secret") for name in ("left", "right")
}
NAME = "reconcile.json"
RULES = (Rule("one", "left", ("right",), prefix="1"), Rule("two", "left", ("right",), prefix="2"))
NATS = JetStream("nats://127.0.0.1:1", "user", "password", "test")


@pytest.fixture
def stores() -> dict[str, Any]:
    return {"left": Listing(dict.fromkeys(("1a", "1b", "2a"), "a")), "right": Listing({})}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


Make = Callable[..., Schedule]


@pytest.fixture
def make(stores: dict[str, Any], queue: MemoryQueue, tmp_path: Path) -> Make:
    """Give a function that makes the schedule of one more life of the service."""

    def one_more(every: float = 3600.0, **changes: Any) -> Schedule:
        settings = Settings("test", SITES, RULES, NATS, reconcile=Reconcile(every))
        return Schedule(replace(settings, **changes), queue, stores, tmp_path)

    return one_more


def queued(queue: MemoryQueue) -> list[str]:
    return [native(message.body).key for message in queue._messages]


def due(folder: Path, journal: Journal[ReconcileRound] | None = None) -> None:
    journal = journal or Journal(folder, ReconcileRound)
    journal.due = now()
    journal.write()


async def until_ended(one: Schedule, seconds: float = 10) -> dict[str, Any]:
    """Run a schedule until a round has ended, and return what it tells of it."""
    before = one.journal.last and one.journal.last.ended
    task = asyncio.create_task(one.run())
    async with asyncio.timeout(seconds):
        while (one.journal.last and one.journal.last.ended) == before:  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    last: dict[str, Any] = one.to_json()["last"]
    return last


async def test_a_round_compares_all_rules_and_tells_what_it_did(
    make: Make, queue: MemoryQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    due(tmp_path)
    one = make()
    last = await until_ended(one)
    assert (last["keys"], last["changes"], last["error"]) == (3, 3, None)
    assert queued(queue) == ["1a", "1b", "2a"]
    assert "3 keys compared in" in caplog.text
    assert one.to_json()["every"] == 3600
    assert one.to_json()["current"] is None
    assert one.journal.due
    assert timedelta(minutes=59) < one.journal.due - now() <= timedelta(hours=1)
    assert "3 keys compared in" in reconcile_line(one.to_json(), now())
    text = exposition(Reconciled(last)).decode()
    assert "tandem_reconcile_keys 3.0" in text
    assert "tandem_reconcile_failed 0.0" in text
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "reconcile.lock"}  # noqa: ASYNC240 -- a few files


async def test_the_first_comes_an_interval_after_the_first_start_however_often_it_is_restarted(
    make: Make, queue: MemoryQueue
):
    async def start(every: float) -> Schedule:
        one = make(every)
        task = asyncio.create_task(one.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return one

    first = (await start(3600)).journal.due
    assert (await start(3600)).journal.due == first
    assert first
    assert timedelta(minutes=59) < first - now() <= timedelta(hours=1)
    # A shorter interval counts at once.
    sooner = (await start(60)).journal.due
    assert sooner
    assert sooner - now() <= timedelta(minutes=1)
    assert queued(queue) == []


async def test_never_is_never(make: Make, tmp_path: Path):
    due(tmp_path)
    one = make(0)
    async with asyncio.timeout(60):
        await one.run()
    assert one.to_json()["every"] is None
    assert reconcile_line(one.to_json(), now()) == "reconcile: off"


async def test_an_error_stops_its_route_alone_is_told_and_is_tried_again_where_it_stood(
    make: Make,
    stores: dict[str, Any],
    queue: MemoryQueue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(emission, "STEP", 1)
    stores["left"].bucket["0"] = "a"
    stores["left"].breaks = [Denied("list left: 403 AccessDenied")]
    due(tmp_path)
    one = make()
    last = await until_ended(one)
    what = "one: left → right: list left: 403 AccessDenied"
    assert last["error"] == what
    assert queued(queue) == ["2a"]
    assert f"reconcile stopped, and deleted nothing: {what}" in caplog.text
    assert "Traceback" not in caplog.text
    assert one.journal.due
    assert one.journal.due - now() <= timedelta(seconds=recurring.RETRY)
    assert "tandem_reconcile_failed 1.0" in exposition(Reconciled(last)).decode()
    assert what in reconcile_line(one.to_json(), now())

    due(tmp_path)
    last = await until_ended(make())
    assert last["error"] is None
    # The route that was done is not done again.
    assert queued(queue) == ["2a", "1a", "1b"]


async def test_a_round_that_failed_for_a_whole_interval_gives_way_to_a_new_one(
    make: Make, tmp_path: Path
):
    journal = Journal(tmp_path, ReconcileRound)
    journal.current = ReconcileRound(
        began=(now() - timedelta(hours=2)).isoformat(), keys=99, done=["two"]
    )
    due(tmp_path, journal)
    assert (await until_ended(make()))["keys"] == 3


async def test_a_restart_goes_on_at_once_where_the_round_stood(
    make: Make, stores: dict[str, Any], queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):  # fmt: skip
    monkeypatch.setattr(emission, "STEP", 1)
    reached = asyncio.Event()

    async def stuck(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    due(tmp_path)
    one = make()
    with monkeypatch.context() as patch:
        patch.setattr(emission, "BACKLOG", 0)
        patch.setattr(emission.asyncio, "sleep", stuck)
        stores["right"].bucket["1a"] = "a"
        task = asyncio.create_task(one._round())
        # The first change goes out; the second rule's waits for room.
        async with asyncio.timeout(60):
            await reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert queued(queue) == ["1b"]

    last = await until_ended(make())
    assert queued(queue) == ["1b", "2a"]
    assert (last["keys"], last["changes"]) == (3, 2)


def hold(folder: Path, held: Any, end: Any) -> None:
    with Journal(folder, ReconcileRound).held() as alone:
        assert alone
        held.set()
        end.wait(30)


async def test_only_one_process_reconciles_at_a_time(
    make: Make, queue: MemoryQueue, tmp_path: Path
):
    due(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    held, end = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, held, end))
    other.start()
    try:
        assert await asyncio.to_thread(held.wait, 30)
        one = make()
        task = asyncio.create_task(one.run())
        async with asyncio.timeout(60):
            while one._wait() == 0:  # noqa: ASYNC110 -- only asking tells
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert queued(queue) == []
    finally:
        end.set()
        other.join()
    assert (await until_ended(make()))["keys"] == 3


async def test_a_fault_of_ours_is_logged_whole_and_survived(
    make: Make, stores: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    stores["left"].breaks = [ZeroDivisionError("ours")]
    due(tmp_path)
    last = await until_ended(make())
    assert last["error"] == "one: left → right: ours"
    assert "ZeroDivisionError: ours" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"due": 1}', '{"due": null, "current": {"x": 1}}']
)
def test_a_journal_that_is_not_ours_is_begun_anew(tmp_path: Path, text: str):
    (tmp_path / NAME).write_text(text)
    journal = Journal(tmp_path, ReconcileRound)
    assert (journal.due, journal.current, journal.last) == (None, None, None)


async def test_a_two_way_rule_is_compared_both_ways(make: Make, queue: MemoryQueue, tmp_path: Path):
    due(tmp_path)
    await until_ended(make(rules=(Rule("both", "left", ("right",), two_way=True),)))
    told = [native(message.body) for message in queue._messages]
    assert {change.site for change in told} == {"left", "right"}


async def test_it_works_on_real_stores_too(tmp_path: Path, queue: MemoryQueue):
    sides = {"left": MemoryStore("left"), "right": MemoryStore("right")}
    await sides["left"].put("1", b"body", Content())
    due(tmp_path)
    settings = Settings("test", SITES, RULES, NATS, reconcile=Reconcile(60))
    assert (await until_ended(Schedule(settings, queue, sides, tmp_path)))["changes"] == 1
    assert json.loads((tmp_path / NAME).read_text())["last"]["keys"] == 1
