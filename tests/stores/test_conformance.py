"""Sentences that hold of every store: in memory, on MinIO, on versitygw and on moto.

Where servers differ, the tests go by what the probe found, as the engine does.
"""

from __future__ import annotations

import hashlib
import string
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.errors import Conflict, Invalid, TandemError
from tandem.stores import keys
from tandem.stores.abilities import REFUSALS, Ability
from tandem.stores.base import (
    ALWAYS,
    SCRATCH,
    Checksum,
    Condition,
    Content,
    ObjectStore,
    Version,
)
from tandem.stores.trials import CHECKED_BODY, DIGESTS

PART = 5 * 1024 * 1024
CONTENT = Content(
    headers={
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "max-age=9",
        "content-disposition": 'attachment; filename="a b.txt"',
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "Wed, 21 Oct 2099 07:28:00 GMT",
    },
    metadata={"owner": "ada", "empty": "", "comma": "a,b  c", "accents": "caf\u00e9 \u65e5\u672c"},
    tags={"team a": "x+y=1", "none": ""},
)
LINE_END = REFUSALS[Ability.LINE_ENDS]
FOLDER_BODY = REFUSALS[Ability.FOLDER_BODIES]
UNSPEAKABLE = "a character that XML 1.0 cannot list"
# Each with what a store may call unrepresentable in it.
ODD_KEYS: dict[str, set[str]] = {
    "a+b c": set(),
    "%3A": set(),
    "a%2Fb": set(),
    "a%252Fb": set(),
    unicodedata.normalize("NFC", "\u00e9"): set(),
    unicodedata.normalize("NFD", "\u00e9"): set(),
    "folder/": {FOLDER_BODY},
    "folder.x": set(),
    string.punctuation: set(),
    "..a/b../...": set(),
    " blank at both ends ": set(),
    "line\nend": {LINE_END},
    "\x01control\x7f": {UNSPEAKABLE},
    "\ufffe\U0001f600": {UNSPEAKABLE},
    "?a=b&c#d": set(),
    "s/" * 511 + "/s".strip("/"): set(),
    "/".join(["n" * 255] * 4): set(),
}


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()  # noqa: S324 -- S3 defines ETags by MD5


async def body_of(store: ObjectStore, key: str) -> bytes | None:
    async with store.open(key) as reader:
        return None if reader is None else bytes(await reader.read())


