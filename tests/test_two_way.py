"""A rule that goes both ways, in the order of what can happen to a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tandem.change import Change
from tandem.decision import Action, provenance
from tandem.engine import Engine
from tandem.rule import Rule
from tandem.stores.base import CONFLICTS, Capabilities, Content, ObjectState
from tandem.stores.memory import MemoryStore

RULE = Rule(name="both", source="left", targets=("right",), two_way=True)
CONTENT = Content({"content-type": "text/plain"}, {"owner": "ada"}, {"team": "x"})
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
COPIES = Capabilities(copy=True)


class Pair:
    """Two sites that are kept in step, each with a clock of its own."""

    def __init__(self, *, versioned: bool = True) -> None:
        self.time = {"left": NOON, "right": NOON}
        self.stores = {
            name: MemoryStore(
                name,
                versioned=versioned,
                clock=lambda name=name: self.time[name],
                capabilities=COPIES,
            )
            for name in self.time
        }
        self.engine = Engine(self.stores, [RULE])

    async def write(self, site: str, body: bytes, content: Content = CONTENT) -> None:
        self.time[site] += timedelta(minutes=1)
        await self.stores[site].put("k", body, content)

    async def converge(self, site: str, key: str = "k") -> Action:
        """Handle one change at a site."""
        change = Change(site, key)
        ((rule, target),) = self.engine.routes(change)
        return (await self.engine.converge(rule, target, change)).decision.action

    async def settle(self) -> None:
        """Handle changes of both sites until nothing is done about any."""
        for _ in range(10):
            if {await self.converge("left"), await self.converge("right")} == {Action.SKIP}:
                return
        raise AssertionError("it never becomes quiet")

    async def bodies(self) -> list[bytes | None]:
        found: list[bytes | None] = []
        for store in self.stores.values():
            async with store.open("k") as reader:
                found.append(bytes(await reader.read()) if reader else None)
        return found


@pytest.fixture(params=["left", "right"])
def here(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def there(here: str) -> str:
    return {"left": "right", "right": "left"}[here]


async def test_a_write_on_either_side_reaches_the_other_and_does_not_come_back(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    assert await pair.converge(here) is Action.COPY
    assert await pair.converge(there) is Action.SKIP
    assert await pair.bodies() == [b"1", b"1"]


async def test_an_echo_that_comes_late_undoes_no_newer_write(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.converge(here)
    await pair.write(here, b"2")
    assert await pair.converge(there) is Action.SKIP
    assert await pair.bodies() == [b"2", b"2"]
    assert await pair.converge(here) is Action.SKIP


async def test_the_same_bytes_written_once_more_are_known_to_who_deletes_the_copy(here, there):
    pair = Pair()
    for _ in range(2):
        await pair.write(here, b"1")
        await pair.settle()
    await pair.stores[there].delete("k")
    await pair.converge(there)
    assert await pair.bodies() == [None, None]


async def test_what_was_on_both_sides_comes_back_at_once_where_it_is_deleted(here, there):
    pair = Pair()
    for site in (here, there):
        await pair.write(site, b"1")
        await pair.converge(site)
    await pair.stores[here].delete("k")
    await pair.converge(here)
    assert await pair.bodies() == [b"1", b"1"]


async def test_what_comes_after_the_look_is_no_evidence_of_a_delete(
    here, there, monkeypatch: pytest.MonkeyPatch
):
    pair = Pair()
    await pair.write(there, b"1")
    store = pair.stores[here]
    history = store.history

    async def meanwhile(key: str, most: int) -> tuple[ObjectState, ...]:
        monkeypatch.setattr(store, "history", history)
        await pair.converge(there)
        await pair.write(here, b"1")
        return await history(key, most)

    monkeypatch.setattr(store, "history", meanwhile)
    await pair.converge(here)
    await pair.settle()
    assert await pair.bodies() == [b"1", b"1"]
    kept = pair.stores[there]._bucket._versions["k"]
    assert None not in {version.body for version in kept}


async def test_two_copies_of_each_other_rest(here, there):
    pair = Pair()
    for _ in range(2):
        for site, other in ((here, there), (there, here)):
            state = await pair.stores[other].head("k")
            origin = provenance(other, state) if state else {}
            await pair.write(site, b"1", replace(CONTENT, metadata={"owner": "ada", **origin}))
    for site in (here, there):
        assert await pair.converge(site) is Action.SKIP
    await pair.stores[here].delete("k")
    await pair.converge(here)
    assert await pair.bodies() == [None, None]


async def test_each_side_may_overwrite_what_the_other_wrote(here, there):
    pair = Pair()
    for number, site in enumerate([here, there, there, here]):
        await pair.write(site, b"%d" % number)
        await pair.settle()
        assert await pair.bodies() == [b"%d" % number] * 2


async def test_an_edit_of_metadata_counts_as_a_write(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    copied = await pair.stores[there].head("k")
    assert copied
    await pair.write(there, b"1", replace(CONTENT, metadata={**copied.metadata, "owner": "eve"}))
    await pair.settle()
    for store in pair.stores.values():
        state = await store.head("k")
        assert state
        assert state.metadata["owner"] == "eve"


async def test_a_write_is_newer_than_what_it_overwrote_whatever_the_clocks_say(here, there):
    pair = Pair()
    pair.time[there] += timedelta(hours=1)
    await pair.write(there, b"1")
    await pair.settle()
    for body in (b"2", b"3"):
        await pair.write(here, body)
    await pair.settle()
    assert await pair.bodies() == [b"3", b"3"]


async def test_tags_go_both_ways(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[there].put_tags("k", {"team": "y"})
    assert await pair.converge(there) is Action.RETAG
    assert await pair.stores[here].tags("k") == {"team": "y"}
    assert await pair.converge(here) is Action.SKIP


async def test_a_delete_of_an_original_is_carried_over(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[here].delete("k")
    assert await pair.converge(there) is Action.SKIP
    await pair.settle()
    assert await pair.bodies() == [None, None]


async def test_a_delete_of_a_copy_is_carried_back(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[there].delete("k")
    assert await pair.converge(here) is Action.SKIP
    await pair.settle()
    assert await pair.bodies() == [None, None]


async def test_what_is_written_again_after_its_copy_was_deleted_is_new(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[there].delete("k")
    await pair.write(here, b"1")
    await pair.settle()
    assert await pair.bodies() == [b"1", b"1"]


async def test_a_write_outlives_a_delete_at_the_other_side(here, there):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[here].delete("k")
    await pair.write(there, b"2")
    await pair.settle()
    assert await pair.bodies() == [b"2", b"2"]


async def test_without_versions_a_deleted_copy_comes_back_rather_than_take_the_original(
    here, there
):
    pair = Pair(versioned=False)
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[there].delete("k")
    await pair.settle()
    assert await pair.bodies() == [b"1", b"1"]


async def test_a_rule_that_keeps_deletes_nothing_on_either_side(here):
    pair = Pair()
    await pair.write(here, b"1")
    await pair.settle()
    await pair.stores[here].delete("k")
    rule = replace(RULE, deletes="keep")
    for direction in rule.directions:
        outcome = await pair.engine.converge(direction, direction.targets[0], Change("left", "k"))
        assert outcome.decision.action is Action.SKIP


@pytest.mark.parametrize("first", ["left", "right"])
async def test_of_two_writes_the_later_stands_whichever_is_handled_first(here, there, first):
    pair = Pair()
    await pair.write(here, b"early")
    pair.time[there] += timedelta(hours=1)
    await pair.write(there, b"late")
    await pair.converge(first)
    await pair.settle()
    assert await pair.bodies() == [b"late", b"late"]
    buried = pair.stores[here]._bucket._versions["k"]
    assert b"early" in {version.body for version in buried}


@pytest.mark.parametrize("first", ["left", "right"])
async def test_of_two_writes_at_the_same_time_the_site_that_is_later_by_name_stands(first):
    pair = Pair()
    await pair.write("left", b"l")
    await pair.write("right", b"r")
    await pair.converge(first)
    await pair.settle()
    assert await pair.bodies() == [b"r", b"r"]


async def test_without_versions_the_loser_of_a_conflict_is_kept_aside(here, there):
    pair = Pair(versioned=False)
    await pair.write(here, b"early")
    lost = await pair.stores[here].head("k")
    assert lost
    pair.time[there] += timedelta(hours=1)
    await pair.write(there, b"late")
    await pair.settle()
    async with pair.stores[here].open(f"{CONFLICTS}{lost.etag}/k") as reader:
        assert reader
        assert bytes(await reader.read()) == b"early"
    assert not pair.engine.routes(Change(here, f"{CONFLICTS}{lost.etag}/k"))
