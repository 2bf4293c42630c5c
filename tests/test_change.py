"""Notifications decoded: what MinIO really sent, and the documented payloads of the others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.change import Change, Dialect, decode, encode, native
from tandem.errors import Poison
from tandem.settings import Site

EVENTS = Path(__file__).parent / "events"
ODD = "a+b c/%3A/a%2Fb/\u00e9/e\u0301/!\"#$&'()*,;:=?@[]^_`{|}~<>.\\x"


def site(dialect: Dialect, bucket: str = "plain") -> Site:
    return Site("left", bucket, "http://127.0.0.1:9", "user", "word", dialect=dialect)


def event(name: str, bucket: str = "plain") -> Change:
    """Return the one change that a stored payload tells of."""
    dialect: Any = name.partition("-")[0]
    (change,) = decode((EVENTS / f"{name}.json").read_bytes(), site(dialect, bucket))
    return change


def record(key: str, name: str = "ObjectCreated:Put", bucket: str = "plain") -> dict[str, Any]:
    return {
        "eventTime": "2026-11-21T09:05:10.455Z",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }


def body(*records: dict[str, Any]) -> bytes:
    return json.dumps({"Records": records}).encode()


def test_a_put_tells_all_that_minio_says_of_it():
    assert event("minio-put") == Change(
        site="left",
        key="put.txt",
        etag="5d41402abc4b2a76b9719d911017c592",
        size=5,
        sequencer="18EA0419D4F1EF70",
        time=datetime(2026, 11, 21, 9, 5, 10, 455_000, UTC),
        event="18EA0419D4E978A3 s3:ObjectCreated:Put 18EA0419D4F1EF70",
    )


def test_a_put_on_a_versioned_bucket_names_its_version():
    assert event("minio-versioned-put", "ver").version_id == "4d77003f-e5f8-430a-b122-a4cfba876a5a"


def test_an_odd_key_of_minio_is_decoded_exactly_once():
    assert event("minio-odd-key").key == ODD


def test_a_trailing_slash_stays_and_a_size_that_minio_leaves_out_is_none_at_all():
    change = event("minio-trailing-slash")
    assert (change.key, change.size) == ("trail/", 0)


@pytest.mark.parametrize(
    ("name", "key"),
    [("multipart", "multi.bin"), ("copy", "copy.txt"), ("tagging", "put.txt")],
)
def test_multipart_uploads_copies_and_tags_are_hints_like_any_other(name: str, key: str):
    change = event(f"minio-{name}")
    assert (change.key, change.removed) == (key, False)


@pytest.mark.parametrize(
    ("name", "bucket"),
    [("delete", "plain"), ("delete-marker", "ver"), ("delete-version", "ver")],
)
def test_deletes_of_minio_are_removals_without_etag_and_size(name: str, bucket: str):
    change = event(f"minio-{name}", bucket)
    assert (change.key, change.removed) == ("put.txt", True)
    assert change.etag is None
    assert change.size is None


def test_a_tagging_event_has_the_sequencer_of_the_put_and_yet_is_another_event():
    told = [event(f"minio-{name}") for name in ("put", "tagging", "untagging")]
    assert len({change.sequencer for change in told}) == 1
    assert len({change.event for change in told}) == 3


def test_a_server_that_names_no_request_gives_its_events_no_identity():
    assert event("versitygw-put").event is None


def test_awss_key_is_decoded_and_its_names_need_no_prefix():
    change = event("aws-put")
    assert (change.key, change.size, change.removed) == ("Happy Face+1.jpg", 1024, False)
    assert change.version_id == "096fKKXTRTtl3on89fVO.nfljtsv6qko"


def test_a_lifecycle_expiration_is_a_removal():
    assert event("aws-lifecycle-expiration").removed


def test_awss_test_event_tells_of_nothing():
    assert decode((EVENTS / "aws-test.json").read_bytes(), site("aws")) == ()


def test_versitygws_key_is_raw_its_etag_unquoted_and_its_time_turned_to_utc():
    change = event("versitygw-put")
    assert change.key == "a+b c/%3A"
    assert change.etag == "5d41402abc4b2a76b9719d911017c592"
    assert change.version_id is None
    assert change.time == datetime(2026, 11, 21, 8, 15, 30, tzinfo=UTC)
    assert change.time.tzinfo is UTC


def test_older_versitygws_send_the_records_bare():
    bare = json.dumps([record("a%3A")]).encode()
    assert [change.key for change in decode(bare, site("versitygw"))] == ["a%3A"]


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("s3:ObjectCreated:PutTagging", False),
        ("ObjectTagging:Put", False),
        ("ObjectTagging:Delete", False),
        ("ObjectRestore:Completed", False),
        ("s3:ObjectTransition:Complete", False),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("s3:ObjectRemoved:DeleteAllVersions", True),
        ("LifecycleExpiration:Delete", True),
        ("s3:LifecycleDelMarkerExpiration:Delete", True),
    ],
)
def test_only_removals_are_removals(name: str, removed: bool):
    (change,) = decode(body(record("k", name)), site("aws"))
    assert change.removed is removed


def test_a_size_that_a_tagging_event_leaves_out_is_unknown():
    (change,) = decode(body(record("k", "ObjectTagging:Put")), site("aws"))
    assert change.size is None


def test_a_message_may_hold_several_records_and_those_of_other_buckets_are_passed_over():
    message = body(record("one"), record("elsewhere", bucket="another"), record("two"))
    assert [change.key for change in decode(message, site("minio"))] == ["one", "two"]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"7",
        b'"tandem"',
        b"{}",
        b'{"Records": 7}',
        b'{"Records": [{}]}',
        b'{"tandem": {"site": "left"}}',
        b'{"tandem": {"site": "left", "key": "k", "time": null, "colour": "red"}}',
        body(record("%ff")),
        body({**record("k"), "eventTime": "yesterday"}),
        b"[" * 100_000,
    ],
    ids=lambda message: message[:40].decode(errors="replace"),
)
def test_what_cannot_be_understood_is_poison_and_says_why(message: bytes):
    with pytest.raises(Poison, match=r"this is no notification that we know: \w+Error"):
        decode(message, site("minio"))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
changes = st.builds(
    Change,
    site=texts,
    key=texts,
    removed=st.booleans(),
    etag=st.none() | texts,
    size=st.none() | st.integers(min_value=0, max_value=2**50),
    version_id=st.none() | texts,
    sequencer=st.none() | texts,
    time=st.none() | st.datetimes(timezones=st.just(UTC)),
    due=st.none() | st.datetimes(timezones=st.just(UTC)),
    rule=st.none() | texts,
    target=st.none() | texts,
    event=st.none() | texts,
)


@given(changes)
def test_what_is_encoded_decodes_to_the_very_same_change(change: Change):
    assert native(encode(change)) == change
    for dialect in ("minio", "aws", "versitygw"):
        assert decode(encode(change), site(dialect)) == (change,)
