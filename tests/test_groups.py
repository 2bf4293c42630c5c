"""Groups: an index is at the target only when what was there before it is there too."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import backoff as delays
from tandem import patience, retrying
from tandem.attempt import Attempt
from tandem.change import Change, native
from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import Denied, ErrorClass, Transient
from tandem.groups import goes_before
from tandem.metrics import NoMetrics
from tandem.outcome import Outcome
from tandem.patience import LONG, Patience
from tandem.queues.memory import MemoryQueue
from tandem.reconcile import Finding, sync
from tandem.rule import Group, Rule
from tandem.settings import JetStream, Settings, Site
from tandem.stores.base import Content, Entry
from tandem.stores.memory import MemoryStore
from tandem.worker import Worker

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RULE = Rule("tables", "a", ("b",), groups=(Group("*/_SUCCESS"), Group("*.manifest", up=1)))
SITES = {name: Site(name, name, "http://127.0.0.1:9", "u", "p") for name in ("a", "b")}
INDEX = "sales/_SUCCESS"


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("sales/_SUCCESS", "sales/"),
        ("sales/2026/07/_SUCCESS", "sales/2026/07/"),
        ("/_SUCCESS", "/"),
        ("_SUCCESS", None),
        ("sales/_SUCCESS.crc", None),
        ("sales/_success", None),
        ("sales/lists/one.manifest", "sales/"),
        ("lists/one.manifest", ""),
        ("one.manifest", ""),
        ("sales/lists/.manifest", "sales/"),
        ("part-0", None),
    ],
)
def test_a_group_is_what_lies_under_the_indexs_directory(key: str, group: str | None):
    assert RULE.group(key) == group


def test_a_group_reaches_no_further_than_its_rule():
    rule = replace(RULE, prefix="sales/2026/")
    assert rule.group("sales/2026/lists/one.manifest") == "sales/2026/"
    assert rule.group("sales/2026/lists/deep/one.manifest") == "sales/2026/lists/"


def test_the_first_pattern_that_fits_counts():
    rule = replace(RULE, groups=(Group("*/x.manifest"), Group("*.manifest", up=2)))
    assert rule.group("a/b/c/x.manifest") == "a/b/c/"
    assert rule.group("a/b/c/y.manifest") == "a/"


entries = st.builds(
    lambda name, second: Entry(name, "e", 1, NOON + timedelta(seconds=second)),
    st.sampled_from(["t/_SUCCESS", "t/u/_SUCCESS", "t/x.manifest", "x.manifest", "t/1", "t/2"]),
    st.integers(0, 2),
)


@given(st.lists(entries, min_size=1, max_size=6, unique_by=lambda entry: entry.key))
def test_no_indexes_wait_for_each_other_and_one_can_always_go_next(present: list[Entry]):
    left = [entry for entry in present if RULE.group(entry.key) is not None]
    while left:
        free = [one for one in left if not any(goes_before(RULE, other, one) for other in left)]
        assert free
        left.remove(free[0])


@given(entries, entries)
def test_data_goes_before_an_index_that_is_no_older(data: Entry, index: Entry):
    if RULE.group(data.key) is None:
        assert goes_before(RULE, data, index) is (data.last_modified <= index.last_modified)


class Clocked(MemoryStore):
    """A store that a test tells the time, and that counts calls and does something before them."""

    def __init__(self, site: str) -> None:
        self.now = NOON
        super().__init__(site, versioned=True, clock=lambda: self.now)
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], Awaitable[None]] | None = None

    async def _turn(self, operation: str, key: str) -> None:
        self.calls.append((operation, key))
        if self.before:
            await self.before(operation, key)

    async def at(self, second: float, key: str, body: bytes = b"data") -> Change:
        """Put an object at so many seconds after noon."""
        self.now = NOON + timedelta(seconds=second)
        written = await self.put(key, body, Content())
        return Change(self.site, key, etag=written.etag, size=len(body))

    def count(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.calls)


class Sides:
    """A source, a target, and an engine between them."""

    def __init__(self, rule: Rule = RULE) -> None:
        self.rule = rule
        self.source, self.target = Clocked("a"), Clocked("b")
        self.engine = Engine({"a": self.source, "b": self.target}, [rule])

    async def work(self, change: Change | str) -> Outcome:
        told = Change("a", change) if isinstance(change, str) else change
        return await self.engine.converge(self.rule, "b", told)

    async def at_target(self, key: str) -> bool:
        return await self.target.head(key) is not None


@pytest.fixture
def sides() -> Sides:
    return Sides()


async def test_an_index_is_held_back_until_the_last_of_its_group_is_there(sides: Sides):
    await sides.source.at(1, "sales/part-0")
    await sides.source.at(2, "sales/deep/part-1")
    change = await sides.source.at(3, INDEX)
    for awaited in ("sales/deep/part-1", "sales/part-0"):
        held = await sides.work(change)
        assert held.decision.action is Action.HOLD
        assert held.decision.awaits == awaited
        assert held.decision.reason == f"until '{awaited}' is at b"
        assert not held.settled
        assert not await sides.at_target(INDEX)
        await sides.work(awaited)
    copied = await sides.work(change)
    assert copied.decision.action is Action.COPY
    assert copied.settled
    assert await sides.at_target(INDEX)


async def test_what_a_held_index_waits_for_is_told_to_others_and_remembered(sides: Sides):
    await sides.source.at(1, "sales/part-0")
    change = await sides.source.at(2, INDEX)
    told = Attempt.of("w", RULE.name, "b", change, 1, await sides.work(change))
    assert Attempt.load(told.dump()) == told
    assert told.outcome
    assert told.outcome.to_json()["action"] == "hold"
    assert told.outcome.to_json()["awaits"] == "sales/part-0"


def test_a_stacks_file_keeps_the_groups():
    queue = JetStream("nats://127.0.0.1:4222", "u", "p", "dev")
    settings = Settings("dev", SITES, (RULE,), queue)
    assert Settings.parse(settings.dump()) == settings


@pytest.mark.parametrize(
    "key", ["sale/part-0", "part-0", "sales2/part-0", "sales/.conflict", ".tandem/probe/x"]
)
async def test_only_its_group_holds_an_index_back(sides: Sides, key: str):
    await sides.source.at(1, key)
    held = await sides.work(await sides.source.at(2, INDEX))
    assert (held.decision.awaits == key) is key.startswith("sales/")


async def test_what_the_rule_does_not_cover_is_not_waited_for():
    sides = Sides(replace(RULE, suffix="S"))
    await sides.source.at(1, "sales/part-0")
    assert (await sides.work(await sides.source.at(2, INDEX))).decision.action is Action.COPY


async def test_what_came_after_the_index_is_not_waited_for_and_what_came_with_it_is(sides: Sides):
    change = await sides.source.at(1.25, INDEX)
    # A HEAD tells whole seconds, so that only a listing tells these two apart.
    await sides.source.at(1.5, "sales/later")
    assert (await sides.work(change)).decision.action is Action.COPY
    again = await sides.source.at(2.5, INDEX, b"new")
    await sides.source.at(2.5, "sales/with")
    await sides.work("sales/later")
    assert (await sides.work(again)).decision.awaits == "sales/with"


async def test_an_overwritten_member_counts_by_what_it_is_now(sides: Sides):
    await sides.source.at(1, "sales/part-0", b"old")
    await sides.work("sales/part-0")
    await sides.source.at(2, "sales/part-0", b"new")
    change = await sides.source.at(3, INDEX)
    assert (await sides.work(change)).decision.awaits == "sales/part-0"
    await sides.work("sales/part-0")
    assert (await sides.work(change)).decision.action is Action.COPY


async def test_a_member_whose_etag_differs_by_its_parts_alone_is_there(sides: Sides):
    await sides.source.at(1, "sales/part-0")
    await sides.work("sales/part-0")
    state = await sides.target.head("sales/part-0")
    assert state
    upload = await sides.target.create_upload("sales/part-0", Content(metadata=state.metadata))
    part = await sides.target.upload_part("sales/part-0", upload, 1, b"data")
    written = await sides.target.complete_upload("sales/part-0", upload, (part,))
    assert written.etag != state.etag
    change = await sides.source.at(2, INDEX)
    assert (await sides.work(change)).decision.action is Action.COPY


async def test_a_member_deleted_at_the_source_is_not_waited_for(sides: Sides):
    await sides.source.at(1, "sales/part-0")
    change = await sides.source.at(2, INDEX)
    await sides.source.delete("sales/part-0")
    assert (await sides.work(change)).decision.action is Action.COPY


async def test_an_index_waits_for_the_older_index_and_not_the_other_way_round(sides: Sides):
    first = await sides.source.at(1, "t/log/1.manifest")
    second = await sides.source.at(2, "t/log/2.manifest")
    assert (await sides.work(second)).decision.awaits == "t/log/1.manifest"
    assert (await sides.work(first)).decision.action is Action.COPY
    assert (await sides.work(second)).decision.action is Action.COPY


async def test_of_two_indexes_of_one_moment_the_one_whose_key_sorts_later_waits(sides: Sides):
    first = await sides.source.at(1, "t/log/1.manifest")
    second = await sides.source.at(1, "t/log/2.manifest")
    assert (await sides.work(second)).decision.awaits == "t/log/1.manifest"
    assert (await sides.work(first)).decision.action is Action.COPY


async def test_a_new_state_of_the_index_waits_for_what_came_before_it(sides: Sides):
    await sides.work(await sides.source.at(1, INDEX, b"old"))
    await sides.source.at(2, "sales/part-0")
    change = await sides.source.at(3, INDEX, b"new")
    assert (await sides.work(change)).decision.action is Action.HOLD
    async with sides.target.open(INDEX) as reader:
        assert reader
        assert await reader.read() == b"old"


async def test_an_index_that_moves_while_its_group_is_listed_is_looked_at_again(sides: Sides):
    await sides.source.at(1, "sales/part-0")
    await sides.work("sales/part-0")
    change = await sides.source.at(2, INDEX, b"old")

    async def meanwhile(operation: str, _: str) -> None:
        if operation == "list":
            sides.source.before = None
            await sides.source.at(3, "sales/part-1")
            await sides.source.at(4, INDEX, b"new")

    sides.source.before = meanwhile
    outcome = await sides.work(change)
    assert outcome.decision.awaits == "sales/part-1"
    assert not await sides.at_target(INDEX)


async def test_an_index_overwritten_after_it_was_written_is_held_and_says_so(sides: Sides):
    change = await sides.source.at(1, INDEX, b"old")

    async def meanwhile(operation: str, _: str) -> None:
        if operation == "put":
            sides.target.before = None
            await sides.source.at(2, "sales/part-0")
            await sides.source.at(3, INDEX, b"new")

    sides.target.before = meanwhile
    outcome = await sides.work(change)
    assert outcome.decision.action is Action.HOLD
    assert not outcome.settled


async def test_an_index_that_is_there_already_or_deleted_costs_no_listing(sides: Sides):
    change = await sides.source.at(1, INDEX)
    await sides.work(change)
    listings = sides.source.count("list")
    await sides.source.at(0.5, "sales/part-0")
    assert (await sides.work(change)).decision.reason == "equal"
    await sides.source.put_tags(INDEX, {"new": "tag"})
    assert (await sides.work(change)).decision.action is Action.RETAG
    await sides.source.delete(INDEX)
    assert (await sides.work(change)).decision.action is Action.DELETE
    assert sides.source.count("list") == listings


async def test_data_is_never_held_back_and_listed_for(sides: Sides):
    change = await sides.source.at(1, "sales/part-0")
    assert (await sides.work(change)).decision.action is Action.COPY
    assert sides.source.count("list") == sides.target.count("list") == 0


async def test_the_check_ends_at_the_first_that_is_missing(sides: Sides):
    for number in range(20):
        await sides.source.at(1, f"sales/part-{number:02}")
    change = await sides.source.at(2, INDEX)
    heads = sides.source.count("head")
    assert (await sides.work(change)).decision.awaits == "sales/part-00"
    assert sides.source.count("head") == heads + 2


async def test_both_ways_each_direction_keeps_its_own_order():
    sides = Sides(replace(RULE, two_way=True))
    there, back = sides.engine.rules
    await sides.source.at(1, "sales/part-0")
    await sides.target.at(1, "stock/part-0")
    await sides.source.at(2, "sales/_SUCCESS")
    await sides.target.at(2, "stock/_SUCCESS")
    for rule, to, group in ((there, "b", "sales"), (back, "a", "stock")):
        index = Change(rule.source, f"{group}/_SUCCESS")
        held = await sides.engine.converge(rule, to, index)
        assert held.decision.awaits == f"{group}/part-0"
        await sides.engine.converge(rule, to, Change(rule.source, f"{group}/part-0"))
        copied = await sides.engine.converge(rule, to, index)
        assert copied.decision.action is Action.COPY


@pytest.mark.parametrize("target_prefix", ["", "copies/of/"])
async def test_under_other_keys_the_group_is_the_sources(target_prefix: str):
    sides = Sides(replace(RULE, prefix="sales/", target_prefix=target_prefix))
    await sides.source.at(1, "sales/2026/part-0")
    await sides.target.at(1, "2026/part-0", b"theirs")
    change = await sides.source.at(2, "sales/2026/_SUCCESS")
    assert (await sides.work(change)).decision.awaits == "sales/2026/part-0"
    await sides.work("sales/2026/part-0")
    assert (await sides.work(change)).decision.action is Action.COPY
    assert await sides.at_target(f"{target_prefix}2026/_SUCCESS")


async def test_what_has_not_the_rules_tags_is_not_waited_for():
    sides = Sides(replace(RULE, where_tags={"ready": "yes"}))
    await sides.source.at(1, "sales/draft")
    change = await sides.source.at(2, INDEX)
    await sides.source.put_tags(INDEX, {"ready": "yes"})
    assert (await sides.work(change)).decision.action is Action.COPY
    await sides.source.at(3, "sales/part-0")
    await sides.source.put_tags("sales/part-0", {"ready": "yes"})
    change = await sides.source.at(4, INDEX, b"new")
    await sides.source.put_tags(INDEX, {"ready": "yes"})
    assert (await sides.work(change)).decision.awaits == "sales/part-0"


async def synced(sides: Sides) -> list[Finding]:
    found: list[Finding] = []
    await sync(sides.engine, sides.rule, "b", lambda finding, _: found.append(finding), in_flight=2)
    return found


async def test_a_sync_leaves_the_indexes_to_the_end_the_oldest_first():
    sides = Sides()
    # As many indexes as there are lanes sort before the data that they wait for.
    for number in range(5):
        await sides.source.at(9 - number, f"t/{number}.manifest")
    await sides.source.at(1, "t/x")
    await sides.source.at(1, "t/sub/_SUCCESS")
    found = await synced(sides)
    assert [finding.key for finding in found if finding.error] == []
    assert [finding.key for finding in found] == [
        "t/x",
        "t/sub/_SUCCESS",
        *(f"t/{number}.manifest" for number in reversed(range(5))),
    ]


async def test_a_sync_reports_an_index_whose_member_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrying, "PAUSE", 0.001)
    sides = Sides()
    await sides.source.at(1, "sales/bad")
    await sides.source.at(2, INDEX)
    sides.target.before = refusing("sales/bad")
    errors = {finding.key: str(finding.error) for finding in await synced(sides)}
    assert errors == {"sales/bad": "no", INDEX: "held back until 'sales/bad' is at b"}
    assert not await sides.at_target(INDEX)


def refusing(refused: str) -> Callable[[str, str], Awaitable[None]]:
    async def refuse(operation: str, key: str) -> None:
        if (operation, key) == ("put", refused):
            raise Denied("no")

    return refuse


class Office:
    """Workers on one queue in memory."""

    def __init__(self, sides: Sides, workers: int = 1, slots: int = 1) -> None:
        self.queue = MemoryQueue(lease=5.0)
        self.sides, self.count, self.slots = sides, workers, slots

    async def work(self, *changes: Change) -> None:
        """Handle changes until nothing is left."""
        await self.queue.send(*changes)
        engine = self.sides.engine
        workers = [
            Worker(self.queue, engine, SITES, NoMetrics(), self.slots) for _ in range(self.count)
        ]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        async with asyncio.timeout(60):
            while self.busy():  # noqa: ASYNC110 -- the queue has no event
                await asyncio.sleep(0.005)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)

    def busy(self) -> bool:
        """Return whether more is queued than looks that come late."""
        told = [native(message.body) for message in self.queue._messages]
        return any(change.due is None for change in told)

    async def failures(self) -> dict[str, tuple[ErrorClass, str]]:
        return {
            failure.change.key: (failure.error_class, failure.message)
            async for failure in self.queue.failures()
            if failure.change
        }


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "FIRST_DELAY", 0.005)
    monkeypatch.setattr(delays, "LONGEST_DELAY", 0.05)


@pytest.mark.usefixtures("fast")
async def test_a_held_index_takes_no_slot_and_tells_for_which_key_it_waits(sides: Sides):
    office = Office(sides, slots=1)
    data = await sides.source.at(1, "sales/part-0")
    await office.work(await sides.source.at(2, INDEX), data)
    told = [one.outcome for one in await office.queue.history(INDEX)]
    assert [outcome.decision.awaits if outcome else "" for outcome in told] == [
        "sales/part-0",
        None,
    ]
    assert await sides.at_target(INDEX)


@pytest.mark.usefixtures("fast")
async def test_members_whose_events_were_lost_are_called_for(sides: Sides):
    for number in range(3):
        await sides.source.at(1, f"sales/part-{number}")
    office = Office(sides)
    await office.work(await sides.source.at(2, INDEX))
    assert await sides.at_target("sales/part-2")
    assert await sides.at_target(INDEX)
    # Each once, though the index came several times.
    attempts = [await office.queue.history(f"sales/part-{number}") for number in range(3)]
    assert [len(told) for told in attempts] == [1, 1, 1]


@pytest.mark.usefixtures("fast")
async def test_what_fails_for_good_takes_the_index_along_and_is_redriven_with_it(sides: Sides):
    office = Office(sides)
    data = await sides.source.at(1, "sales/bad")
    sides.target.before = refusing("sales/bad")
    await office.work(data, await sides.source.at(2, INDEX))
    assert await office.failures() == {
        "sales/bad": (ErrorClass.DENIED, "no"),
        INDEX: (
            ErrorClass.DENIED,
            f"a:'{INDEX}' is held back until 'sales/bad' is at b, and that has failed: no",
        ),
    }
    sides.target.before = None
    failed = [one async for one in office.queue.failures()]
    for one in failed:
        await office.queue.drop(one)
    await office.work(*(one.change for one in failed[::-1] if one.change))
    assert await sides.at_target(INDEX)
    assert await office.failures() == {}


@pytest.mark.usefixtures("fast")
async def test_a_failure_of_a_state_that_is_gone_takes_nothing_along(sides: Sides):
    office = Office(sides)
    sides.target.before = refusing("sales/bad")
    await office.work(await sides.source.at(1, "sales/bad", b"bad"))
    sides.target.before = None
    await sides.source.at(2, "sales/bad", b"good")  # and its event is lost
    await office.work(await sides.source.at(3, INDEX))
    assert await sides.at_target(INDEX)
    assert list(await office.failures()) == ["sales/bad"]


@pytest.mark.usefixtures("fast")
async def test_a_fault_of_ours_that_is_still_tried_takes_nothing_along(sides: Sides):
    office = Office(sides, slots=2)
    left = [ZeroDivisionError("oops") for _ in range(3)]

    async def stumble(operation: str, key: str) -> None:
        if (operation, key) == ("put", "sales/part-0") and left:
            raise left.pop()

    sides.target.before = stumble
    data = await sides.source.at(1, "sales/part-0")
    await office.work(data, await sides.source.at(2, INDEX))
    assert await office.failures() == {}
    assert await sides.at_target(INDEX)


class Watched(Clocked):
    """A target that is slow at random, and notes what each index names that is not there."""

    def __init__(self, site: str, chance: random.Random, named: dict[str, set[str]]) -> None:
        super().__init__(site)
        self.named = named
        self.chance = chance
        self.broken: set[str] = set()

    async def _turn(self, operation: str, key: str) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.003))
        if operation == "put":
            # Nothing comes between this and the write itself.
            present = {one for one in self.named.get(key, ()) if self._bucket.current(one)}
            self.broken |= self.named.get(key, set()) - present


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("seed", range(8))
async def test_whoever_reads_an_index_finds_what_it_names_at_every_moment(seed: int):
    chance = random.Random(seed)
    # Each index names what its group held when it was written.
    named: dict[str, set[str]] = {}
    sides = Sides()
    sides.target = Watched("b", chance, named)
    sides.engine = Engine({"a": sides.source, "b": sides.target}, [RULE])
    second, changes = 0.0, []
    for table in ("sales", "sales/2026", "stock"):
        for number in range(chance.randrange(1, 8)):
            second += chance.choice([0, 0.001, 1])
            changes.append(await sides.source.at(second, f"{table}/part-{number}"))
        index = f"{table}/_SUCCESS"
        named[index] = {one.key for one in changes if one.key.startswith(f"{table}/")}
        changes.append(await sides.source.at(second, index))
    # Some events are lost, some come twice, all in any order.
    told = [one for one in changes if one.key in named or chance.random() < 0.8]
    told += chance.sample(changes, 3)
    chance.shuffle(told)
    await Office(sides, workers=3, slots=4).work(*told)
    assert sides.target.broken == set()
    assert [one.key for one in changes if not await sides.at_target(one.key)] == []


async def test_nothing_is_called_for_while_many_changes_wait(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
):
    await sides.source.at(1, "sales/part-0")
    held = await sides.work(await sides.source.at(2, INDEX))
    queue = MemoryQueue()
    office = Patience(queue, sides.engine)
    await queue.send(Change("a", "another"))
    monkeypatch.setattr(patience, "BACKLOG", 0)
    await office.mind(RULE, "b", held, LONG)
    assert (await queue.backlog()).count == {"a": 1}
    monkeypatch.setattr(patience, "BACKLOG", 1)
    for _ in range(2):  # and then only once
        await office.mind(RULE, "b", held, LONG)
        assert (await queue.backlog()).count == {"a": 2}


async def test_what_is_tried_again_anyway_is_not_called_for(sides: Sides):
    data = await sides.source.at(1, "sales/part-0")
    held = await sides.work(await sides.source.at(2, INDEX))
    queue = MemoryQueue()
    await queue.publish_outcome(Attempt.of("w", RULE.name, "b", data, 1, Transient("reset")))
    await Patience(queue, sides.engine).mind(RULE, "b", held, LONG)
    assert (await queue.backlog()).count == {}
