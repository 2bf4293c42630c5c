"""Sweeping: what nobody will go on with goes, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem.change import Change
from tandem.engine import Engine
from tandem.errors import Denied, Transient
from tandem.rule import Rule
from tandem.stores.base import Content
from tandem.stores.memory import MemoryStore
from tandem.sweep import OLDER_THAN, Swept, sweep
from tandem.transfer import MIB, Transfer

PART = 5 * MIB
BODY = b"x" * (PART + 1)
RULE = Rule("r", "a", ("b",), prefix="docs/")
KEY = "docs/k"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Failing(MemoryStore):
    """A store in which one operation fails when told to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.fail_at: dict[str, Exception] = {}

    async def _turn(self, operation: str, key: str) -> None:
        if operation in self.fail_at:
            raise self.fail_at[operation]
        await super()._turn(operation, key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Failing:
    return Failing("a", clock=clock)


@pytest.fixture
def target(clock: Clock) -> Failing:
    return Failing("b", clock=clock)


@pytest.fixture
def engine(source: Failing, target: Failing) -> Engine:
    return Engine({"a": source, "b": target}, [RULE], Transfer(part_size=PART, memory=2 * PART))


async def leave_behind(engine: Engine, source: Failing, target: Failing, key: str = KEY) -> None:
    """Cut a copy of `key` short."""
    await source.put(key, BODY, Content())
    target.fail_at["complete_upload"] = Transient("cut")
    rule = Rule("other", "a", ("b",))
    with pytest.raises(Transient):
        await engine.converge(rule, "b", Change(site="a", key=key))
    target.fail_at.clear()


async def swept(engine: Engine, rule: Rule = RULE, **options: Any) -> list[Swept]:
    return [one async for one in sweep(engine, rule, "b", **options)]


async def test_an_upload_whose_source_is_gone_is_aborted_when_it_is_old_enough(
    engine, source, target, clock
):
    await leave_behind(engine, source, target)
    await source.delete(KEY)
    clock.pass_by(OLDER_THAN - 1)
    assert await swept(engine) == []
    clock.pass_by(1)
    (found,) = await swept(engine)
    assert (found.aborted, found.reason, found.error) == (True, "on neither side", None)
    assert (found.age, found.parts, found.size) == (OLDER_THAN, 2, len(BODY))
    assert await target.list_uploads() == ()


async def test_an_upload_whose_source_has_moved_on_is_aborted(engine, source, target, clock):
    await leave_behind(engine, source, target)
    await source.put(KEY, b"small now", Content())
    await engine.converge(RULE, "b", Change(site="a", key=KEY))
    clock.pass_by(OLDER_THAN)
    assert [one.reason for one in await swept(engine)] == ["equal"]
    assert await target.list_uploads() == ()


async def test_an_upload_that_a_copy_still_wants_is_kept(engine, source, target, clock):
    await leave_behind(engine, source, target)
    clock.pass_by(OLDER_THAN)
    (found,) = await swept(engine)
    assert (found.aborted, found.reason) == (False, "not at the target")
    assert len(await target.list_uploads()) == 1


async def test_a_rehearsal_aborts_nothing(engine, source, target, clock):
    await leave_behind(engine, source, target)
    await source.delete(KEY)
    clock.pass_by(OLDER_THAN)
    assert [one.aborted for one in await swept(engine, dry_run=True)] == [True]
    assert len(await target.list_uploads()) == 1


async def test_what_is_not_ours_is_never_touched(engine, target, clock):
    upload = await target.create_upload(KEY, Content())
    await target.upload_part(KEY, upload, 1, b"x" * PART)
    await target.upload_part(KEY, upload, target.capabilities.max_parts, b"y" * 78)
    await target.create_upload(KEY, Content())
    clock.pass_by(10 * OLDER_THAN)
    assert await swept(engine) == []
    assert len(await target.list_uploads()) == 2


async def test_what_the_rule_does_not_cover_is_not_looked_into(engine, source, target, clock):
    await leave_behind(engine, source, target, "elsewhere/k")
    await source.delete("elsewhere/k")
    clock.pass_by(OLDER_THAN)
    target.fail_at["list_parts"] = Denied("not asked")
    assert await swept(engine) == []
    assert len(await target.list_uploads()) == 1


@pytest.mark.parametrize("operation", ["list_parts", "abort_upload", "head"])
async def test_what_cannot_be_looked_into_or_aborted_is_said_and_stops_no_other(
    engine, source, target, clock, operation
):
    for key in ("docs/1", "docs/2"):
        await leave_behind(engine, source, target, key)
        await source.delete(key)
    clock.pass_by(OLDER_THAN)
    target.fail_at[operation] = Denied("no")
    found = await swept(engine)
    assert [(one.aborted, str(one.error)) for one in found] == [(False, "no")] * 2
    assert len(await target.list_uploads()) == 2


async def test_a_source_that_cannot_be_asked_is_no_evidence(engine, source, target, clock):
    await leave_behind(engine, source, target)
    await source.delete(KEY)
    clock.pass_by(OLDER_THAN)
    source.fail_at["is_absent"] = Denied("no")
    assert [one.aborted for one in await swept(engine)] == [False]
    assert len(await target.list_uploads()) == 1
