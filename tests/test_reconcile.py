"""Comparing whole buckets: the merge-join, examine and sync."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import reconcile, retrying
from tandem.change import Change
from tandem.decision import SOURCE_SITE, Action, Decision, Look, decide
from tandem.engine import Engine
from tandem.errors import Denied, Invalid, Throttled, Transient
from tandem.late_look import SETTLE
from tandem.listings import Pair, pairs
from tandem.outcome import Outcome
from tandem.reconcile import Finding, examine, sync
from tandem.rule import Rule
from tandem.stores.base import Content, Entry, ObjectState
from tandem.stores.memory import MemoryStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RULE = Rule("documents", "source", ("target",))

# Surrogates are no characters: no key holds one.
keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=4)
etags = st.sampled_from(["a", "b"])
buckets = st.dictionaries(keys, etags, max_size=30)


def entry(key: str, etag: str = "a", size: int = 1) -> Entry:
    return Entry(key, etag, size, NOW)


def by_bytes(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name.encode())


async def stream(entries: Iterable[Entry]) -> AsyncIterator[Entry]:
    for one in entries:
        await asyncio.sleep(0)
        yield one


def listed(bucket: dict[str, str]) -> AsyncIterator[Entry]:
    return stream(entry(key, bucket[key]) for key in by_bytes(bucket))


class Listing:
    """Only what reconciling needs of a store: a listing, which may break off."""

    def __init__(self, bucket: dict[str, str], breaks: list[Exception] | None = None) -> None:
        self.bucket = bucket
        self.breaks = breaks or []
        self.read = 0

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Entry]:
        for key in by_bytes(self.bucket):
            if key.startswith(prefix) and key > start_after:
                yield entry(key, self.bucket[key])
                self.read += 1
                if self.breaks:
                    raise self.breaks.pop(0)


@dataclass
class Recorder:
    """An engine that decides by ETag alone, and knows how many of its calls run at once."""

    stores: dict[str, Any]
    fail: Callable[[str], Exception | None] = lambda _: None
    busy: int = 0
    most: int = 0
    asked: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    recheck: list[float] = field(default_factory=list)

    async def explain(self, rule: Rule, target: str, key: str) -> Decision:
        self.busy += 1
        self.most = max(self.most, self.busy)
        self.asked.append(key)
        try:
            await asyncio.sleep(0.0001 * (hash(key) % 3))
            if error := self.fail(key):
                raise error
            here = self.stores[rule.source].bucket.get(key)
            there = self.stores[target].bucket.get(key)
            if here == there:
                return Decision(Action.SKIP, "equal")
            if here is None:
                if there == "theirs":
                    return Decision(Action.SKIP, "not written by Tandem from this source")
                return Decision(Action.DELETE, "deleted at the source")
            return Decision(Action.COPY, "content differs")
        finally:
            self.busy -= 1

    async def converge(self, rule: Rule, target: str, change: Change) -> Outcome:
        self.changes.append(change)
        decision = await self.explain(rule, target, change.key)
        there = self.stores[target].bucket
        if decision.action is Action.COPY:
            there[change.key] = self.stores[rule.source].bucket[change.key]
        elif decision.action is Action.DELETE:
            del there[change.key]
        copied = 7 if decision.action is Action.COPY else 0
        recheck = self.recheck.pop() if self.recheck else None
        return Outcome(
            rule.name, rule.source, target, change.key, decision, copied, 0.0, None, 1, recheck, NOW
        )


def engine(source: dict[str, str], target: dict[str, str], **options: Any) -> Any:
    return Recorder({"source": Listing(source), "target": Listing(target)}, **options)


async def synced(machine: Any, rule: Rule = RULE, **options: Any) -> list[tuple[Finding, str]]:
    told: list[tuple[Finding, str]] = []
    await sync(machine, rule, "target", lambda *heard: told.append(heard), **options)
    return told


async def examined(machine: Any, rule: Rule = RULE, **options: Any) -> list[Finding]:
    return [finding async for finding in examine(machine, rule, "target", **options)]


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def short(seconds: float) -> None:
        if seconds > 0.01:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(retrying.asyncio, "sleep", short)
    return pauses


@given(buckets, buckets)
async def test_a_merge_join_is_set_arithmetic(source: dict[str, str], target: dict[str, str]):
    joined = [pair async for pair in pairs(listed(source), listed(target))]
    assert [pair.key for pair in joined] == by_bytes(source.keys() | target.keys())
    assert {pair.key: pair.source.etag for pair in joined if pair.source} == source
    assert {pair.key: pair.target.etag for pair in joined if pair.target} == target
    equal = {key for key in source.keys() & target.keys() if source[key] == target[key]}
    assert {pair.key for pair in joined if pair.looks_equal} == equal


@given(buckets, st.text("ab", max_size=1), st.text("yz", max_size=1))
async def test_a_merge_join_leaves_out_what_the_rule_does_not_cover(
    source: dict[str, str], prefix: str, suffix: str
):
    rule = Rule("some", "source", ("target",), prefix=prefix, suffix=suffix)
    joined = [pair.key async for pair in pairs(listed(source), listed({}), rule.covers)]
    assert joined == [key for key in by_bytes(source) if rule.covers(key)]


@pytest.mark.parametrize("wrong", [["b", "a"], ["a", "a"], ["é", "z"], ["\U0001f980", "\uffff"]])
async def test_an_unsorted_listing_is_an_error(wrong: list[str]):
    with pytest.raises(Invalid, match="order of its keys' UTF-8 bytes"):
        _ = [pair async for pair in pairs(stream(map(entry, wrong)), listed({}))]


def test_pairs_of_another_size_or_etag_do_not_look_equal():
    assert Pair("k", entry("k"), entry("k")).looks_equal
    assert not Pair("k", entry("k"), entry("k", size=2)).looks_equal
    assert not Pair("k", entry("k"), entry("k", "b")).looks_equal
    assert not Pair("k", entry("k"), None).looks_equal


@given(buckets, buckets, st.integers(1, 5))
async def test_sync_makes_the_target_equal_with_never_more_in_flight_than_allowed(
    source: dict[str, str], target: dict[str, str], in_flight: int
):
    machine = engine(source, dict(target))
    told = await synced(machine, in_flight=in_flight)
    assert machine.stores["target"].bucket == source
    assert machine.most <= in_flight
    assert {finding.key for finding, _ in told} == source.keys() | target.keys()
    assert told == [] or told[-1][1] == max(source.keys() | target.keys())


@given(buckets, buckets, st.integers(1, 5))
async def test_examine_tells_in_order_what_sync_would_do_and_does_nothing(
    source: dict[str, str], target: dict[str, str], in_flight: int
):
    machine = engine(source, dict(target))
    found = await examined(machine, in_flight=in_flight)
    assert machine.stores["target"].bucket == target
    assert machine.most <= in_flight
    assert [finding.key for finding in found] == by_bytes(source.keys() | target.keys())
    told = await synced(machine)
    assert {finding.key for finding in found if finding.differs} == {
        finding.key for finding, _ in told if finding.differs
    }


@given(buckets, st.sets(keys, max_size=5), st.integers(1, 5))
async def test_every_key_up_to_the_cursor_is_done_at_any_moment(
    source: dict[str, str], failing: set[str], in_flight: int
):
    machine = engine(source, {}, fail=lambda key: Denied("no") if key in failing else None)
    settled: set[str] = set()

    def told(finding: Finding, after: str) -> None:
        if finding.error is None:
            settled.add(finding.key)
        assert {key for key in source if key <= after} <= settled

    await sync(machine, RULE, "target", told, in_flight=in_flight)
    assert settled == source.keys() - failing


async def test_sync_goes_on_after_the_cursor():
    machine = engine({"a": "a", "b": "a", "c": "a"}, {})
    await synced(machine, start_after="b")
    assert machine.asked == ["c"]


async def test_constant_memory_the_listing_is_read_no_further_than_the_work_has_come():
    machine = engine({f"{number:04}": "a" for number in range(500)}, {})
    source = machine.stores["source"]
    settled = 0

    def told(_: Finding, __: str) -> None:
        nonlocal settled
        settled += 1
        # Each of the four holds at most one key, and the merge one of each listing.
        assert source.read - settled <= 5

    await sync(machine, RULE, "target", told, in_flight=4)
    assert settled == 500

    walk = examine(machine, RULE, "target", in_flight=4)
    source.read = 0
    await anext(walk)
    assert source.read <= 5
    await walk.aclose()


async def test_sync_believes_equal_entries_unless_it_is_thorough():
    machine = engine({"a": "a", "b": "a"}, {"a": "a", "b": "b"})
    await synced(machine)
    assert machine.asked == ["b"]
    await synced(machine, thorough=True)
    assert sorted(machine.asked) == ["a", "b", "b"]


async def test_a_key_that_fails_is_told_and_stops_no_other():
    machine = engine(
        dict.fromkeys("abc", "a"), {}, fail=lambda key: Denied("no") if key == "b" else None
    )
    told = await synced(machine, in_flight=1)
    assert [(finding.key, str(finding.error)) for finding, _ in told if finding.error] == [
        ("b", "no")
    ]
    assert machine.stores["target"].bucket == {"a": "a", "c": "a"}
    assert told[-1][1] == "a"  # a later run starts before the key that failed


async def test_examine_reports_a_key_that_cannot_be_looked_at():
    machine = engine(
        {"a": "a", "b": "a"}, {}, fail=lambda key: Denied("no") if key == "a" else None
    )
    found = await examined(machine)
    assert [(finding.key, bool(finding.error), finding.differs) for finding in found] == [
        ("a", True, False),
        ("b", False, True),
    ]


async def test_what_may_pass_is_tried_again(no_pauses: list[float]):
    faults = [Transient("reset"), Throttled("slow down", retry_after=9.0)]
    machine = engine({"a": "a"}, {}, fail=lambda _: faults.pop(0) if faults else None)
    told = await synced(machine)
    assert told[0][0].error is None
    assert len(no_pauses) == 2
    assert no_pauses[1] == 9.0


async def test_what_does_not_pass_is_given_up_after_a_few_tries(no_pauses: list[float]):
    machine = engine({"a": "a"}, {}, fail=lambda _: Transient("reset"))
    told = await synced(machine)
    assert str(told[0][0].error) == "reset"
    assert len(machine.asked) == retrying.ATTEMPTS == len(no_pauses) + 1


async def test_a_listing_that_breaks_off_is_taken_up_where_it_was(no_pauses: list[float]):
    machine = engine(dict.fromkeys("abcde", "a"), {})
    machine.stores["source"].breaks = [Transient("reset"), Transient("reset")]
    assert [finding.key for finding in await examined(machine)] == list("abcde")
    assert len(no_pauses) == 2


@pytest.mark.parametrize("walk", [synced, examined])
async def test_a_listing_that_fails_ends_the_whole_and_deletes_nothing(walk: Any):
    target = dict.fromkeys("abcde", "a")
    machine = engine(dict.fromkeys("abcde", "b"), dict(target))
    machine.stores["source"].breaks = [Denied("no listing")]
    with pytest.raises(Denied, match="no listing"):
        await walk(machine)
    assert machine.stores["target"].bucket.keys() == target.keys()


async def test_a_fault_of_ours_is_raised_as_it_is():
    machine = engine(dict.fromkeys("abc", "a"), {}, fail=lambda _: ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        await synced(machine)
    with pytest.raises(ZeroDivisionError):
        await examined(machine)


async def test_only_what_the_rule_covers_is_touched():
    rule = Rule("logs", "source", ("target",), prefix="logs/", suffix=".gz")
    machine = engine({"logs/a.gz": "a", "logs/a.txt": "a", "a.gz": "a"}, {"logs/b.txt": "b"})
    await synced(machine, rule)
    assert machine.stores["target"].bucket == {"logs/a.gz": "a", "logs/b.txt": "b"}


async def test_a_key_of_the_target_that_the_rule_leaves_alone_is_foreign():
    machine = engine({"a": "a"}, {"a": "a", "b": "theirs", "c": "a"})
    found = await examined(machine)
    assert [(finding.key, finding.foreign, finding.differs) for finding in found] == [
        ("a", False, False),
        ("b", True, False),
        ("c", False, True),
    ]


@pytest.mark.parametrize("ownership", ["tandem", "all"])
@pytest.mark.parametrize("deletes", ["mirror", "keep"])
@pytest.mark.parametrize("written_from", [None, "source"])
def test_every_skip_either_agrees_or_leaves_something_foreign(
    ownership: Any, deletes: Any, written_from: str | None
):
    rule = Rule("r", "source", ("target",), deletes=deletes, ownership=ownership)
    metadata = {SOURCE_SITE: written_from} if written_from else {}
    here = Look(ObjectState("k", "a", 1, NOW, metadata=metadata))
    assert decide(here, here, rule).reason in reconcile.AGREED
    assert decide(None, None, rule).reason in reconcile.AGREED
    left = decide(None, here, rule)
    assert left.action is Action.DELETE or left.reason not in reconcile.AGREED


async def test_a_request_that_was_given_up_is_looked_at_again(no_pauses: list[float]):
    machine = engine({"a": "a"}, {}, recheck=[60.0])
    told = await synced(machine)
    assert machine.asked == ["a", "a"]
    assert no_pauses == [60.0]
    assert told[0][0].decision == Decision(Action.COPY, "content differs")
    assert told[0][0].size == 7


async def test_a_request_that_was_given_up_is_looked_at_again_though_another_attempt_knew_nothing(
    no_pauses: list[float],
):
    faults = [Transient("time-out", unresolved=True)]
    machine = engine({"a": "a"}, {}, fail=lambda _: faults.pop() if faults else None)
    await synced(machine)
    assert machine.asked == ["a", "a", "a"]
    assert no_pauses[-1] == SETTLE


async def test_the_size_is_hinted_only_where_a_copy_is_nearly_certain():
    machine = engine({"new": "a", "other": "a"}, {"other": "b"})
    await synced(machine)
    assert {change.key: change.size for change in machine.changes} == {"new": 1, "other": None}
    assert {(change.rule, change.target) for change in machine.changes} == {("documents", "target")}


contents = st.dictionaries(
    st.text("ab/é\U0001f980", min_size=1, max_size=3),
    st.tuples(st.sampled_from([b"", b"one", b"two"]), st.sampled_from(["x", "y"])),
    max_size=12,
)


async def filled(site: str, objects: dict[str, tuple[bytes, str]]) -> MemoryStore:
    store = MemoryStore(site, versioned=True)
    for key, (body, owner) in objects.items():
        await store.put(key, body, Content(metadata={"owner": owner}, tags={"for": owner}))
    return store


@given(contents, contents, contents)
async def test_a_thorough_sync_by_the_real_engine_leaves_nothing_but_foreign_keys_different(
    before: dict[str, tuple[bytes, str]],
    after: dict[str, tuple[bytes, str]],
    theirs: dict[str, tuple[bytes, str]],
):
    source = await filled("source", before)
    stores = {"source": source, "target": await filled("target", theirs)}
    machine = Engine(stores, [RULE])
    await synced(machine, thorough=True)
    for key in before.keys() - after.keys():
        await source.delete(key)
    for key, (body, owner) in after.items():
        await source.put(key, body, Content(metadata={"owner": owner}, tags={"for": owner}))
    await synced(machine, thorough=True, in_flight=4)

    found = await examined(machine)
    assert not any(finding.differs or finding.error for finding in found)
    foreign = {finding.key for finding in found if finding.foreign}
    assert foreign <= theirs.keys() - after.keys()
    assert {finding.key for finding in found} == after.keys() | foreign
    for key, (body, owner) in after.items():
        async with stores["target"].open(key) as reader:
            assert reader
            assert await reader.read() == body
            assert reader.state.metadata["owner"] == owner
        assert await stores["target"].tags(key) == {"for": owner}
