"""Rules under which an object has another key at the target."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.change import Change
from tandem.decision import SOURCE_KEY, Action
from tandem.emission import emit
from tandem.engine import Engine
from tandem.errors import Invalid, Transient
from tandem.listings import walk
from tandem.looking import both_keys_named
from tandem.outcome import Outcome
from tandem.queues.memory import MemoryQueue
from tandem.reconcile import Finding, examine, sync
from tandem.rule import OWN, Rule
from tandem.sample import Sample
from tandem.stores.base import CONFLICTS, Capabilities, Condition, Content, Part
from tandem.stores.memory import MemoryStore
from tandem.sweep import sweep
from tandem.transfer import MIB, Transfer

RULE = Rule("r", "a", ("b",), prefix="in/", target_prefix="out/")
STRIPPING = replace(RULE, target_prefix="")
ADDING = replace(RULE, prefix="", target_prefix="out/")
RULES = pytest.mark.parametrize("rule", [RULE, STRIPPING, ADDING], ids=["to", "strip", "add"])
CONTENT = Content({"content-type": "text/plain"}, {"owner": "ada"}, {"team": "x"})
PART = 5 * MIB
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

# Surrogates are no characters: no key holds one.
affixes = st.text(st.characters(exclude_categories=("Cs",)), max_size=3) | st.sampled_from(OWN)
rules = st.builds(
    lambda prefix, suffix, there: replace(RULE, prefix=prefix, suffix=suffix, target_prefix=there),
    *(affixes, affixes, st.none() | affixes),
)


@given(rules, affixes, affixes)
def test_every_key_has_a_key_of_its_own_at_the_target_and_comes_back_by_it(
    rule: Rule, one: str, other: str
):
    keys = [f"{rule.prefix}{rest}{rule.suffix}" for rest in (one, other)]
    there = [rule.target_key(key) for key in keys]
    assert [rule.source_key(key) for key in there] == keys
    assert (keys[0] < keys[1]) == (there[0] < there[1])
    # Python compares by code point; servers list by the bytes of UTF-8.
    assert (keys[0].encode() < keys[1].encode()) == (there[0].encode() < there[1].encode())
    assert (keys[0] == keys[1]) == (there[0] == there[1])


@given(rules, affixes)
def test_the_way_back_covers_the_copies_of_what_the_way_there_covers(rule: Rule, middle: str):
    rule = replace(rule, two_way=True)
    way, back = rule.directions
    for key in (f"{rule.prefix}{middle}{rule.suffix}", f"{rule.prefix}{middle}", middle):
        there = way.target_key(key) if key.startswith(way.prefix) else None
        if there and way.covers(key):
            assert back.covers(there)
            assert back.target_key(there) == key
            assert not key.startswith(OWN)
            assert not there.startswith(OWN)
        elif there and key:
            assert not back.covers(there)


def test_a_key_of_which_nothing_would_be_left_is_not_covered():
    assert not STRIPPING.covers("in/")
    assert RULE.covers("in/")


def test_a_suffix_does_not_lie_in_the_prefix_that_goes():
    rule = replace(RULE, prefix="a.b", suffix=".b", target_prefix="x")
    assert not rule.covers("a.b")
    assert rule.covers("a.b.b")
    assert replace(rule, target_prefix=None).covers("a.b")


class Sides:
    """Two sites with a clock of their own."""

    def __init__(self, *, versioned: bool = False) -> None:
        self.now = NOON
        self.a, self.b = (
            MemoryStore(
                site,
                versioned=versioned,
                clock=lambda: self.now,
                capabilities=Capabilities(copy=True),
            )
            for site in "ab"
        )

    def engine(self, rule: Rule) -> Engine:
        transfer = Transfer(part_size=PART, memory=2 * PART)
        return Engine({"a": self.a, "b": self.b}, [rule], transfer)

    async def converge(self, rule: Rule, key: str, site: str = "a") -> Outcome:
        """Handle one change at a site."""
        engine, change = self.engine(rule), Change(site, key, size=1)
        ((way, target),) = engine.routes(change)
        return await engine.converge(way, target, change)


@pytest.fixture
def sides() -> Sides:
    return Sides()


async def keys_of(store: MemoryStore) -> list[str]:
    return [entry.key async for entry in store.list()]


async def body_of(store: MemoryStore, key: str) -> bytes | None:
    async with store.open(key) as reader:
        return bytes(await reader.read()) if reader else None


@RULES
async def test_what_happens_to_a_key_happens_to_its_other_name(sides: Sides, rule: Rule):
    there = rule.target_key("in/k")
    await sides.a.put("in/k", b"1", CONTENT)
    assert (await sides.converge(rule, "in/k")).decision.action is Action.COPY
    assert await keys_of(sides.b) == [there]
    copy = await sides.b.head(there)
    assert copy
    assert copy.metadata["owner"] == "ada"
    assert await sides.b.tags(there) == {"team": "x"}
    assert (await sides.converge(rule, "in/k")).decision.action is Action.SKIP
    await sides.a.put_tags("in/k", {"team": "y"})
    assert (await sides.converge(rule, "in/k")).decision.action is Action.RETAG
    assert await sides.b.tags(there) == {"team": "y"}
    await sides.a.put("in/k", b"2", CONTENT)
    assert (await sides.converge(rule, "in/k")).key == "in/k"
    assert await body_of(sides.b, there) == b"2"
    await sides.a.delete("in/k")
    assert (await sides.converge(rule, "in/k")).decision.action is Action.DELETE
    assert await keys_of(sides.b) == []


async def test_a_large_object_is_taken_up_under_its_other_name(sides: Sides):
    await sides.a.put("in/k", b"x" * (PART + 1), CONTENT)
    failing = iter([Transient("the line is cut")])
    send = sides.b.upload_part

    async def cut(key: str, upload_id: str, number: int, body: bytes | bytearray) -> Part:
        if number == 2 and (fault := next(failing, None)):
            raise fault
        return await send(key, upload_id, number, body)

    sides.b.upload_part = cut  # type: ignore[method-assign] -- only here does the line break
    with pytest.raises(Transient, match="the line is cut"):
        await sides.converge(RULE, "in/k")
    assert [upload.key for upload in await sides.b.list_uploads()] == ["out/k"]
    sides.now += timedelta(minutes=1)
    swept = [one async for one in sweep(sides.engine(RULE), RULE, "b", older_than=30)]
    assert [(one.upload.key, one.aborted) for one in swept] == [("out/k", False)]
    assert (await sides.converge(RULE, "in/k")).decision.action is Action.COPY
    assert await sides.b.list_uploads() == ()
    assert await body_of(sides.b, "out/k") == b"x" * (PART + 1)


async def test_an_upload_that_nobody_wants_is_swept_under_its_other_name(sides: Sides):
    await test_a_large_object_is_taken_up_under_its_other_name(sides)
    upload = await sides.b.create_upload("out/k", CONTENT)
    most = sides.b.capabilities.max_parts
    await sides.b.upload_part("out/k", upload, most, b"tandem upload " + b"0" * 64)
    await sides.b.upload_part("out/k", upload, most - 1, b"tandem upload under way")
    swept = [one async for one in sweep(sides.engine(RULE), RULE, "b", older_than=0)]
    assert [(one.upload.key, one.aborted, one.reason) for one in swept] == [
        ("out/k", True, "equal")
    ]


async def test_a_delete_removes_only_what_came_from_that_very_key(sides: Sides):
    plain = replace(RULE, prefix="", target_prefix=None)
    await sides.a.put("out/k", b"1", CONTENT)
    await sides.converge(plain, "out/k")
    # The rule was changed: the copy lies where in/k would, which never was.
    kept = await sides.converge(RULE, "in/k")
    assert kept.decision.reason == "written by Tandem from another key"
    assert await keys_of(sides.b) == ["out/k"]
    all_ = replace(RULE, ownership="all")
    assert (await sides.converge(all_, "in/k")).decision.action is Action.DELETE


async def test_what_others_copied_to_another_key_of_the_target_is_theirs(sides: Sides):
    plain = replace(RULE, prefix="", target_prefix=None)
    await sides.a.put("k", b"1", CONTENT)
    await sides.converge(plain, "k")
    copy = await sides.b.head("k")
    assert copy
    await sides.b.copy("k", "mine", Content(copy.headers, copy.metadata, {}), if_match=copy.etag)
    assert (await sides.converge(plain, "mine")).decision.action is Action.SKIP
    assert await keys_of(sides.b) == ["k", "mine"]


@pytest.mark.parametrize(("rule", "deleted"), [(replace(RULE, target_prefix=None), 1), (RULE, 0)])
async def test_copies_that_tell_no_key_are_of_their_own(sides: Sides, rule: Rule, deleted: int):
    await sides.a.put("in/k", b"1", CONTENT)
    await sides.converge(rule, "in/k")
    there = rule.target_key("in/k")
    copy = await sides.b.head(there)
    assert copy
    old = {name: value for name, value in copy.metadata.items() if name != SOURCE_KEY}
    await sides.b.put(there, b"1", Content(copy.headers, old))
    await sides.a.delete("in/k")
    acted = (await sides.converge(rule, "in/k")).decision.action
    assert acted is (Action.DELETE if deleted else Action.SKIP)


@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_key_that_grows_too_long_is_invalid_and_both_its_names_are_told(
    sides: Sides, size: int
):
    key = f"in/{'k' * 1021}"
    await sides.a.put(key, b"x" * size, CONTENT)
    engine = sides.engine(RULE)
    for work in (
        engine.converge(RULE, "b", Change("a", key, size=size)),
        engine.explain(RULE, "b", key),
    ):
        with pytest.raises(Invalid, match="it has 1025 bytes, and 1 to 1024 can be kept") as caught:
            await work
        assert f"'{key}'" in str(caught.value)
        assert f"'{RULE.target_key(key)}'" in str(caught.value)
    assert await keys_of(sides.b) == []
    found = [one async for one in examine(engine, RULE, "b")]
    assert [str(one.error) for one in found] == [str(caught.value)]


async def test_what_may_still_happen_is_told_with_both_names_too():
    error = Invalid("no")
    error.unresolved = True
    with (
        pytest.raises(Invalid, match="no; a:'in/k' is 'out/k'") as caught,
        both_keys_named(RULE, "in/k"),
    ):
        raise error
    assert caught.value.unresolved


BUCKET = ("in", "in!", "in/", "in/a", "in/a/b", "in/é", "in0", "out/a", "out/b", "z", ".conflict/x")


@RULES
async def test_both_listings_are_walked_by_the_keys_of_the_source(sides: Sides, rule: Rule):
    for key in BUCKET:
        await sides.a.put(key, b"1", Content())
        await sides.b.put(key, b"1", Content())
    stores = {"a": sides.a, "b": sides.b}
    covered = {key for key in BUCKET if rule.covers(key)}
    named = {rule.source_key(key) for key in BUCKET} - {None}
    there = {key for key in named if key and rule.covers(key)}
    everything = sorted(covered | there, key=str.encode)
    found = [pair async for pair in walk(stores, rule, "b")]
    assert [pair.key for pair in found] == everything
    for pair in found:
        assert bool(pair.source) == (pair.key in covered)
        assert bool(pair.target) == (pair.key in there)
    for place, after in enumerate(everything, 1):
        rest = [pair.key async for pair in walk(stores, rule, "b", start_after=after)]
        assert rest == everything[place:]
    shard = rule.prefix + "a"
    parts = [pair.key async for pair in walk(stores, rule, "b", prefix=shard)]
    assert parts == [key for key in everything if key.startswith(shard)]


@RULES
async def test_a_sync_brings_level_what_a_verify_then_finds_equal(sides: Sides, rule: Rule):
    for key in BUCKET:
        await sides.a.put(key, key.encode(), CONTENT)
    await sides.b.put("theirs", b"theirs", Content())
    engine = sides.engine(rule)
    done: list[Finding] = []
    await sync(engine, rule, "b", lambda finding, _: done.append(finding))
    covered = [key for key in BUCKET if rule.covers(key)]
    copied = [one for one in done if one.decision and one.decision.action is Action.COPY]
    assert {one.key: one.target_key for one in copied} == {
        key: rule.target_key(key) for key in covered
    }
    held = {key: await body_of(sides.b, rule.target_key(key)) for key in covered}
    assert held == {key: key.encode() for key in covered}
    read = [one async for one in examine(engine, rule, "b", sample=Sample(100, 1))]
    assert not any(one.differs or one.error for one in read)
    assert sum(one.reading is not None for one in read) == len(covered)
    quick = [one async for one in examine(engine, rule, "b", thorough=False)]
    assert not any(one.differs or one.error for one in quick)
    foreign = [one.target_key for one in quick if one.foreign]
    assert foreign == (["theirs"] if rule is STRIPPING else [])


async def test_a_reconcile_queues_the_keys_of_the_source(sides: Sides):
    await sides.a.put("in/new", b"1", Content())
    await sides.a.put("in/gone", b"1", Content())
    await sides.converge(RULE, "in/gone")
    await sides.a.delete("in/gone")
    queue = MemoryQueue()
    stores = {"a": sides.a, "b": sides.b}
    assert (await emit(stores, queue, RULE, "b")).emitted == 2
    for _ in range(2):
        delivery = await queue.receive()
        assert b"in/" in delivery.body
        await delivery.done()


TWO_WAY = replace(RULE, two_way=True)


async def settle(sides: Sides, rule: Rule = TWO_WAY) -> None:
    """Handle changes of both sides until nothing is done about any."""
    for _ in range(10):
        acts = [
            (await sides.converge(rule, rule.prefix + "k", "a")).decision.action,
            (await sides.converge(rule, (rule.target_prefix or "") + "k", "b")).decision.action,
        ]
        if acts == [Action.SKIP, Action.SKIP]:
            return
    raise AssertionError("it never becomes quiet")


@pytest.mark.parametrize("rule", [TWO_WAY, replace(TWO_WAY, target_prefix="")])
async def test_both_ways_a_key_has_one_name_at_each_side(rule: Rule):
    sides = Sides(versioned=True)
    here, there = rule.prefix + "k", (rule.target_prefix or "") + "k"
    await sides.b.put(there, b"1", CONTENT)
    await settle(sides, rule)
    assert await body_of(sides.a, here) == b"1"
    sides.now += timedelta(minutes=1)
    await sides.a.put(here, b"2", CONTENT)
    await settle(sides, rule)
    assert [await body_of(sides.a, here), await body_of(sides.b, there)] == [b"2", b"2"]
    assert (await keys_of(sides.a), await keys_of(sides.b)) == ([here], [there])
    await sides.b.delete(there)
    await settle(sides, rule)
    assert (await keys_of(sides.a), await keys_of(sides.b)) == ([], [])
    sides.now += timedelta(minutes=1)
    await sides.b.put(there, b"3", CONTENT)
    await settle(sides, rule)
    await sides.a.delete(here)
    await settle(sides, rule)
    assert (await keys_of(sides.a), await keys_of(sides.b)) == ([], [])


async def test_both_ways_the_later_of_two_stands_and_the_other_is_kept_by_its_own_name():
    sides = Sides()
    await sides.b.put("out/k", b"early", CONTENT)
    loser = await sides.b.head("out/k")
    assert loser
    sides.now += timedelta(minutes=1)
    await sides.a.put("in/k", b"late", CONTENT)
    await settle(sides)
    assert [await body_of(sides.a, "in/k"), await body_of(sides.b, "out/k")] == [b"late", b"late"]
    assert await keys_of(sides.b) == [f"{CONFLICTS}{loser.etag}/out/k", "out/k"]


async def test_both_ways_a_copy_of_another_key_is_not_taken_for_one_of_this():
    sides = Sides(versioned=True)
    plain = replace(RULE, prefix="", target_prefix=None)
    await sides.a.put("out/k", b"1", CONTENT)
    await sides.converge(plain, "out/k")
    # Under the rule as it is now, nobody has ever seen in/k: what lies at b goes to a.
    await settle(sides)
    assert [await body_of(sides.a, "in/k"), await body_of(sides.b, "out/k")] == [b"1", b"1"]


async def test_a_condition_guards_the_other_name(sides: Sides):
    await sides.b.put("out/k", b"theirs", Content(), Condition(if_absent=True))
    await sides.a.put("in/k", b"1", CONTENT)
    assert (await sides.converge(RULE, "in/k")).decision.reason == "content differs"
    assert await body_of(sides.b, "out/k") == b"1"
