"""Converging one key, in the order of the contract's sentences."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem.change import Change
from tandem.decision import Action, own_metadata
from tandem.engine import Engine
from tandem.errors import Conflict, Missing, Throttled, Transient
from tandem.late_look import SETTLE
from tandem.outcome import Outcome
from tandem.rule import Rule
from tandem.stores.base import Capabilities, Content
from tandem.stores.memory import MemoryStore
from tandem.transfer import Transfer

RULE = Rule(name="documents", source="a", targets=("b",))
CHANGE = Change(site="a", key="k")
SMALL_HINT = replace(CHANGE, size=3)
CONTENT = Content(
    headers={"content-type": "text/plain", "cache-control": "max-age=9"},
    metadata={"owner": "ada"},
    tags={"team": "x"},
)

Step = Callable[[], Awaitable[object]]


class Scripted(MemoryStore):
    """A store in which things happen just before a given call is carried out."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[str] = []
        self.before: dict[str, list[Step]] = {}

    async def _turn(self, operation: str, key: str) -> None:
        self.calls.append(operation)
        for step in self.before.pop(operation, []):
            await step()
        await super()._turn(operation, key)


@pytest.fixture
def source() -> Scripted:
    return Scripted("a")


@pytest.fixture
def target() -> Scripted:
    return Scripted("b")


@pytest.fixture
def engine(source: Scripted, target: Scripted) -> Engine:
    return Engine({"a": source, "b": target}, [RULE], Transfer(part_size=5 * 1024**2))


def failing(error: Exception) -> Step:
    async def fail() -> None:
        raise error

    return fail


async def body_of(store: MemoryStore, key: str = "k") -> bytes | None:
    async with store.open(key) as reader:
        return None if reader is None else bytes(await reader.read())


async def converge(engine: Engine, change: Change = CHANGE, rule: Rule = RULE) -> Outcome:
    return await engine.converge(rule, "b", change)


@pytest.mark.parametrize("change", [CHANGE, SMALL_HINT], ids=["unhinted", "hinted"])
async def test_a_copy_keeps_bytes_headers_metadata_and_tags(engine, source, target, change):
    await source.put("k", b"abc", CONTENT)
    outcome = await converge(engine, change)
    state = await target.head("k")
    assert state is not None
    assert await body_of(target) == b"abc"
    assert state.headers == CONTENT.headers
    assert state.metadata["owner"] == "ada"
    assert state.metadata["tandem-source"] == "a"
    assert await target.tags("k") == {"team": "x"}
    assert (outcome.decision.action, outcome.size, outcome.rounds) == (Action.COPY, 3, 1)
    assert outcome.lag is not None


