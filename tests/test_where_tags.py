"""Rules that cover only objects with certain tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tandem.change import Change
from tandem.cli.inquiry import uncovered
from tandem.decision import UNCOVERED, Action, Look, View, decide
from tandem.engine import Engine
from tandem.errors import Denied
from tandem.looking import look
from tandem.outcome import Outcome
from tandem.protocol import losses
from tandem.reconcile import Finding, examine, sync
from tandem.report import Tally
from tandem.rule import Rule
from tandem.sample import Sample
from tandem.settings import JetStream, Settings
from tandem.stores.base import Capabilities, Content
from tandem.stores.memory import MemoryStore

RULE = Rule("r", "a", ("b",), where_tags={"project": "x"})
BOTH = replace(RULE, where_tags={"project": "x", "stage": "final"})
UNTAGGED = replace(RULE, tags=False)
X = {"project": "x"}


class Counting(MemoryStore):
    """A store that knows what it was asked for."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[str] = []
        self.fault: Exception | None = None

    async def _turn(self, operation: str, key: str) -> None:
        self.calls.append(operation)
        if self.fault and operation == "tags":
            raise self.fault
        await super()._turn(operation, key)


@pytest.fixture
def source() -> Counting:
    return Counting("a")


@pytest.fixture
def target() -> Counting:
    return Counting("b")


@pytest.fixture
def engine(source: Counting, target: Counting) -> Engine:
    return Engine({"a": source, "b": target}, [RULE])


async def put(store: MemoryStore, tags: Mapping[str, str], body: bytes = b"1", key: str = "k"):
    await store.put(key, body, Content(tags=tags))


async def converge(engine: Engine, rule: Rule = RULE, key: str = "k") -> Outcome:
    return await engine.converge(rule, "b", Change("a", key, size=1))


async def body_of(store: MemoryStore, key: str = "k") -> bytes | None:
    async with store.open(key) as reader:
        return bytes(await reader.read()) if reader else None


@pytest.mark.parametrize(
    ("rule", "tags", "covered"),
    [
        (RULE, {}, False),
        (RULE, {"project": "y"}, False),
        (RULE, {"Project": "x"}, False),
        (RULE, {"other": "x"}, False),
        (RULE, X, True),
        (RULE, X | {"more": "z"}, True),
        (BOTH, X, False),
        (BOTH, X | {"stage": "final"}, True),
        (UNTAGGED, X, True),
        (UNTAGGED, {}, False),
    ],
)
async def test_an_object_is_covered_if_it_has_all_the_tags(
    engine: Engine, source: Counting, target: Counting, rule: Rule, tags: dict[str, str], covered
):
    await put(source, tags)
    outcome = await converge(engine, rule)
    assert outcome.decision.action is (Action.COPY if covered else Action.SKIP)
    assert (outcome.decision.reason == UNCOVERED) is not covered
    assert (await body_of(target) == b"1") is covered
    if covered:
        assert await target.tags("k") == (tags if rule.tags else {})


async def test_what_gets_the_tags_later_is_copied_then(
    engine: Engine, source: Counting, target: Counting
):
    await put(source, {})
    assert (await converge(engine)).decision.action is Action.SKIP
    await source.put_tags("k", X)
    assert (await converge(engine)).decision.action is Action.COPY
    assert await target.tags("k") == X


async def test_what_loses_the_tags_leaves_its_copy_as_it_was_until_it_has_them_again(
    engine: Engine, source: Counting, target: Counting
):
    await put(source, X, b"1")
    await converge(engine)
    await source.put_tags("k", {"project": "y"})
    assert (await converge(engine)).decision == decide(
        Look(await state_of(source), {}, covered=False), None, RULE
    )
    await put(source, {}, b"2")
    assert (await converge(engine)).decision.reason == UNCOVERED
    assert await body_of(target) == b"1"
    assert await target.tags("k") == X
    await source.put_tags("k", X)
    assert (await converge(engine)).decision.action is Action.COPY
    assert await body_of(target) == b"2"


async def state_of(store: MemoryStore) -> Any:
    return await store.head("k")


@pytest.mark.parametrize("ownership", ["tandem", "all"])
async def test_a_delete_takes_what_was_copied_and_nothing_else(
    engine: Engine, source: Counting, target: Counting, ownership: Any
):
    rule = replace(RULE, ownership=ownership)
    await put(source, X)
    await converge(engine, rule)
    await source.put_tags("k", {})
    await source.delete("k")
    await put(target, X, b"theirs", "theirs")
    assert (await converge(engine, rule)).decision.action is Action.DELETE
    assert (await converge(engine, rule, "theirs")).decision.action is Action.SKIP
    assert [entry.key async for entry in target.list()] == ["theirs"]