async def listed(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    return [entry.key async for entry in store.list(prefix, start_after)]


async def test_an_object_comes_back_as_it_was_put(store):
    before = datetime.now(UTC).replace(microsecond=0)
    written = await store.put("k", b"hello", CONTENT)
    state = await store.head("k")
    assert state is not None
    assert written.etag == state.etag == md5(b"hello")
    assert state.size == 5
    assert (state.headers, state.metadata) == (CONTENT.headers, CONTENT.metadata)
    assert state.tag_count in {2, None}
    assert abs((state.last_modified - before).total_seconds()) <= 2
    assert await store.tags("k") == CONTENT.tags
    async with store.open("k") as reader:
        assert reader is not None
        assert reader.state == state
        assert await reader.read() == b"hello"


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024 + 5])
@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_bodies_of_any_size_and_kind_come_back(store, size, kind):
    body = kind(bytes(range(251)) * (size // 251 + 1))[:size]
    assert (await store.put("k", body, Content())).etag == md5(body)
    assert await body_of(store, "k") == body


async def test_what_has_no_content_type_gets_the_servers_and_nothing_else(store):
    await store.put("k", b"", Content())
    state = await store.head("k")
    assert state is not None
    assert state.headers == {"content-type": "binary/octet-stream"}
    assert state.metadata == {}
    assert state.tag_count in {0, None}


@pytest.mark.parametrize(("key", "flaws"), ODD_KEYS.items(), ids=range(len(ODD_KEYS)))
async def test_odd_keys_are_kept_exactly_or_refused_as_was_told(store, key, flaws):
    if flaws & {*store.capabilities.unrepresentable}:
        with pytest.raises(TandemError):
            await store.put(key, key.encode(), Content())
        assert await listed(store) == []
        return
    await store.put(key, key.encode(), Content())
    state = await store.head(key)
    assert state is not None
    assert await body_of(store, key) == key.encode()
    assert await listed(store) == [key]
    assert await listed(store, key[:3]) == [key]
    await store.delete(key)
    assert await store.is_absent(key)
    assert await listed(store) == []


@pytest.mark.parametrize("key", ["", "k" * 1025, "\u00e9" * 513, "\ud800"])
async def test_keys_that_no_server_keeps_are_refused(store, key):
    with pytest.raises(Invalid, match="cannot keep the key"):
        await store.put(key, b"", Content())


async def test_a_key_that_is_not_there_is_absent(store):
    assert await store.head("k") is None
    assert await store.is_absent("k")
    assert await body_of(store, "k") is None
    assert await store.tags("k") == {}
    await store.delete("k")


@pytest.mark.parametrize("body", [b"", b"x"])
async def test_a_key_that_is_there_is_not_absent_even_if_empty(store, body):
    await store.put("k", body, Content())
    assert not await store.is_absent("k")


async def test_a_delete_marker_is_absence_and_the_key_can_come_back(subject):
    store = subject.versioned
    first = await store.put("k", b"1", Content())
    await store.delete("k")
    assert first.version_id
    assert await store.head("k") is None
    assert await store.is_absent("k")
    assert await body_of(store, "k") is None
    assert await listed(store) == []
    sure = store.capabilities.conditional_put
    with pytest.raises(Conflict if sure else Invalid):
        await store.put("k", b"2", Content(), Condition(if_match=first.etag))
    condition = Condition(if_absent=True) if sure else ALWAYS
    second = await store.put("k", b"2", Content(), condition)
    state = await store.head("k")
    assert state is not None
    assert state.version_id == second.version_id != first.version_id


@pytest.mark.parametrize("span", [(0, 0), (2, 5), (9, 9)])
async def test_a_span_is_read_with_the_state_of_the_whole(store, span):
    await store.put("k", b"0123456789", Content())
    async with store.open("k", span=span) as reader:
        assert reader is not None
        assert reader.state == await store.head("k")
        assert await reader.read() == b"0123456789"[span[0] : span[1] + 1]


async def test_a_span_that_reaches_past_the_end_is_cut_there(store):
    await store.put("k", b"0123", Content())
    async with store.open("k", span=(2, 99)) as reader:
        assert reader is not None
        assert await reader.read() == b"23"


async def test_a_read_is_pinned_to_an_etag(store):
    first = await store.put("k", b"1", Content())
    async with store.open("k", span=(0, 0), if_match=first.etag) as reader:
        assert reader is not None
        assert await reader.read() == b"1"
    await store.put("k", b"2", Content())
    with pytest.raises(Conflict):
        await store.open("k", if_match=first.etag).__aenter__()


async def test_an_object_left_unread_leaves_the_store_usable(store):
    await store.put("k", bytes(3 * 1024 * 1024), Content())
    for _ in range(3):
        async with store.open("k") as reader:
            assert reader is not None
    assert await store.head("k") is not None


async def test_a_conditional_put_is_made_only_where_the_condition_holds(store):
    first = await store.put("k", b"1", Content())
    if not store.capabilities.conditional_put:
        for condition in (Condition(if_absent=True), Condition(if_match=first.etag)):
            with pytest.raises(Invalid, match="knows no such condition"):
                await store.put("k", b"2", Content(), condition)
        assert await body_of(store, "k") == b"1"
        return
    with pytest.raises(Conflict):
        await store.put("k", b"2", Content(), Condition(if_absent=True))
    second = await store.put("k", b"3", Content(), Condition(if_match=first.etag))
    with pytest.raises(Conflict):
        await store.put("k", b"4", Content(), Condition(if_match=first.etag))
    assert await body_of(store, "k") == b"3"
    await store.put("k", b"5", Content(), Condition(if_match=second.etag))
    assert await body_of(store, "k") == b"5"
    with pytest.raises(Conflict):
        await store.put("other", b"1", Content(), Condition(if_match=second.etag))
    assert await store.head("other") is None
    await store.put("other", b"1", Content(), Condition(if_absent=True))


async def test_a_conditional_delete_is_made_only_where_the_condition_holds(store):
    written = await store.put("k", b"1", Content())
    if not store.capabilities.conditional_delete:
        with pytest.raises(Invalid, match="knows no such condition"):
            await store.delete("k", Condition(if_match=written.etag))
        assert await store.head("k") is not None
        return
    with pytest.raises(Conflict):
        await store.delete("k", Condition(if_match=md5(b"other")))
    assert await store.head("k") is not None
    await store.delete("k", Condition(if_match=written.etag))
    assert await store.head("k") is None


async def test_a_delete_knows_no_other_condition(store):
    with pytest.raises(Invalid, match="knows no such condition"):
        await store.delete("k", Condition(if_absent=True))


async def test_a_copy_has_the_bytes_of_its_source_and_the_content_it_is_given(store):
    assert store.capabilities.copy or store.site == "moto"
    await store.put("a +\u00e9/source", b"bytes", Content(metadata={"old": "1"}, tags={"old": "1"}))
    written = await store.copy("a +\u00e9/source", "k", CONTENT)
    state = await store.head("k")
    assert state is not None
    assert written.etag == state.etag == md5(b"bytes")
    assert (state.headers, state.metadata) == (CONTENT.headers, CONTENT.metadata)
    assert await store.tags("k") == CONTENT.tags
    assert await body_of(store, "k") == b"bytes"


async def test_a_copy_is_made_only_of_what_it_is_to_be_made_of(store):
    etag = (await store.put("source", b"1", Content())).etag
    with pytest.raises(Conflict):
        await store.copy("source", "k", Content(), if_none_match=etag)
    with pytest.raises(Conflict):
        await store.copy("gone", "k", Content())
    if store.capabilities.copy:
        with pytest.raises(Conflict):
            await store.copy("source", "k", Content(), if_match=md5(b"other"))
        assert await store.head("k") is None
        await store.copy("source", "k", Content(), if_match=etag)
        assert await body_of(store, "k") == b"1"


async def test_a_conditional_copy_is_made_only_where_the_condition_holds(store):
    old = await store.put("k", b"old", Content())
    await store.put("source", b"new", Content())
    can = store.capabilities.conditional_copy
    for wrong in (Condition(if_absent=True), Condition(if_match=md5(b"other"))):
        with pytest.raises(Conflict if can else Invalid):
            await store.copy("source", "k", Content(), condition=wrong)
    assert await body_of(store, "k") == b"old"
    if can:
        await store.copy("source", "k", Content(), condition=Condition(if_match=old.etag))
        assert await body_of(store, "k") == b"new"


async def test_a_body_with_another_checksum_is_refused(store):
    for algorithm in store.capabilities.checksums:
        digest = DIGESTS[algorithm]
        await store.put("k", CHECKED_BODY, Content(), checksum=Checksum(algorithm, digest))
        with pytest.raises(TandemError):
            await store.put("k", b"other", Content(), checksum=Checksum(algorithm, digest))
    assert await body_of(store, "k") in {CHECKED_BODY, None}


async def test_scratch_keys_can_be_purged_with_all_their_versions_and_no_others(subject):
    for store in (subject.store, subject.versioned):
        await store.put("k", b"1", Content())
        for key in (f"{SCRATCH}a +\u00e9", f"{SCRATCH}b/c"):
            await store.put(key, b"1", Content())
            await store.put(key, b"2", Content())
            await store.delete(key)
            await store.put(key, b"3", Content())
        await store.purge(SCRATCH)
        assert await listed(store) == ["k"]
        with pytest.raises(ValueError, match="only keys under"):
            await store.purge("")


async def test_the_probe_tells_whether_versions_are_kept(subject):
    assert not subject.store.capabilities.versions
    assert subject.versioned.capabilities.versions


async def test_tags_are_replaced_as_a_whole_and_removed(store):
    await store.put("k", b"", Content(tags={"a": "1"}))
    await store.put_tags("k", {"b": "2 + 2", "c": ""})
    assert await store.tags("k") == {"b": "2 + 2", "c": ""}
    await store.put_tags("k", {})
    assert await store.tags("k") == {}


async def test_tags_need_an_object(store):
    with pytest.raises(Conflict):
        await store.put_tags("k", {"a": "1"})


async def test_a_listing_is_in_the_order_of_utf8_bytes_and_can_begin_anywhere(store):
    names = ["a", "a-", "a.b", "b", "B", "\u00e9", "\uffee", "\U0001f600", "z z", "z+z"]
    for name in names:
        await store.put(name, name.encode(), Content())
    ordered = sorted(names, key=str.encode)
    assert await listed(store) == ordered
    assert await listed(store, start_after="a.b") == [name for name in ordered if name > "a.b"]
    assert await listed(store, prefix="a") == ["a", "a-", "a.b"]
    entries = {entry.key: entry async for entry in store.list()}
    assert entries["b"].etag == md5(b"b")
    assert entries["b"].size == 1
    assert entries["b"].last_modified.tzinfo is not None


async def test_a_listing_of_several_pages_is_whole(store):
    names = [f"{number:04}" for number in range(1, 1102)]
    for name in names:
        await store.put(name, b"", Content())
    assert await listed(store) == names


async def test_parts_make_an_object_with_the_etag_of_its_parts(store):
    bodies = [b"1" * PART, b"2" * (PART + 1), b"3"]
    upload = await store.create_upload("k", CONTENT)
    parts = [await store.upload_part("k", upload, n, body) for n, body in enumerate(bodies, 1)]
    written = await store.complete_upload("k", upload, tuple(parts))
    digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    assert [part.etag for part in parts] == [md5(body) for body in bodies]
    state = await store.head("k")
    assert state is not None
    assert written.etag == state.etag == f"{md5(digests)}-3"
    assert (state.headers, state.metadata) == (CONTENT.headers, CONTENT.metadata)
    assert await store.tags("k") == CONTENT.tags
    assert await body_of(store, "k") == b"".join(bodies)
    assert await store.list_uploads("k") == ()


async def test_the_parts_of_an_object_are_told_by_size(store):
    plain = await store.put("plain", b"abc", Content())
    if store.capabilities.part_sizes:
        assert await store.part_sizes("plain", plain.etag) == (3,)
    upload = await store.create_upload("k", Content())
    bodies = [b"1" * (PART + 7), b"2" * PART, b"3"]
    parts = [await store.upload_part("k", upload, n, body) for n, body in enumerate(bodies, 1)]
    written = await store.complete_upload("k", upload, tuple(parts))
    if store.capabilities.part_sizes:
        assert await store.part_sizes("k", written.etag) == (PART + 7, PART, 1)
    with pytest.raises(Conflict):
        await store.part_sizes("k", plain.etag)
    with pytest.raises(Conflict):
        await store.part_sizes("gone", plain.etag)


async def test_a_part_not_named_at_completion_is_dropped_and_its_etag_is_its_md5(store):
    """The marker of an unfinished copy stands on this."""
    last = store.capabilities.max_parts
    upload = await store.create_upload("k", Content())
    await store.upload_part("k", upload, last, b"marker")
    part = await store.upload_part("k", upload, 1, b"body")
    told = await store.list_parts("k", upload)
    assert [(one.number, one.etag, one.size) for one in told] == [
        (1, md5(b"body"), 4),
        (last, md5(b"marker"), 6),
    ]
    assert all(0 <= one.age < 60 for one in told)
    await store.complete_upload("k", upload, (part,))
    assert await body_of(store, "k") == b"body"
    assert await store.list_uploads("k") == ()


async def test_an_unfinished_upload_is_found_by_its_key(store):
    first = await store.create_upload("f/a +\u00e9&", Content())
    second = await store.create_upload("f/a +\u00e9&", Content())
    await store.create_upload("other", Content())
    found = await store.list_uploads("f/a +\u00e9&")
    assert {upload.upload_id for upload in found} == {first, second}
    assert {upload.key for upload in found} == {"f/a +\u00e9&"}


async def test_a_finished_upload_is_gone(subject):
    store = subject.store
    upload = await store.create_upload("k", Content())
    part = await store.upload_part("k", upload, 1, b"1")
    await store.complete_upload("k", upload, (part,))
    with pytest.raises(TandemError if "gone uploads" in subject.lacks else Conflict):
        await store.upload_part("k", upload, 1, b"1")
    with pytest.raises(Conflict):
        await store.list_parts("k", upload)
    await store.abort_upload("k", upload)
    assert await body_of(store, "k") == b"1"


async def test_a_second_completion_is_a_conflict_or_says_what_the_first_did(store):
    """AWS and versitygw answer it from memory, others know the upload no more."""
    upload = await store.create_upload("k", Content())
    part = await store.upload_part("k", upload, 1, b"1")
    first = await store.complete_upload("k", upload, (part,))
    try:
        again = await store.complete_upload("k", upload, (part,))
    except Conflict:
        pass
    else:
        assert again.etag == first.etag
    assert await body_of(store, "k") == b"1"


async def test_an_aborted_upload_leaves_nothing(store):
    upload = await store.create_upload("k", Content())
    await store.upload_part("k", upload, 1, b"1")
    await store.abort_upload("k", upload)
    assert await store.list_uploads("k") == ()
    assert await store.head("k") is None


async def test_a_part_too_small_that_is_not_the_last_is_refused(store):
    upload = await store.create_upload("k", Content())
    parts = [await store.upload_part("k", upload, number, b"x") for number in (1, 2)]
    with pytest.raises(Invalid):
        await store.complete_upload("k", upload, tuple(parts))


async def test_a_conditional_completion_is_made_only_where_the_condition_holds(store):
    old = await store.put("k", b"old", Content())
    upload = await store.create_upload("k", Content())
    part = await store.upload_part("k", upload, 1, b"new")
    if not store.capabilities.conditional_complete:
        with pytest.raises(Invalid, match="knows no such condition"):
            await store.complete_upload("k", upload, (part,), Condition(if_absent=True))
        return
    for wrong in (Condition(if_absent=True), Condition(if_match=md5(b"other"))):
        with pytest.raises(Conflict):
            await store.complete_upload("k", upload, (part,), wrong)
    assert await body_of(store, "k") == b"old"
    await store.complete_upload("k", upload, (part,), Condition(if_match=old.etag))
    assert await body_of(store, "k") == b"new"


# Few letters, so that prefixes, folders and neighbours in the order of bytes come up often.
# An object hides what lies "under" it in MinIO's listings, so no key here is another's folder.
NAMES = st.text(st.sampled_from("a./-%+ \u00e9_"), min_size=1, max_size=6).filter(
    lambda key: keys.flaw(key, "minio") is None
)


def is_above(folder: str, key: str) -> bool:
    return folder != key and key.startswith(folder.rstrip("/") + "/")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.sets(NAMES, max_size=8), data=st.data())
async def test_any_keys_are_listed_as_they_were_put(store, names, data):
    chosen = {name for name in names if not any(is_above(other, name) for other in names)}
    # MinIO refuses a prefix such as `..`, as it would refuse the key.
    starts = sorted(start for name in chosen if not keys.flaw(start := name[:2], "minio"))
    prefix = data.draw(st.sampled_from(["", *starts]))
    bodies = {name: name.encode() for name in chosen}
    if FOLDER_BODY in store.capabilities.unrepresentable:
        bodies |= {name: b"" for name in chosen if name.endswith("/")}
    try:
        for name, body in bodies.items():
            await store.put(name, body, Content())
        assert await listed(store, prefix) == sorted(k for k in chosen if k.startswith(prefix))
        for name, body in bodies.items():
            assert await body_of(store, name) == body
    finally:
        for name in chosen:
            await store.delete(name)


async def test_a_versioned_bucket_tells_the_versions_before_the_latest_newest_first(subject):
    store = subject.versioned
    for number in range(4):
        await store.put("k", b"%d" % number, Content(metadata={"number": str(number)}))
    await store.put("k2", b"another", Content())
    told = await store.history("k", 2)
    assert [state.metadata["number"] for state in told] == ["2", "1"]
    await store.delete("k")
    assert [state.metadata["number"] for state in await store.history("k", 9)] == list("3210")
    assert await store.history("never", 9) == ()


async def test_a_bucket_without_versions_has_no_history(subject):
    for body in (b"1", b"2"):
        await subject.store.put("k", body, Content())
    assert await subject.store.history("k", 9) == ()


async def versions_of(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[Version]:
    return [version async for version in store.versions(prefix, start_after)]


async def test_versions_and_markers_are_listed_by_key_and_the_newest_first(subject):
    store = subject.versioned
    for body in (b"1", b"22", None, b"333"):
        await (store.delete("k") if body is None else store.put("k", body, Content()))
    await store.put("k2", b"4444", Content())
    found = await versions_of(store)
    assert [version.key for version in found] == ["k"] * 4 + ["k2"]
    assert [version.is_latest for version in found] == [True, False, False, False, True]
    assert len({version.version_id for version in found[:4]}) == 4
    assert {version.size for version in found if not version.is_marker} == {1, 2, 3, 4}
    assert await versions_of(store, "k2") == await versions_of(store, "", "k") == found[4:]
    if store.capabilities.ordered_versions:
        told = [(one.size, one.is_marker, one.etag) for one in found[:4]]
        bodies = [(3, b"333"), (0, None), (2, b"22"), (1, b"1")]
        assert told == [(n, not body, md5(body) if body else "") for n, body in bodies]


async def test_a_version_is_read_by_its_id(subject):
    store = subject.versioned
    for number in ("1", "2"):
        tags = {"number": number} if store.capabilities.tags else {}
        content = Content(metadata={"number": number}, tags=tags)
        await store.put("k", number.encode(), content)
    await store.delete("k")
    for version in await versions_of(store, "k"):
        if version.is_marker:
            continue
        state = await store.head("k", version.version_id)
        assert (state.etag, state.size) == (version.etag, version.size)
        number = state.metadata["number"]
        async with store.open("k", if_match=version.etag, version_id=version.version_id) as reader:
            assert bytes(await reader.read()) == number.encode()
        if store.capabilities.tags:
            assert await store.tags("k", version.version_id) == {"number": number}
        if store.capabilities.part_sizes:
            assert await store.part_sizes("k", version.etag, version.version_id) == (1,)


async def test_a_bucket_says_whether_it_keeps_versions(subject):
    assert await subject.versioned.versioning() == "enabled"
    assert await subject.store.versioning() == "off"
    await subject.store.put("k", b"1", Content())
    assert [one.version_id for one in await versions_of(subject.store)] == ["null"]