async def test_a_second_notification_finds_nothing_to_do(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    target.calls.clear()
    outcome = await converge(engine)
    assert outcome.decision.action is Action.SKIP
    assert not {"put", "delete", "put_tags"} & set(target.calls)


async def test_a_hint_that_lies_about_the_size_is_not_believed(engine, source, target):
    body = bytes(6 * 1024**2)
    await source.put("k", body, CONTENT)
    await converge(engine, SMALL_HINT)
    assert await body_of(target) == body
    assert "create_upload" in target.calls


async def test_a_delete_at_the_source_deletes_the_copy(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.delete("k")
    outcome = await converge(engine, replace(CHANGE, removed=True))
    assert outcome.decision.action is Action.DELETE
    assert await target.head("k") is None


async def test_a_stale_delete_notification_deletes_nothing(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine, replace(CHANGE, removed=True))
    assert await body_of(target) == b"abc"


async def test_a_stale_create_notification_resurrects_nothing(engine, target):
    await converge(engine, SMALL_HINT)
    assert await target.head("k") is None


async def test_a_missing_source_bucket_is_no_evidence_of_a_delete(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.delete("k")
    source.before["is_absent"] = [failing(Missing("NoSuchBucket"))]
    with pytest.raises(Missing):
        await converge(engine)
    assert await body_of(target) == b"abc"


async def test_a_failed_look_deletes_nothing(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.delete("k")
    for operation in ("head", "is_absent"):
        source.before[operation] = [failing(Throttled("SlowDown"))]
        with pytest.raises(Throttled):
            await converge(engine)
    assert await body_of(target) == b"abc"


async def test_evidence_older_than_the_copy_it_would_delete_deletes_nothing(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.delete("k")
    target.before["head"] = [lambda: source.put("k", b"new", CONTENT)]
    for change in (CHANGE, SMALL_HINT):
        await converge(engine, change)
        assert await body_of(target) == b"new"
    assert "delete" not in target.calls


async def test_a_missing_target_bucket_is_no_evidence_that_nothing_is_left_to_delete(
    engine, source, target, monkeypatch
):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.delete("k")

    async def nothing(_: str) -> None:
        return None

    with monkeypatch.context() as gone:
        gone.setattr(target, "head", nothing)
        target.before["is_absent"] = [failing(Missing("NoSuchBucket"))]
        with pytest.raises(Missing):
            await converge(engine)
    await converge(engine)
    assert await body_of(target) is None


async def test_what_tandem_did_not_write_survives_a_delete(engine, target):
    await target.put("k", b"theirs", Content())
    outcome = await converge(engine, replace(CHANGE, removed=True))
    assert outcome.decision.action is Action.SKIP
    assert await body_of(target) == b"theirs"


async def test_an_edit_of_tags_moves_no_bytes(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.put_tags("k", {"team": "y"})
    target.calls.clear()
    outcome = await converge(engine)
    assert outcome.decision.action is Action.RETAG
    assert await target.tags("k") == {"team": "y"}
    assert "put" not in target.calls


async def test_a_source_overwritten_during_the_copy_wins(engine, source, target):
    """The look-again step: the newer source is there when the write is done."""
    await source.put("k", b"old", CONTENT)

    async def overwrite() -> None:
        await source.put("k", b"new", CONTENT)

    target.before["put"] = [overwrite]
    outcome = await converge(engine, SMALL_HINT)
    assert await body_of(target) == b"new"
    assert outcome.rounds == 2


async def test_a_source_deleted_during_the_copy_leaves_nothing_behind(engine, source, target):
    await source.put("k", b"old", CONTENT)
    target.before["put"] = [lambda: source.delete("k")]
    await converge(engine, SMALL_HINT)
    assert await target.head("k") is None


async def test_a_source_that_returns_during_the_delete_is_copied_again(engine, source, target):
    await source.put("k", b"old", CONTENT)
    await converge(engine)
    await source.delete("k")

    async def restore() -> None:
        await source.put("k", b"new", CONTENT)

    target.before["delete"] = [restore]
    await converge(engine)
    assert await body_of(target) == b"new"


async def test_a_stale_writer_does_not_overwrite_a_newer_copy(engine, source, target):
    """v1 is held at its put while v2 is written and copied by another worker."""
    await source.put("k", b"v1", CONTENT)

    async def another_worker_copies_v2() -> None:
        await source.put("k", b"v2", CONTENT)
        await converge(engine)

    target.before["put"] = [another_worker_copies_v2]
    await converge(engine, SMALL_HINT)
    assert await body_of(target) == b"v2"


async def test_a_stale_writer_without_conditions_repairs_what_it_overwrote(source, target):
    target.capabilities = Capabilities(conditional_put=False)
    engine = Engine({"a": source, "b": target}, [RULE])
    await source.put("k", b"v1", CONTENT)

    async def another_worker_copies_v2() -> None:
        await source.put("k", b"v2", CONTENT)
        await converge(engine)

    target.before["put"] = [another_worker_copies_v2]
    await converge(engine, SMALL_HINT)
    assert await body_of(target) == b"v2"


async def test_an_overwrite_between_two_ranges_never_tears_the_copy(engine, source, target):
    await source.put("k", b"1" * (12 * 1024**2), CONTENT)

    async def overwrite() -> None:
        await source.put("k", b"2" * (12 * 1024**2), CONTENT)

    target.before["upload_part"] = [overwrite]
    await converge(engine)
    assert await body_of(target) == b"2" * (12 * 1024**2)
    assert await target.list_uploads("k") == ()


async def test_a_delete_that_may_still_happen_asks_for_another_look(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    await converge(engine)
    await source.delete("k")
    target.before["delete"] = [failing(Transient("timed out", unresolved=True))]
    outcome = await converge(engine)
    assert outcome.recheck == SETTLE
    assert await target.head("k") is None


async def test_a_conditional_write_that_may_still_happen_wants_another_look(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    target.before["put"] = [failing(Transient("timed out", unresolved=True))]
    outcome = await converge(engine)
    assert outcome.decision.action is Action.COPY
    assert outcome.recheck == SETTLE


async def test_a_write_that_may_still_happen_is_not_forgotten_over_a_later_fault(
    engine, source, target
):
    await source.put("k", b"abc", CONTENT)
    target.before["put"] = [failing(Transient("timed out", unresolved=True))]

    async def then_the_source_is_busy() -> None:
        source.before["head"] = [failing(Throttled("SlowDown"))]

    source.before["open"] = [then_the_source_is_busy]
    with pytest.raises(Throttled) as busy:
        await converge(engine, SMALL_HINT)
    assert busy.value.unresolved


async def test_a_key_that_somebody_is_busy_with_is_not_asked_about_again_at_once(
    engine, source, target
):
    await source.put("k", b"abc", CONTENT)
    busy = Conflict("another worker is sending", retry_after=9.0)
    target.before["put"] = [failing(busy)]
    with pytest.raises(Conflict):
        await converge(engine)
    assert target.calls.count("head") == 1


async def test_a_key_that_never_holds_still_is_given_back_to_the_queue(source):
    await source.put("k", b"0", CONTENT)
    number = 0

    class Restless(Scripted):
        async def _turn(self, operation: str, key: str) -> None:
            nonlocal number
            if operation == "put":
                number += 1
                await source.put("k", str(number).encode(), CONTENT)
            await super()._turn(operation, key)

    engine = Engine({"a": source, "b": Restless("b")}, [RULE])
    with pytest.raises(Conflict, match="did not hold still"):
        await converge(engine)


async def test_a_rule_that_keeps_its_sources_parts_makes_the_same_etag(source, target):
    rule = replace(RULE, parts="source")
    engine = Engine({"a": source, "b": target}, [rule])
    upload = await source.create_upload("k", CONTENT)
    bodies = [b"1" * 6 * 1024**2, b"2" * 7 * 1024**2, b"3"]
    parts = [await source.upload_part("k", upload, n, b) for n, b in enumerate(bodies, 1)]
    written = await source.complete_upload("k", upload, tuple(parts))
    await converge(engine, rule=rule)
    state = await target.head("k")
    assert state is not None
    assert state.etag == written.etag


async def test_lag_is_told_by_the_notification_only_if_it_speaks_of_this_object(engine, source):
    written = await source.put("k", b"abc", CONTENT)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    other = await converge(engine, replace(CHANGE, etag="other", time=long_ago))
    assert other.lag is not None
    await source.put("k", b"abcd", CONTENT)
    again = await source.head("k")
    assert again is not None
    assert again.etag != written.etag
    hinted = await converge(engine, replace(CHANGE, etag=again.etag, time=long_ago))
    assert hinted.lag is not None
    assert hinted.lag > 10**7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change("a", "in/k.csv"), [("one", "b"), ("one", "c"), ("two", "d")]),
        (Change("a", "in/k.txt"), [("two", "d")]),
        (Change("a", "out/k.csv"), []),
        (Change("b", "in/k.csv"), []),
        (Change("a", "in/k.csv", rule="one"), [("one", "b"), ("one", "c")]),
        (Change("a", "in/k.csv", rule="one", target="c"), [("one", "c")]),
    ],
)
def test_a_change_concerns_the_rules_that_cover_its_key(change, expected):
    rules = [
        Rule("one", "a", ("b", "c"), prefix="in/", suffix=".csv"),
        Rule("two", "a", ("d",), prefix="in/"),
    ]
    assert [(rule.name, to) for rule, to in Engine({}, rules).routes(change)] == expected


async def test_an_explanation_changes_nothing(engine, source, target):
    await source.put("k", b"abc", CONTENT)
    decision = await engine.explain(RULE, "b", "k")
    assert decision.action is Action.COPY
    assert await target.head("k") is None


async def test_a_rule_without_metadata_neither_carries_nor_compares_it(engine, source, target):
    rule = replace(RULE, metadata=False)
    await source.put("k", b"one", CONTENT)
    await converge(engine, rule=rule)
    state = await target.head("k")
    assert own_metadata(state.metadata) == {}
    assert (await converge(engine, rule=rule)).decision.action is Action.SKIP


async def test_a_rule_gives_copies_its_storage_class(engine, source, target, monkeypatch):
    given = []
    put = target.put

    async def noted(key, body, content, *rest):
        given.append(content.storage_class)
        return await put(key, body, content, *rest)

    monkeypatch.setattr(target, "put", noted)
    await source.put("k", b"one", CONTENT)
    await converge(engine, SMALL_HINT, replace(RULE, storage_class="GLACIER_IR"))
    assert given == ["GLACIER_IR"]


async def test_deletes_beyond_the_budget_of_an_hour_are_held_back(engine, source, target):
    rule = replace(RULE, deletes_per_hour=2)
    for key in "abc":
        await source.put(key, b"1", CONTENT)
        await converge(engine, Change("a", key), rule)
        await source.delete(key)
    for key in "ab":
        assert (await converge(engine, Change("a", key), rule)).decision.action is Action.DELETE
    with pytest.raises(Throttled, match=r"deletesPerHour is 2") as held:
        await converge(engine, Change("a", "c"), rule)
    assert 3590 < held.value.retry_after <= 3600
    assert await body_of(target, "c") == b"1"
