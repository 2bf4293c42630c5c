"""What the probe tries: each trial on a scratch key of its own, both ways.

A server that does not know a condition is not harmless: it may say yes and write regardless. So
of each condition, what must fail is tried, and what must pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tandem.errors import Conflict, Invalid, TandemError, Transient
from tandem.stores.abilities import Ability, Probeable, Trial, Verdict
from tandem.stores.base import Algorithm, Checksum, Condition, Content, Written

PLAIN = Content()
ABSENT = Condition(if_absent=True)
# The ETag of something else.
OTHER = "0" * 32
# How many writers race for one key: a condition that is no lock lets two of them through.
WRITERS = 4
# The CRC-32C of these nine digits is the check value of its definition, 0xE3069283.
CHECKED_BODY = b"123456789"
DIGESTS: dict[Algorithm, bytes] = {
    "crc32c": bytes.fromhex("e3069283"),
    "sha256": hashlib.sha256(CHECKED_BODY).digest(),
}

T = TypeVar("T")
Write = Callable[[str, bytes, Condition], Awaitable[Written]]


@dataclass(slots=True)
class Record:
    """Keep the verdict on one ability: yes, until something speaks against it."""

    ability: Ability
    verdict: Verdict = Verdict.YES
    told: str = ""

    def doubt(self, verdict: Verdict, told: str) -> None:
        """Note what speaks against the ability; the first to do so stands."""
        if self.verdict is Verdict.YES:
            self.verdict, self.told = verdict, told

    def must_pass(self, refusal: TandemError | None, when: str) -> None:
        """Note a refusal of what should have been done."""
        if refusal:
            self.doubt(Verdict.NO, f"refused {when}: {refusal}")

    def must_fail(self, refusal: TandemError | None, when: str) -> None:
        """Note that something was done, or refused for another reason than its condition."""
        if refusal is None:
            self.doubt(Verdict.IGNORED, f"carried out {when}")
        elif not isinstance(refusal, Conflict):
            self.doubt(Verdict.NO, f"refused: {refusal}")

    def trial(self, value: int = 0) -> Trial:
        """Return what was found."""
        return Trial(self.ability, self.verdict, self.told, value)


async def refusal_of(work: Awaitable[object]) -> TandemError | None:
    """Return why a server would not do something, None if it did.

    Raises what says nothing about abilities: `Transient`, `Denied` and their like.
    """
    try:
        await work
    except (Conflict, Invalid) as refusal:
        return refusal
    return None


async def all_of(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Do all of `work` at once, and return what it returns; raise the first failure at the end.

    No work is cut short by another's failure: what it had sent might land after the cleaning.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()  # which does nothing to those that are done
        await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


async def puts(store: Probeable, key: str) -> list[Trial]:
    """Try the conditions of PutObject."""

    async def write(name: str, body: bytes, condition: Condition) -> Written:
        return await store.put(name, body, PLAIN, condition)

    absent, match = Record(Ability.PUT_IF_ABSENT), Record(Ability.PUT_IF_MATCH)
    return await _conditions(store, key, write, absent, match)


async def completions(store: Probeable, key: str) -> list[Trial]:
    """Try the conditions of CompleteMultipartUpload."""

    async def write(name: str, body: bytes, condition: Condition) -> Written:
        upload_id = await store.create_upload(name, PLAIN)
        try:
            part = await store.upload_part(name, upload_id, 1, body)
            return await store.complete_upload(name, upload_id, (part,), condition)
        except BaseException:
            await store.abort_upload(name, upload_id)
            raise

    absent, match = Record(Ability.COMPLETE_IF_ABSENT), Record(Ability.COMPLETE_IF_MATCH)
    return await _conditions(store, key, write, absent, match)


async def copies(store: Probeable, key: str) -> list[Trial]:
    """Try CopyObject, the conditions on its source, and those on its target."""
    source = f"{key}-source"
    etag = (await store.put(source, b"source", PLAIN)).etag
    content = Content(metadata={"own": "1"})
    copy, match, none_match = (
        Record(Ability.COPY),
        Record(Ability.COPY_SOURCE_IF_MATCH),
        Record(Ability.COPY_SOURCE_IF_NONE_MATCH),
    )
    refusal = await refusal_of(store.copy(source, f"{key}-plain", content))
    copy.must_pass(refusal, "altogether")
    if refusal is None:
        async with store.open(f"{key}-plain") as reader:
            whole = reader is not None and await reader.read() == b"source"
            if not (reader and whole and reader.state.metadata == content.metadata):
                copy.doubt(Verdict.IGNORED, "made something other than the copy asked for")

    async def pinned(if_match: str | None, if_none_match: str | None) -> TandemError | None:
        copying = store.copy(
            source, f"{key}-pinned", content, if_match=if_match, if_none_match=if_none_match
        )
        return await refusal_of(copying)

    match.must_fail(await pinned(OTHER, None), "of another ETag")
    match.must_pass(await pinned(etag, None), "of the right ETag")
    none_match.must_fail(await pinned(None, etag), "of the very ETag")
    none_match.must_pass(await pinned(None, OTHER), "of another ETag")

    async def write(name: str, body: bytes, condition: Condition) -> Written:
        await store.put(source, body, PLAIN)
        return await store.copy(source, name, PLAIN, condition=condition)

    absent, over = Record(Ability.COPY_IF_ABSENT), Record(Ability.COPY_IF_MATCH)
    trials = await _conditions(store, key, write, absent, over)
    return [copy.trial(), match.trial(), none_match.trial(), *trials]


async def _conditions(
    store: Probeable, key: str, write: Write, absent: Record, match: Record
) -> list[Trial]:
    """Try both conditions of one way to write: when nothing is there, something, a delete marker.

    Each attempt has a body, and so an ETag, of its own.
    """
    numbers = itertools.count(1)

    async def attempt(condition: Condition) -> TandemError | None:
        return await refusal_of(write(key, str(next(numbers)).encode(), condition))

    async def etag() -> str:
        state = await store.head(key)
        return state.etag if state else (await store.put(key, b"0", PLAIN)).etag

    race = await all_of(*(attempt(ABSENT) for _ in range(WRITERS)))
    made = race.count(None)
    if not made:
        # Servers may turn away all who come at once, and say so.
        absent.must_pass(await attempt(ABSENT), "where nothing is")
    elif made > 1:
        absent.doubt(Verdict.IGNORED, f"carried out for {made} of {WRITERS} writers at once")
    await etag()
    absent.must_fail(await attempt(ABSENT), "where something is")
    await etag()
    match.must_fail(await attempt(Condition(if_match=OTHER)), "over another ETag")
    match.must_pass(await attempt(Condition(if_match=await etag())), "over the right ETag")
    last = await etag()
    await store.delete(key)
    match.must_fail(await attempt(Condition(if_match=last)), "over a deleted object")
    await store.delete(key)
    absent.must_pass(await attempt(ABSENT), "over a deleted object")
    return [absent.trial(), match.trial()]


async def deletes(store: Probeable, key: str) -> list[Trial]:
    """Try the condition of DeleteObject."""
    match = Record(Ability.DELETE_IF_MATCH)
    etag = (await store.put(key, b"1", PLAIN)).etag
    match.must_fail(await refusal_of(store.delete(key, Condition(if_match=OTHER))), "at another")
    if await store.head(key) is None:
        match.doubt(Verdict.IGNORED, "carried out, though it said otherwise")
        await store.put(key, b"1", PLAIN)
    match.must_pass(await refusal_of(store.delete(key, Condition(if_match=etag))), "at the right")
    if await store.head(key) is not None:
        match.doubt(Verdict.NO, "left undone at the right ETag")
    return [match.trial()]


async def reads(store: Probeable, key: str) -> list[Trial]:
    """Try the condition of GetObject."""
    etag = (await store.put(key, b"0123", PLAIN)).etag
    return [await read_condition(store, key, etag, 4)]


async def read_condition(store: Probeable, key: str, etag: str, size: int) -> Trial:
    """Try If-Match on a read of an object that is there, of `size` bytes; changes nothing."""
    match = Record(Ability.READ_IF_MATCH)
    span = (0, 0) if size else None

    async def read(pin: str) -> None:
        async with store.open(key, span=span, if_match=pin) as reader:
            if reader is None:
                raise Invalid(f"get {store.site}:{key!r}: it is not there")

    match.must_fail(await refusal_of(read(OTHER)), "of another ETag")
    match.must_pass(await refusal_of(read(etag)), "of the right ETag")
    return match.trial()


async def tags(store: Probeable, key: str) -> list[Trial]:
    """Try tags: given with an object, replaced, removed."""
    record = Record(Ability.TAGS)

    async def attempt(work: Awaitable[object], wanted: dict[str, str]) -> None:
        refusal = await refusal_of(work)
        record.must_pass(refusal, "altogether")
        if refusal is None and await store.tags(key) != wanted:
            record.doubt(Verdict.IGNORED, f"lost when they were {wanted or 'removed'}")

    await attempt(store.put(key, b"", Content(tags={"a": "1"})), {"a": "1"})
    if record.verdict is Verdict.YES:
        await attempt(store.put_tags(key, {"b": "2"}), {"b": "2"})
        await attempt(store.put_tags(key, {}), {})
    return [record.trial()]


async def checksums(store: Probeable, key: str) -> list[Trial]:
    """Try the checksums that S3 checks when an object is put."""
    return [
        await _checksum(store, f"{key}-crc32c", Record(Ability.CRC32C), "crc32c"),
        await _checksum(store, f"{key}-sha256", Record(Ability.SHA256), "sha256"),
    ]


async def _checksum(store: Probeable, key: str, record: Record, algorithm: Algorithm) -> Trial:
    right = DIGESTS[algorithm]

    async def attempt(digest: bytes) -> TandemError | None:
        checksum = Checksum(algorithm, digest)
        return await refusal_of(store.put(key, CHECKED_BODY, PLAIN, checksum=checksum))

    record.must_pass(await attempt(right), "with the right one")
    try:
        refusal = await attempt(bytes(len(right)))
    except Transient as fault:
        # A wrong checksum is taken for a fault on the way, which a time-out and its like are not.
        if fault.unresolved:
            raise
        refusal = fault
    if refusal is None:
        record.doubt(Verdict.IGNORED, "carried out with a wrong one")
    return record.trial()


async def listings(store: Probeable, key: str) -> list[Trial]:
    """Try the order of a listing, with keys that any order but that of UTF-8 bytes puts apart."""
    record = Record(Ability.ORDER)
    # A capital, the neighbours of /, an accent, and two that UTF-16 has the other way round.
    names = ("B", "a-", "a.", "a/b", "a0", "\u00e9", "\uffee", "\U0001f600")
    wanted = [f"{key}/{name}" for name in names]
    await all_of(*(store.put(name, b"", PLAIN) for name in wanted))
    told = [entry.key for entry in await store.page(f"{key}/")]
    if told != wanted:
        order = (
            "in another order" if sorted(told) == sorted(wanted) else "other keys than there are"
        )
        record.doubt(Verdict.IGNORED, f"listed {order}")
    elif [entry.key for entry in await store.page(f"{key}/", wanted[2])] != wanted[3:]:
        record.doubt(Verdict.IGNORED, "listed from another key than the one asked for")
    return [record.trial()]


async def versions(store: Probeable, key: str) -> list[Trial]:
    """Try whether delete markers are listed in their places between versions.

    Two of them: one may be by chance, at the turn of a second, where times are told no finer.
    """
    record = Record(Ability.VERSION_ORDER)
    for _ in range(2):
        await store.put(key, b"", PLAIN)
        await store.delete(key)
    await store.put(key, b"", PLAIN)
    told = [version.is_marker async for version in store.versions(key)]
    if told == [False]:
        record.doubt(Verdict.NO, "the bucket keeps no versions")
    elif told != [False, True, False, True, False]:
        record.doubt(Verdict.IGNORED, "a delete marker was listed in another place")
    return [record.trial()]


async def odd_keys(store: Probeable, key: str) -> list[Trial]:
    """Try keys that some servers refuse, or keep under another name."""
    return [
        await _odd_key(store, f"{key}-line/", "a\nb", b"", Record(Ability.LINE_ENDS)),
        await _odd_key(store, f"{key}-folder/", "a/", b"body", Record(Ability.FOLDER_BODIES)),
    ]


async def _odd_key(store: Probeable, folder: str, name: str, body: bytes, record: Record) -> Trial:
    try:
        await store.put(folder + name, body, PLAIN)
    except Transient:
        raise
    except TandemError as refusal:  # moto knows no address for such a key, and says 404
        record.must_pass(refusal, "altogether")
        return record.trial()
    if [entry.key for entry in await store.page(folder)] != [folder + name]:
        record.doubt(Verdict.IGNORED, "kept under another name")
    return record.trial()
