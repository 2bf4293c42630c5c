"""Reconciling through the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import emission, retrying
from tandem.change import Change, native
from tandem.emission import Emission, emit, shards
from tandem.engine import Engine
from tandem.errors import Denied, TandemError, Transient
from tandem.queues.memory import MemoryQueue
from tandem.rule import Rule
from tandem.stores.base import Content
from tandem.stores.memory import MemoryStore
from tests.test_reconcile import Listing, buckets, by_bytes, examined, keys

RULE = Rule("documents", "source", ("target",))


class Recorded(MemoryQueue):
    """A queue whose messages can be read, and which takes batches only when it has room."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.faults: list[TandemError] = []

    async def send(self, *changes: Change) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.batches.append(len(changes))
        await super().send(*changes)

    @property
    def changes(self) -> list[Change]:
        return [native(message.body) for message in self._messages]


def stores(source: dict[str, str], target: dict[str, str]) -> Any:
    return {"source": Listing(source), "target": Listing(target)}


@given(buckets, buckets, st.booleans())
async def test_a_change_is_queued_for_each_key_that_may_differ_and_for_no_other(
    source: dict[str, str], target: dict[str, str], thorough: bool
):
    queue = Recorded()
    done = await emit(stores(source, target), queue, RULE, "target", thorough=thorough)
    everything = source.keys() | target.keys()
    differing = {key for key in everything if source.get(key) != target.get(key)}
    assert [change.key for change in queue.changes] == by_bytes(
        everything if thorough else differing
    )
    assert {(change.site, change.rule, change.target) for change in queue.changes} <= {
        ("source", "documents", "target")
    }
    assert (done.compared, done.emitted) == (len(everything), len(queue.changes))
    assert done.after == max(everything, default="")


@given(buckets, buckets)
async def test_what_only_the_target_has_is_let_be_where_nothing_is_deleted(
    source: dict[str, str], target: dict[str, str]
):
    queue = Recorded()
    await emit(stores(source, target), queue, replace(RULE, deletes="keep"), "target")
    assert {change.key for change in queue.changes} <= source.keys()


@given(buckets, buckets, st.data())
async def test_cut_short_anywhere_it_goes_on_after_its_cursor_and_misses_nothing(
    source: dict[str, str], target: dict[str, str], data: st.DataObject
):
    queue, sides, reached = Recorded(), stores(source, target), []
    sides["source"].breaks = [Denied("no listing")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emission, "STEP", data.draw(st.integers(1, 5)))

        def told(done: Emission) -> None:
            reached.append(done.after)

        if source:
            with pytest.raises(Denied, match="no listing"):
                await emit(sides, queue, RULE, "target", told=told)
        after = reached[-1] if reached else ""
        await emit(sides, queue, RULE, "target", start_after=after)
    differing = {key for key in source.keys() | target.keys() if source.get(key) != target.get(key)}
    assert {change.key for change in queue.changes} == differing


async def test_changes_go_out_in_batches_and_wait_while_the_backlog_is_long(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(emission, "BATCH", 10)
    monkeypatch.setattr(emission, "BACKLOG", 25)
    monkeypatch.setattr(emission, "PAUSE", 0.001)
    queue = Recorded()
    source = {f"{number:03}": "a" for number in range(100)}
    work = asyncio.create_task(emit(stores(source, {}), queue, RULE, "target"))
    handled, most = 0, 0
    while not work.done() or handled < 100:
        most = max(most, (await queue.backlog()).count.get("source", 0))
        delivery = await queue.receive()
        await delivery.done()
        handled += 1
        await asyncio.sleep(0.001)
    assert (await work).emitted == 100
    # One batch may go out while the backlog is just at its bound.
    assert most <= 35
    assert queue.batches == [10] * 10


async def test_a_queue_that_is_away_for_a_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrying, "PAUSE", 0)
    queue = Recorded()
    queue.faults = [Transient("NATS is away")]
    assert (await emit(stores({"a": "a"}, {}), queue, RULE, "target")).emitted == 1
    queue.faults = [Transient("NATS is away")] * retrying.ATTEMPTS
    with pytest.raises(Transient, match="NATS is away"):
        await emit(stores({"a": "a"}, {}), queue, RULE, "target")


@given(st.text("ab", max_size=2), st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), keys)
def test_shards_cover_each_key_that_was_asked_for_exactly_once(
    prefix: str, asked: Sequence[str], tail: str
):
    rule = replace(RULE, prefix=prefix)
    for key in (prefix + tail, tail, *(one + tail for one in asked)):
        wanted = rule.covers(key) and any(key.startswith(one) for one in asked)
        assert sum(key.startswith(one) for one in shards(rule, asked)) == wanted


def test_without_shards_there_is_one_the_rules_own():
    assert shards(replace(RULE, prefix="logs/"), ()) == ("logs/",)


async def test_a_listing_that_leaves_out_all_deletes_nothing_since_the_source_is_asked():
    """An empty page in place of a full bucket is the worst that a listing can say."""
    sides = {"source": MemoryStore("source"), "target": MemoryStore("target")}
    machine, queue = Engine(sides, [RULE]), Recorded()
    for number in range(20):
        await sides["source"].put(f"{number}", b"body", Content())
        await machine.converge(RULE, "target", Change("source", f"{number}"))
    liars: Any = {"source": Listing({}), "target": sides["target"]}
    assert (await emit(liars, queue, RULE, "target")).emitted == 20
    for change in queue.changes:
        outcome = await machine.converge(RULE, "target", change)
        assert outcome.decision.action == "skip"
    assert not any(finding.differs for finding in await examined(machine))
