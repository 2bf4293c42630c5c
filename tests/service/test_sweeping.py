"""The sweep that comes by itself, on stores in memory."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.journal import Journal, SweepRound, now
from service.metrics import Swept, exposition
from service.recurring import RETRY
from service.sweeping import Sweeping
from tandem.errors import Denied
from tandem.ledger import HANDED_ON, MARKER, MARKER_SIZE
from tandem.report import sweep_line
from tandem.rule import Rule
from tandem.settings import JetStream, Settings, Site, Sweep
from tandem.stores.base import Content
from tandem.stores.memory import MemoryStore
from tests.test_sweep import Clock, Failing

SITES = {
    name: Site(name, name, "http://127.0.0.1:1", "key", "secret")
    for name in ("left", "right", "far")
}
RULES = (
    Rule("one", "left", ("right", "far"), prefix="1/"),
    Rule("both", "left", ("right",), prefix="2/", two_way=True),
)
NATS = JetStream("nats://127.0.0.1:1", "user", "password", "test")
SETTINGS = Settings("test", SITES, RULES, NATS, sweep=Sweep(every=3600, older_than=60))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(clock: Clock) -> dict[str, Failing]:
    return {name: Failing(name, clock=clock) for name in SITES}


async def leave_behind(store: MemoryStore, key: str) -> None:
    """Begin an upload as a copy does, and leave it."""
    upload = await store.create_upload(key, Content())
    parts = {1: b"x" * 10, 10_000: MARKER.ljust(MARKER_SIZE, b"0"), 9_999: HANDED_ON}
    for number, body in parts.items():
        await store.upload_part(key, upload, number, body)


async def left(stores: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, one.key) for name, store in stores.items() for one in await store.list_uploads()]


async def until_ended(
    folder: Path, stores: dict[str, Any], settings: Settings = SETTINGS
) -> Sweeping:
    """Let a sweep be due, run it until it has ended, and return what ran."""
    journal = Journal(folder, SweepRound)
    journal.due = now()
    journal.write()
    one = Sweeping(settings, stores, folder)
    before = one.journal.last and one.journal.last.ended
    task = asyncio.create_task(one.run())
    async with asyncio.timeout(60):
        while (one.journal.last and one.journal.last.ended) == before:  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return one


async def test_it_sweeps_each_target_both_ways_and_tells_what_it_did(
    stores: dict[str, Failing], clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    await stores["left"].put("1/wanted", b"body", Content())
    for site, key in (
        ("right", "1/gone"),
        ("far", "1/gone"),
        ("far", "1/wanted"),
        ("left", "2/back"),
        ("right", "elsewhere"),
    ):
        await leave_behind(stores[site], key)
    clock.pass_by(60)
    await leave_behind(stores["right"], "1/young")
    one = await until_ended(tmp_path, stores)
    assert await left(stores) == [("right", "elsewhere"), ("right", "1/young"), ("far", "1/wanted")]
    told = one.to_json()
    assert (told["every"], told["older_than"], told["current"]) == (3600, 60, None)
    last = told["last"]
    assert (last["aborted"], last["bytes"], last["kept"], last["error"]) == (3, 30, 1, None)
    assert "one: the upload of 1/gone to far (10 B) aborted: on neither side" in caplog.text
    assert "sweep: 3 aborted (30 B), 1 kept" in caplog.text
    assert sweep_line(told, now()).startswith("sweep: 3 aborted (30 B), 1 kept, ")
    text = exposition(Swept(last)).decode()
    assert "tandem_sweep_aborted 3.0" in text
    assert "tandem_sweep_bytes 30.0" in text
    assert "tandem_sweep_failed 0.0" in text
    assert one.journal.due
    assert timedelta(minutes=59) < one.journal.due - now() <= timedelta(hours=1)


async def test_what_cannot_be_aborted_is_told_stops_no_other_and_is_tried_again_soon(
    stores: dict[str, Failing], clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for site in ("right", "far"):
        await leave_behind(stores[site], "1/gone")
    clock.pass_by(60)
    stores["right"].fail_at["abort_upload"] = Denied("403 AccessDenied")
    one = await until_ended(tmp_path, stores)
    told = one.to_json()
    assert (told["last"]["aborted"], told["last"]["error"]) == (
        1,
        "one: left → right: 403 AccessDenied",
    )
    assert "one: the upload of 1/gone to right stays: 403 AccessDenied" in caplog.text
    assert "403 AccessDenied" in sweep_line(told, now())
    assert one.journal.due
    assert one.journal.due - now() <= timedelta(seconds=RETRY)
    stores["right"].fail_at.clear()
    # The same round goes on, after a restart too; the target that was done is not asked again.
    stores["far"].fail_at["list_uploads"] = Denied("not asked")
    last = (await until_ended(tmp_path, stores)).to_json()["last"]
    assert (last["aborted"], last["error"]) == (2, None)
    assert await left({"right": stores["right"]}) == []


async def test_never_is_never(stores: dict[str, Failing], tmp_path: Path):
    one = Sweeping(replace(SETTINGS, sweep=Sweep(every=0)), stores, tmp_path)
    async with asyncio.timeout(60):
        await one.run()
    assert sweep_line(one.to_json(), now()) == "sweep: off"
