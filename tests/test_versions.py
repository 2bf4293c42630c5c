"""Whole histories, in memory: what is replayed, in which order, and what is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.change import Change
from tandem.decision import SOURCE_VERSION, Action
from tandem.emission import emit
from tandem.engine import Engine
from tandem.errors import Conflict, Invalid, Throttled
from tandem.queues.memory import MemoryQueue
from tandem.reconcile import Finding, examine, sync
from tandem.report import what, why
from tandem.rule import Rule
from tandem.stores.base import Capabilities, Content
from tandem.stores.memory import MemoryStore
from tandem.stores.memory_bucket import md5
from tandem.transfer import Transfer

RULE = Rule(name="documents", source="a", targets=("b",), versions="all")
CHANGE = Change(site="a", key="k")
CAPABLE = Capabilities(conditional_delete=True)
PART = 5 * 1024**2
# A history: the bodies of versions, and None for delete markers; oldest first.
History = list[bytes | None]
Step = Callable[[], Awaitable[None]]


class Died(Exception):
    """Stand for a worker that was killed."""


class Site(MemoryStore):
    """A bucket at which things happen just before a call; what writes is counted."""

    def __init__(self, site: str, capabilities: Capabilities = CAPABLE) -> None:
        super().__init__(site, versioned=True, capabilities=capabilities)
        self.calls: list[str] = []
        self.before: dict[str, list[Step]] = {}
        self.dies_after: int | None = None

    async def _turn(self, operation: str, key: str) -> None:
        await super()._turn(operation, key)
        await asyncio.sleep(0)
        self.calls.append(operation)
        if self.before.get(operation):
            await self.before[operation].pop(0)()
        if self.dies_after is not None:
            if self.dies_after == 0:
                raise Died
            self.dies_after -= 1

    async def play(self, history: History, key: str = "k") -> None:
        """Put and delete as a user would."""
        for body in history:
            if body is None:
                await self.delete(key)
            else:
                await self.put(
                    key, body, Content(metadata={"body": body.decode()}, tags={"t": "1"})
                )

    def history(self, key: str = "k") -> History:  # type: ignore[override]  # that of the test
        """Return what lies there, oldest first."""
        held = self._bucket._versions.get(key, [])
        return [version.body for version in held]

    def ids(self) -> list[str]:
        return [str(version.state.version_id) for version in self._bucket._versions["k"]]


@pytest.fixture
def source() -> Site:
    return Site("a")


@pytest.fixture
def target() -> Site:
    return Site("b")


@pytest.fixture
def engine(source: Site, target: Site) -> Engine:
    return engine_of(source, target)


def engine_of(source: Site, target: Site, rule: Rule = RULE) -> Engine:
    return Engine({"a": source, "b": target}, [rule], Transfer(part_size=PART))


async def converge(engine: Engine, rule: Rule = RULE) -> Any:
    return await engine.converge(rule, "b", CHANGE)


def shown(history: History) -> History:
    """Return a history as readers can have seen it: a delete of nothing shows nothing."""
    told: History = []
    for body in history:
        if body is not None or (told and told[-1] is not None):
            told.append(body)
    return told


async def test_each_version_is_replayed_oldest_first_with_delete_markers_in_their_places(
    engine, source, target
):
    await source.play([b"1", b"2", None, b"3", None])
    outcome = await converge(engine)
    assert target.history() == [b"1", b"2", None, b"3", None]
    assert outcome.decision.action is Action.COPY
    assert outcome.decision.reason == "3 versions and 2 delete markers not at the target"
    assert (outcome.size, outcome.rounds) == (3, 2)


async def test_a_copy_of_a_version_has_its_content_and_names_it(engine, source, target):
    await source.play([b"1", b"2"])
    await source.put_tags("k", {"t": "2"})
    await converge(engine)
    held = target._bucket._versions["k"]
    assert [version.state.metadata[SOURCE_VERSION] for version in held] == source.ids()
    assert [version.state.metadata["body"] for version in held] == ["1", "2"]
    assert [version.tags for version in held] == [{"t": "1"}, {"t": "2"}]


async def test_converging_again_does_nothing(engine, source, target):
    await source.play([b"1", None, b"1", b"1"])
    await converge(engine)
    assert target.history() == [b"1", None, b"1", b"1"]
    target.calls.clear()
    outcome = await converge(engine)
    assert outcome.decision.action is Action.SKIP
    assert not {"put", "delete", "put_tags"} & set(target.calls)
    # The newest copy tells where it came from: the others are not asked.
    assert target.calls.count("head") == 2


async def test_what_is_new_is_replayed_on_top(engine, source, target):
    await source.play([b"1", None])
    await converge(engine)
    await source.play([b"2", None, b"3"])
    await converge(engine)
    assert target.history() == [b"1", None, b"2", None, b"3"]


async def test_only_a_delete_is_told_as_a_delete(engine, source, target):
    await source.play([b"1"])
    await converge(engine)
    await source.play([None])
    outcome = await converge(engine)
    assert (outcome.decision.action, outcome.decision.reason) == (
        Action.DELETE,
        "1 delete marker not at the target",
    )
    assert target.history() == [b"1", None]


async def test_deletes_of_what_is_deleted_are_as_good_as_one(engine, source, target):
    await source.play([None, b"1", None, None, b"2", None, None])
    await converge(engine)
    assert target.history() == [b"1", None, b"2", None]
    assert (await converge(engine)).decision.action is Action.SKIP


async def test_a_rule_that_keeps_deletes_replays_no_marker(engine, source, target):
    keep = replace(RULE, deletes="keep")
    await source.play([b"1", None, b"2", None])
    await converge(engine, keep)
    assert target.history() == [b"1", b"2"]
    assert (await converge(engine, keep)).decision.action is Action.SKIP


async def test_replayed_markers_count_as_deletes(engine, source, target):
    bounded = replace(RULE, deletes_per_hour=1)
    await source.play([b"1", None, b"2", None])
    with pytest.raises(Throttled):
        await converge(engine, bounded)
    assert target.history() == [b"1", None, b"2"]


async def test_versions_that_are_removed_at_the_source_stay_at_the_target(engine, source, target):
    await source.play([b"1", b"2", b"3"])
    await converge(engine)
    source._bucket.forget("k", source.ids()[1])
    await source.play([b"4"])
    await converge(engine)
    assert target.history() == [b"1", b"2", b"3", b"4"]


async def test_a_state_that_the_source_returns_to_goes_on_top(engine, source, target):
    await source.play([b"1", b"2"])
    await converge(engine)
    source._bucket.forget("k", source.ids()[1])
    await converge(engine)
    assert target.history() == [b"1", b"2", b"1"]
    assert (await converge(engine)).decision.action is Action.SKIP


async def test_a_marker_that_is_removed_at_the_source_brings_the_object_back(
    engine, source, target
):
    await source.play([b"1", None])
    await converge(engine)
    source._bucket.forget("k", source.ids()[1])
    await converge(engine)
    assert target.history() == [b"1", None, b"1"]


async def test_when_all_copied_versions_have_expired_what_is_left_goes_on_top(
    engine, source, target
):
    await source.play([b"1", b"2"])
    await converge(engine)
    await source.play([b"3", b"4"])
    for expired in source.ids()[:2]:
        source._bucket.forget("k", expired)
    await converge(engine)
    assert target.history() == [b"1", b"2", b"3", b"4"]


async def test_an_older_version_that_is_missing_is_told_and_not_put_out_of_order(
    engine, source, target
):
    await source.play([b"1", b"2", b"3"])
    latest = replace(RULE, versions="latest")
    await engine.converge(latest, "b", CHANGE)
    assert target.history() == [b"3"]
    outcome = await converge(engine)
    assert outcome.decision.action is Action.SKIP
    assert target.history() == [b"3"]
    told = await engine.explain(RULE, "b", "k")
    assert (told.action, told.lacking) == (Action.SKIP, 2)
    assert told.reason.startswith("2 older versions not at the target")
    await source.play([b"4"])
    await converge(engine)
    assert target.history() == [b"3", b"4"]


async def test_what_would_be_replayed_is_explained(engine, source):
    await source.play([b"1", None, b"2"])
    told = await engine.explain(RULE, "b", "k")
    assert (told.action, told.reason) == (
        Action.COPY,
        "2 versions and 1 delete marker not at the target",
    )


async def test_foreign_versions_stay_beneath(engine, source, target):
    await target.play([b"theirs"])
    await source.play([None, b"1", None])
    await converge(engine)
    assert target.history() == [b"theirs", b"1", None]


async def test_a_foreign_version_on_top_is_covered_by_the_newest_state(engine, source, target):
    await source.play([b"1", b"2"])
    await converge(engine)
    await target.play([b"theirs"])
    await converge(engine)
    assert target.history() == [b"1", b"2", b"theirs", b"2"]
    assert (await converge(engine)).decision.action is Action.SKIP


@pytest.mark.parametrize("ownership", ["tandem", "all"])
async def test_a_marker_hides_a_foreign_object_only_where_the_rule_owns_all(
    engine, source, target, ownership
):
    rule = replace(RULE, ownership=ownership)
    await source.play([b"1"])
    await converge(engine, rule)
    await target.play([b"theirs"])
    await source.play([None])
    await converge(engine, rule)
    hidden: History = [None] if ownership == "all" else []
    assert target.history() == [b"1", b"theirs", *hidden]


async def test_the_null_version_of_a_source_whose_versioning_is_suspended(engine, source, target):
    await source.play([b"1"])
    source._bucket.suspended = True
    for newest in (b"2", b"3", None, b"4"):
        await source.play([newest])
        await converge(engine)
        assert (await converge(engine)).decision.action is Action.SKIP
    assert source.history() == [b"1", b"4"]
    assert target.history() == [b"1", b"2", b"3", None, b"4"]


async def test_large_versions_go_by_parts_each_pinned_to_its_version(engine, source, target):
    bodies: History = [b"1" * (PART + 1), b"2" * (PART + 2)]
    await source.play(bodies)
    await converge(engine, RULE)
    assert target.history() == bodies
    assert target.calls.count("complete_upload") == 2


@pytest.mark.parametrize(
    ("site", "state"), [("a", "is off"), ("b", "is off"), ("b", "is suspended")]
)
async def test_a_bucket_that_keeps_no_versions_is_refused_before_anything_is_done(
    engine, source, target, site, state
):
    await source.play([b"1"])
    target.calls.clear()
    bucket = (source if site == "a" else target)._bucket
    if state == "is off":
        bucket.versioned = False
    else:
        bucket.suspended = True
    with pytest.raises(Invalid, match=f"of the bucket {site} of the site {site} {state}: turn"):
        await converge(engine)
    assert set(target.calls) <= {"versioning"}


async def test_a_key_whose_versions_are_not_listed_is_refused(engine, source, target):
    await source.play([b"1"])
    await target.play([b"1"])
    target._bucket.versions = lambda _prefix, _start_after: iter(())  # as MinIO does below `a`
    with pytest.raises(Invalid, match="b holds 'k' and does not list its versions"):
        await converge(engine)
    assert target.history() == [b"1"]


async def test_a_version_that_comes_while_others_are_replayed_is_not_overtaken(
    engine, source, target
):
    await source.play([b"1"])

    async def more() -> None:
        await source.play([b"2", b"3"])

    source.before["is_absent"] = [more]
    target.before["put"] = [more]
    await converge(engine)
    assert target.history() == source.history()


async def test_a_version_that_is_removed_while_it_is_replayed_is_left_out(engine, source, target):
    await source.play([b"1", b"2"])

    async def remove() -> None:
        source._bucket.forget("k", source.ids()[0])

    source.before["head"] = [remove]
    await converge(engine)
    assert target.history() == [b"2"]


async def test_of_two_workers_at_once_neither_writes_what_the_other_has(source, target):
    await source.play([b"1", None, b"2", b"3", None, b"4"])
    await asyncio.gather(*(insisted(engine_of(source, target)) for _ in range(2)))
    assert target.history() == source.history()


async def insisted(engine: Engine) -> None:
    """Converge as often as a queue would ask for it."""
    for _ in range(100):
        try:
            await converge(engine)
        except Conflict:
            continue
        return
    raise AssertionError("no end of conflicts")


BODIES = st.lists(
    st.one_of(st.none(), st.integers(0, 2)).map(
        lambda told: told if told is None else b"%d" % told
    ),
    min_size=1,
    max_size=7,
)


@given(histories=st.lists(BODIES, min_size=1, max_size=3), crashes=st.lists(st.integers(0, 25)))
def test_after_any_history_and_any_crash_the_target_holds_it_in_order(
    histories: list[History], crashes: list[int]
):
    async def scenario() -> None:
        source, target = Site("a"), Site("b")
        left = list(crashes)
        for history in histories:
            await source.play(history)
            while left:
                target.dies_after = left.pop()
                try:
                    await converge(engine_of(source, target))
                except Died:
                    continue
                break
            target.dies_after = None
        await converge(engine_of(source, target))
        assert target.history() == shown(source.history())
        again = await converge(engine_of(source, target))
        assert again.decision.action is Action.SKIP

    asyncio.run(scenario())


@given(
    history=BODIES,
    more=BODIES,
    delays=st.lists(st.integers(0, 12), min_size=2, max_size=3),
    guarded=st.booleans(),
)
def test_workers_at_once_leave_a_history_that_holds_the_sources_and_ends_with_its_state(
    history: History, more: History, delays: list[int], guarded: bool
):
    async def scenario() -> None:
        source = Site("a")
        target = Site("b", replace(CAPABLE, conditional_delete=guarded))

        async def work(delay: int) -> None:
            for _ in range(delay):
                await asyncio.sleep(0)
            await insisted(engine_of(source, target))

        await asyncio.gather(source.play([*history, *more]), *map(work, delays))
        await insisted(engine_of(source, target))
        wanted, told = shown(source.history()), shown(target.history())
        # Equal bytes have equal ETags, which no condition can tell apart: a copy may come twice.
        rest = iter(told)
        assert all(body in rest for body in wanted)
        assert (told or [None])[-1] == (wanted or [None])[-1]

    asyncio.run(scenario())


async def test_a_thorough_sync_finds_versions_below_equal_states_and_of_deleted_keys(
    engine, source, target
):
    for key, history in {"deleted": [b"1", None], "equal": [b"1", b"1"], "k": [b"2"]}.items():
        await source.play(history, key)
    await target.play([b"1", None], "deleted")
    await engine.converge(replace(RULE, versions="latest"), "b", replace(CHANGE, key="equal"))
    source._bucket.add("equal", md5(b"1").hex(), b"1", Content(), (1,))
    told: dict[str, Finding] = {}
    await sync(engine, RULE, "b", lambda found, _: told.update({found.key: found}))
    assert {key: found.decision.action for key, found in told.items()} == {
        "equal": Action.SKIP,
        "k": Action.COPY,
    }
    await sync(engine, RULE, "b", lambda found, _: told.update({found.key: found}), thorough=True)
    assert {key: found.decision.action for key, found in told.items()} == {
        "deleted": Action.COPY,
        "equal": Action.COPY,
        "k": Action.SKIP,
    }
    assert target.history("deleted") == [b"1", None, b"1", None]


async def test_verify_tells_a_gap(engine, source):
    await source.play([b"1", b"2"])
    await engine.converge(replace(RULE, versions="latest"), "b", CHANGE)
    found = [one async for one in examine(engine, RULE, "b")]
    assert [(what(one), one.differs) for one in found] == [("gap", True)]
    assert "1 older version not at the target" in why(found[0])
    assert [what(one) async for one in examine(engine, RULE, "b", thorough=False)] == ["skip"]


async def test_a_thorough_reconcile_queues_keys_that_are_deleted_on_both_sides(source, target):
    await source.play([b"1", None])
    queue = MemoryQueue()
    stores = {"a": source, "b": target}
    rule = replace(RULE, deletes="keep")
    assert (await emit(stores, queue, rule, "b")).emitted == 0
    assert (await emit(stores, queue, rule, "b", thorough=True)).emitted == 1


async def test_versions_are_replayed_to_other_keys(source, target):
    rule = Rule("r", "a", ("b",), prefix="in/", target_prefix="out/", versions="all")
    engine = engine_of(source, target, rule)
    await source.play([b"1", None, b"2"], "in/k")
    await target.play([b"1"], "in/k")
    await engine.converge(rule, "b", replace(CHANGE, key="in/k"))
    assert target.history("out/k") == [b"1", None, b"2"]
    assert target.history("in/k") == [b"1"]
    assert [what(one) async for one in examine(engine, rule, "b")] == ["skip"]
