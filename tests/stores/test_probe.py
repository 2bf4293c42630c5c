"""The probe: what it finds out, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem.errors import Denied, Invalid, Missing, Transient
from tandem.stores import trials
from tandem.stores.abilities import NO_PARTS, Ability, Verdict, cautious
from tandem.stores.base import ALWAYS, SCRATCH, Capabilities, Condition, Content, Entry, Part
from tandem.stores.memory import MemoryStore
from tandem.stores.probe import observe, probe
from tests.stores.conftest import EVERYTHING, MAKERS

# What the store in memory cannot do, however it is made.
LACKING = {Ability.CRC32C, Ability.SMALL_PARTS, Ability.VERSIONS, Ability.VERSION_ORDER}


class Blind(MemoryStore):
    """A server that says yes to one condition of one operation, and does not look at it."""

    def __init__(self, operation: str, condition: str) -> None:
        super().__init__("blind", capabilities=EVERYTHING)
        self.blind_to = (operation, condition)

    def seen(self, operation: str, condition: Condition) -> Condition:
        if self.blind_to == (operation, "if_match"):
            return replace(condition, if_match=None)
        if self.blind_to == (operation, "if_absent"):
            return replace(condition, if_absent=False)
        return condition

    async def put(self, key, body, content, condition=ALWAYS, checksum=None):
        checksum = None if self.blind_to == ("put", "checksum") else checksum
        return await super().put(key, body, content, self.seen("put", condition), checksum)

    async def complete_upload(self, key, upload_id, parts, condition=ALWAYS):
        return await super().complete_upload(
            key, upload_id, parts, self.seen("complete", condition)
        )

    async def delete(self, key, condition=ALWAYS):
        await super().delete(key, self.seen("delete", condition))

    async def copy(
        self, source, key, content, *, if_match=None, if_none_match=None, condition=ALWAYS
    ):
        if self.blind_to == ("copy source", "if_match"):
            if_match = None
        if self.blind_to == ("copy source", "if_none_match"):
            if_none_match = None
        condition = self.seen("copy", condition)
        return await super().copy(
            source,
            key,
            content,
            if_match=if_match,
            if_none_match=if_none_match,
            condition=condition,
        )

    @asynccontextmanager
    async def open(self, key, *, if_match=None, **named):
        if self.blind_to == ("read", "if_match"):
            if_match = None
        async with super().open(key, if_match=if_match, **named) as reader:
            yield reader


@pytest.mark.parametrize(
    ("operation", "condition", "ability", "lost"),
    [
        ("put", "if_absent", Ability.PUT_IF_ABSENT, "conditional_put"),
        ("put", "if_match", Ability.PUT_IF_MATCH, "conditional_put"),
        ("complete", "if_absent", Ability.COMPLETE_IF_ABSENT, "conditional_complete"),
        ("complete", "if_match", Ability.COMPLETE_IF_MATCH, "conditional_complete"),
        ("delete", "if_match", Ability.DELETE_IF_MATCH, "conditional_delete"),
        ("read", "if_match", Ability.READ_IF_MATCH, "conditional_get"),
        ("copy source", "if_match", Ability.COPY_SOURCE_IF_MATCH, "copy"),
        ("copy source", "if_none_match", Ability.COPY_SOURCE_IF_NONE_MATCH, None),
        ("copy", "if_absent", Ability.COPY_IF_ABSENT, "conditional_copy"),
        ("copy", "if_match", Ability.COPY_IF_MATCH, "conditional_copy"),
        ("put", "checksum", Ability.SHA256, "checksums"),
    ],
)
async def test_a_server_that_silently_ignores_one_condition_is_found_out(
    operation: str, condition: str, ability: Ability, lost: str | None
):
    found = await probe(Blind(operation, condition))
    assert found[ability].verdict is Verdict.IGNORED
    assert found[ability].told.startswith("carried out ")
    well = {trial.ability for trial in found.trials if trial.verdict is Verdict.YES}
    assert {*Ability} - well - LACKING == {ability}
    whole = replace(found.capabilities, **{lost: getattr(EVERYTHING, lost)} if lost else {})
    assert whole == EVERYTHING


async def test_a_condition_that_is_no_lock_is_found_out():
    class Unlocked(MemoryStore):
        """A server that looks, and writes a moment later."""

        async def put(self, key, body, content, condition=ALWAYS, checksum=None):
            self._bucket.check("put", key, condition)
            await asyncio.sleep(0)
            return await super().put(key, body, content, ALWAYS, checksum)

    found = await probe(Unlocked(capabilities=EVERYTHING))
    assert found[Ability.PUT_IF_ABSENT].verdict is Verdict.IGNORED
    assert found[Ability.PUT_IF_ABSENT].told == "carried out for 4 of 4 writers at once"
    assert not found.capabilities.conditional_put


async def test_a_server_that_turns_away_all_who_race_is_asked_again_alone():
    class Shy(MemoryStore):
        racing = trials.WRITERS

        async def put(self, key, body, content, condition=ALWAYS, checksum=None):
            if condition.if_absent and self.racing:
                self.racing -= 1
                condition = Condition(if_match="nothing of the kind")
            return await super().put(key, body, content, condition, checksum)

    assert (await probe(Shy())).capabilities.conditional_put


@pytest.mark.parametrize(
    "capabilities",
    [
        Capabilities(),
        EVERYTHING,
        Capabilities(conditional_put=False),
        Capabilities(conditional_complete=False, conditional_get=False),
        Capabilities(tags=False),
        Capabilities(max_parts=1_000, copy=True),
        Capabilities(min_part_size=1),
        cautious(Capabilities()),
    ],
)
@pytest.mark.parametrize("versioned", [False, True])
async def test_of_a_store_that_tells_the_truth_it_finds_out_just_that(
    capabilities: Capabilities, versioned: bool
):
    store = MemoryStore(versioned=versioned, capabilities=capabilities)
    assert (await probe(store)).capabilities == replace(capabilities, versions=versioned)


async def test_parts_that_nobody_named_must_not_be_in_the_object():
    class Greedy(MemoryStore):
        async def complete_upload(self, key, upload_id, parts, condition=ALWAYS):
            assert parts
            every = tuple(replace(one, age=0.0) for one in await self.list_parts(key, upload_id))
            return await super().complete_upload(key, upload_id, every, condition)

    store = Greedy(capabilities=Capabilities(min_part_size=1))
    found = await probe(store)
    assert found[Ability.PARTS].verdict is Verdict.IGNORED
    assert found.capabilities.max_parts == NO_PARTS


async def test_an_upload_that_cannot_be_found_again_cannot_be_resumed():
    class Forgetful(MemoryStore):
        async def list_uploads(self, prefix: str = "") -> tuple[Any, ...]:
            del prefix
            return ()

    found = await probe(Forgetful())
    assert found[Ability.RESUME].told == "did not list the upload under its key"
    assert not found.capabilities.resumes


async def test_part_etags_that_are_no_md5_cannot_be_resumed():
    class Encrypting(MemoryStore):
        async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
            parts = await super().list_parts(key, upload_id)
            return tuple(replace(part, etag=f"{part.etag}x") for part in parts)

    found = await probe(Encrypting())
    assert "not their MD5s" in found[Ability.RESUME].told
    assert found[Ability.PARTS].verdict is Verdict.YES


@pytest.mark.parametrize("key", [None, str.lower, lambda key: key.encode("utf-16-be")])
async def test_another_order_of_a_listing_is_found_out(key: Callable[[str], Any] | None):
    class Jumbled(MemoryStore):
        async def page(self, prefix: str, start_after: str = "") -> tuple[Entry, ...]:
            entries = await super().page(prefix, start_after)
            sort = (lambda entry: key(entry.key)) if key else None
            return tuple(sorted(entries, key=sort)) if sort else entries[::-1]

    found = await probe(Jumbled())
    assert found[Ability.ORDER].told == "listed in another order"
    assert not found.capabilities.ordered


async def test_a_listing_that_begins_where_it_likes_is_found_out():
    class Early(MemoryStore):
        async def page(self, prefix: str, start_after: str = "") -> tuple[Entry, ...]:
            del start_after
            return await super().page(prefix)

    assert "another key" in (await probe(Early()))[Ability.ORDER].told


async def test_a_key_kept_under_another_name_is_found_out():
    class Trimming(MemoryStore):
        async def put(self, key, body, content, condition=ALWAYS, checksum=None):
            return await super().put(key.rstrip("/"), body, content, condition, checksum)

    found = await probe(Trimming())
    assert found[Ability.FOLDER_BODIES].told == "kept under another name"
    assert "a / at its end, and a body" in found.capabilities.unrepresentable


async def test_tags_that_are_lost_on_the_way_are_found_out():
    class Tagless(MemoryStore):
        async def put(self, key, body, content, condition=ALWAYS, checksum=None):
            bare = replace(content, tags={})
            return await super().put(key, body, bare, condition, checksum)

    found = await probe(Tagless())
    assert found[Ability.TAGS].verdict is Verdict.IGNORED
    assert not found.capabilities.tags


class Turning(MemoryStore):
    """A store that fails when it is asked for one thing."""

    def __init__(self, fault: Callable[[str, str], Exception | None], **named: Any) -> None:
        super().__init__("turning", **named)
        self.fault = fault
        self.calls: list[str] = []

    async def _turn(self, operation: str, key: str) -> None:
        self.calls.append(operation)
        error = self.fault(operation, key)
        if error:
            raise error


async def test_what_is_not_allowed_is_not_known_and_tags_are_then_tried_for_each_object():
    store = Turning(lambda operation, _: Denied("no") if operation == "put_tags" else None)
    found = await probe(store)
    assert found[Ability.TAGS].verdict is Verdict.UNKNOWN
    assert found.capabilities.tags
    store = Turning(lambda operation, _: Denied("no") if operation == "complete_upload" else None)
    found = await probe(store)
    assert found[Ability.COMPLETE_IF_MATCH].verdict is Verdict.UNKNOWN
    assert not found.capabilities.conditional_complete


@pytest.mark.parametrize("error", [Denied("no"), Missing("no bucket"), Transient("away")])
async def test_a_bucket_that_cannot_be_written_to_is_not_probed(error: Exception):
    store = Turning(lambda *_: error)
    with pytest.raises(type(error)):
        await probe(store)
    assert store.calls == ["put"]


OPERATIONS = (
    "put",
    "head",
    "delete",
    "open",
    "read",
    "copy",
    "tags",
    "put_tags",
    "list",
    "create_upload",
    "upload_part",
    "complete_upload",
    "list_uploads",
    "list_parts",
    "part_sizes",
    "abort_upload",
)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("versioned", [False, True])
async def test_whatever_fails_nothing_is_left(operation: str, versioned: bool):
    """A fault of the server ends the probe at once; what it had written goes all the same."""
    once = operation == "part_sizes"  # which is asked but once
    faults = iter([Transient("a reset")] if once else [None, Transient("a reset")])

    def fault(asked: str, _: str) -> Exception | None:
        return next(faults, None) if asked == operation else None

    store = Turning(fault, versioned=versioned, capabilities=EVERYTHING)
    with pytest.raises(Transient, match="a reset"):
        await probe(store)
    assert not store._bucket._versions
    assert not store._bucket.uploads


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_probe_that_is_cancelled_cleans_up(operation: str):
    class Hanging(MemoryStore):
        hung = asyncio.Event()

        async def _turn(self, asked: str, key: str) -> None:
            del key
            if asked == operation and not self.hung.is_set():
                self.hung.set()
                await asyncio.Event().wait()

    store = Hanging(versioned=True, capabilities=EVERYTHING)
    store.hung = asyncio.Event()
    probing = asyncio.create_task(probe(store))
    await store.hung.wait()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert not store._bucket._versions
    assert not store._bucket.uploads


async def test_what_a_killed_probe_left_goes_with_the_next_and_a_running_ones_stays():
    moment = datetime.now(UTC)
    store = MemoryStore(versioned=True, clock=lambda: moment)
    await store.put(f"{SCRATCH}{'0' * 16}/put", b"", Content())
    moment += timedelta(hours=2)
    await store.put(f"{SCRATCH}{'1' * 16}/put", b"", Content())
    await store.put("k", b"", Content())
    await probe(store)
    assert set(store._bucket._versions) == {f"{SCRATCH}{'1' * 16}/put", "k"}


async def test_where_versions_may_not_be_deleted_the_objects_are_and_it_is_told():
    store = Turning(
        lambda operation, _: Denied("no") if operation == "purge" else None, versioned=True
    )
    found = await probe(store)
    assert found[Ability.CLEANING].verdict is Verdict.NO
    assert found[Ability.CLEANING].told.endswith(": no")
    assert [entry async for entry in store.list()] == []


async def test_a_source_is_asked_with_reads_alone():
    store = Turning(lambda *_: None)
    assert {trial.verdict for trial in await observe(store)} == {Verdict.UNKNOWN}
    for key in ("a", "b"):
        await store.put(key, b"1", Content())
    store.calls.clear()
    assert [trial.verdict for trial in await observe(store)] == [Verdict.YES, Verdict.YES]
    assert set(store.calls) == {"list", "open"}


async def test_a_source_that_does_not_pin_its_reads_or_lists_in_disorder_is_found_out():
    class Odd(Blind):
        async def page(self, prefix: str, start_after: str = "") -> tuple[Entry, ...]:
            return (await super().page(prefix, start_after))[::-1]

    store = Odd("read", "if_match")
    for key in ("a", "b"):
        await store.put(key, b"", Content())
    assert [trial.verdict for trial in await observe(store)] == [Verdict.IGNORED, Verdict.IGNORED]


async def test_an_object_that_goes_while_a_source_is_looked_at_is_passed_over():
    class Fleeting(MemoryStore):
        @asynccontextmanager
        async def open(self, key, *, if_match=None, **named) -> AsyncIterator[Any]:
            if key == "a":
                yield None
                return
            async with super().open(key, if_match=if_match, **named) as reader:
                yield reader

    store = Fleeting()
    for key in ("a", "b"):
        await store.put(key, b"1", Content())
    assert (await observe(store))[1].verdict is Verdict.YES


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("versioned", [False, True])
async def test_on_real_servers_nothing_is_left(
    make_store: Callable[..., Any], name: str, versioned: bool
):
    store = make_store(name, versioned=versioned)
    try:
        await store.put("k", b"1", Content())
        found = await probe(store)
        assert found[Ability.CLEANING].verdict is Verdict.YES
        assert found.capabilities.versions is versioned
        assert [entry.key async for entry in store.list()] == ["k"]
        assert await store.list_uploads() == ()
        if name != "memory":
            query = {"versions": "", "prefix": SCRATCH}
            _, body = await store._connection.call("list versions of", "GET", "", query)
            assert b"<VersionId>" not in body
    finally:
        await store.close()


async def test_a_body_that_cannot_be_read_whole_is_no_refusal():
    """The checksum's trial takes a plain `Transient` for a refusal, a time-out never."""
    faults = iter([None, Transient("BadDigest"), None, None])

    def fault(operation: str, key: str) -> Exception | None:
        return next(faults) if operation == "put" and key.endswith("sums-sha256") else None

    store = Turning(fault, capabilities=EVERYTHING)
    assert (await probe(store))[Ability.SHA256].verdict is Verdict.YES
    faults = iter([None, Transient("no answer", unresolved=True)])
    with pytest.raises(Transient, match="no answer"):
        await probe(Turning(fault, capabilities=EVERYTHING))


async def test_a_store_that_can_take_no_part_numbers_known_has_no_parts():
    class Small(MemoryStore):
        async def upload_part(self, key, upload_id, number, body):
            if number > 10:
                raise Invalid("there is no such part")
            return await super().upload_part(key, upload_id, number, body)

    found = await probe(Small())
    assert found[Ability.PARTS].verdict is Verdict.NO
    assert found.capabilities.max_parts == NO_PARTS