async def test_tags_that_go_while_a_copy_is_made_end_in_no_further_write(
    engine: Engine, source: Counting, target: Counting
):
    await put(source, X)
    write = target.put

    async def put_and_untag(*arguments: Any, **named: Any) -> Any:
        await source.put_tags("k", {})
        return await write(*arguments, **named)

    target.put = put_and_untag  # type: ignore[method-assign] -- only here do tags go meanwhile
    for rule in (RULE, UNTAGGED):
        outcome = await converge(engine, rule)
        assert outcome.decision.action is Action.COPY
        assert outcome.rounds == 2
        await source.put_tags("k", X)
        await target.delete("k")


async def test_tags_that_cannot_be_read_are_no_reason_to_skip(
    engine: Engine, source: Counting, target: Counting
):
    await put(source, X)
    source.fault = Denied("403")
    with pytest.raises(Denied):
        await converge(engine)
    assert await body_of(target) is None


async def test_only_the_source_is_asked_for_tags_that_are_not_carried_over(
    engine: Engine, source: Counting, target: Counting
):
    await put(source, X)
    await converge(engine, UNTAGGED)
    await converge(engine, UNTAGGED)
    assert "tags" in source.calls
    assert "tags" not in target.calls
    # Whose HEAD says that there are none is not asked for them.
    await put(source, {})
    source.calls.clear()
    await converge(engine, UNTAGGED)
    assert "tags" not in source.calls


async def test_an_object_that_is_not_covered_is_never_read(engine: Engine, source: Counting):
    await put(source, {"project": "y"})
    source.calls.clear()
    await converge(engine)
    assert sorted(source.calls) == ["head", "tags"]


async def test_a_walk_counts_what_is_not_covered_apart_and_asks_only_where_listings_differ(
    engine: Engine, source: Counting, target: Counting
):
    for number in range(3):
        await put(source, X, b"1", f"in/{number}")
        await put(source, {"project": "y"}, b"1", f"out/{number}")
    found: list[Finding] = []
    await sync(engine, RULE, "b", lambda finding, _: found.append(finding))
    assert [entry.key async for entry in target.list()] == ["in/0", "in/1", "in/2"]
    tally = Tally.of(RULE, "b")
    for finding in found:
        tally.add(finding)
    assert (tally.actions["copy"], tally.uncovered, tally.failed) == (3, 3, 0)
    assert tally.to_json()["uncovered"] == 3
    source.calls.clear()
    quick = [one async for one in examine(engine, RULE, "b", thorough=False)]
    assert not any(one.differs or one.error or one.foreign for one in quick)
    assert source.calls.count("tags") == 3
    thorough = [one async for one in examine(engine, RULE, "b", sample=Sample(100, 1))]
    assert not any(one.differs or one.error or one.foreign for one in thorough)


async def test_a_copy_that_was_left_behind_is_neither_different_nor_corrupt(
    engine: Engine, source: Counting
):
    await put(source, X, b"1")
    await converge(engine)
    await put(source, {}, b"2")
    (found,) = [one async for one in examine(engine, RULE, "b", sample=Sample(100, 1))]
    assert found.uncovered
    assert not found.differs
    assert found.reading is None


async def test_a_look_tells_whether_the_object_is_covered(source: Counting):
    await put(source, X | {"more": "z"})
    seen = await look(source, "k", View(tags=False, where_tags=X))
    assert seen
    assert seen.covered
    assert seen.tags == {}


def test_rules_with_tags_can_be_told_apart_written_down_and_explained():
    queue = JetStream("nats://127.0.0.1:1", "u", "p", "s")
    settings = Settings("s", {}, (RULE, BOTH), queue)
    assert Settings.parse(settings.dump()).rules == (RULE, BOTH)
    assert len({RULE, BOTH, UNTAGGED}) == 3
    (told,) = uncovered([BOTH], "k")
    assert told.endswith("own, of objects with the tags project=x, stage=final, from a")


def test_a_source_without_tags_is_told_of():
    told = losses(Capabilities(tags=False), Capabilities(tags=True), RULE)
    assert "The source has no tags, by which the rule chooses its objects." in told
