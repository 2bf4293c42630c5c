"""The S3 store against a server that answers by script: what it sends, what it makes of answers."""

from __future__ import annotations

import hashlib
import string
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from urllib.parse import unquote

import pytest

from tandem.errors import (
    Conflict,
    Denied,
    Invalid,
    Missing,
    TandemError,
    Throttled,
    Transient,
)
from tandem.settings import Site
from tandem.stores.base import Condition, Content, Part
from tandem.stores.s3 import S3Store
from tests.stores.scripted_server import (
    Deafness,
    Hangup,
    ScriptedServer,
    Silence,
    answer,
    found,
    refused,
)

OK = answer("200 OK", ETag='"e"')
PARTS = (Part(1, "e", 1),)
COMPLETED = answer(
    "200 OK",
    b"  \n<CompleteMultipartUploadResult><ETag>&quot;e-1&quot;</ETag>"
    b"</CompleteMultipartUploadResult>",
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def store(server: ScriptedServer) -> AsyncIterator[S3Store]:
    store = S3Store.connect(Site("here", "bucket", server.endpoint, "key", "secret"))
    yield store
    await store.close()


@pytest.fixture
async def aws(server: ScriptedServer) -> AsyncIterator[S3Store]:
    """A store that takes the server for AWS."""
    store = S3Store.connect(Site("cloud", "b", server.endpoint, "key", "secret", dialect="aws"))
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("a+b c", "a%2Bb%20c"),
        ("%3A", "%253A"),
        ("a%2Fb", "a%252Fb"),
        ("\u00e9", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
        ("trail/", "trail/"),
        ("/lead", "/lead"),
        ("a//b", "a//b"),
        ("./a/../b/.", "./a/../b/."),
        (string.punctuation, None),
        ("k" * 1024, "k" * 1024),
        ("\u20ac" * 341 + "k", None),
    ],
)
async def test_a_key_goes_over_the_wire_encoded_once_and_not_normalised(aws, server, key, target):
    server.script = [OK]
    await aws.put(key, b"", Content())
    sent = server.requests[0].target.removeprefix("/b/")
    assert sent == (target or sent)
    assert unquote(sent, errors="strict") == key


async def test_a_put_sends_what_it_was_given_and_nothing_else(store, server):
    server.script = [OK]
    content = Content({"content-encoding": "gzip"}, {"owner": "caf\u00e9"}, {"a b": "1+1=2&"})
    await store.put("k", bytearray(b"body"), content, Condition(if_match="old"))
    headers = dict(server.requests[0].headers)
    assert server.requests[0].body == b"body"
    assert "x-amz-meta-owner;x-amz-tagging" in headers.pop("authorization")
    assert headers.pop("x-amz-date")
    assert headers == {
        "host": server.endpoint.removeprefix("http://"),
        "user-agent": "tandem",
        "content-length": "4",
        "content-encoding": "gzip",
        "if-match": '"old"',
        "x-amz-content-sha256": hashlib.sha256(b"body").hexdigest(),
        "x-amz-meta-owner": "caf\u00e9",
        "x-amz-tagging": "a%20b=1%2B1%3D2%26",
    }


async def test_a_large_body_is_sent_whole_with_its_length(store, server):
    body = bytes(range(256)) * 12345
    server.script = [OK]
    await store.put("k", bytearray(body), Content())
    assert server.requests[0].body == body
    assert "transfer-encoding" not in server.requests[0].headers


async def test_on_aws_metadata_beyond_ascii_travels_as_rfc_2047_words(aws, server):
    server.script = [OK, found(b"", x_amz_meta_owner="=?UTF-8?Q?caf=C3=A9?=")]
    await aws.put("k", b"", Content(metadata={"owner": "caf\u00e9"}))
    assert server.requests[0].headers["x-amz-meta-owner"] == "=?UTF-8?B?Y2Fmw6k=?="
    state = await aws.head("k")
    assert state.metadata == {"owner": "caf\u00e9"}


async def test_what_only_looks_like_an_rfc_2047_word_is_left_alone(store, server):
    server.script = [found(b"", x_amz_meta_a="=?nonsense?=", x_amz_meta_b="=?no-such?Q?a?=")]
    state = await store.head("k")
    assert state.metadata == {"a": "=?nonsense?=", "b": "=?no-such?Q?a?="}


@pytest.mark.parametrize("value", ["a\nb", "a\r\nx-amz-acl: public-read", "\0", "\udc80"])
async def test_a_value_that_no_header_can_carry_is_refused_unsent(store, server, value):
    with pytest.raises(Invalid, match="header"):
        await store.put("k", b"", Content(metadata={"a": value}))
    assert server.requests == []


async def test_a_gzipped_object_arrives_as_it_is_stored(store, server):
    server.script = [found(b"\x1f\x8b not really", Content_Encoding="gzip")]
    async with store.open("k") as reader:
        assert await reader.read() == b"\x1f\x8b not really"
        assert reader.state.headers == {"content-encoding": "gzip"}


async def test_silence_about_tags_means_none_on_minio_and_nothing_on_aws(store, aws, server):
    server.script = [found(b""), found(b""), found(b"", x_amz_tagging_count="3")]
    assert [(await one.head("k")).tag_count for one in (store, aws, aws)] == [0, None, 3]


ERRORS = [
    ("403 F", "AccessDenied", Denied),
    ("403 F", "SignatureDoesNotMatch", Denied),
    ("403 F", "InvalidAccessKeyId", Denied),
    ("400 B", "ExpiredToken", Denied),
    ("400 B", "AuthorizationHeaderMalformed", Denied),
    ("401 U", "Whatever", Denied),
    ("404 N", "NoSuchBucket", Missing),
    ("404 N", "NoSuchUpload", Conflict),
    ("404 N", "NoSuchKey", Conflict),
    ("409 C", "ConditionalRequestConflict", Conflict),
    ("409 C", "OperationAborted", Conflict),
    ("412 P", "PreconditionFailed", Conflict),
    ("400 B", "InvalidPart", Conflict),
    ("400 B", "InvalidArgument", Invalid),
    ("400 B", "KeyTooLongError", Invalid),
    ("400 B", "XMinioInvalidObjectName", Invalid),
    ("400 B", "EntityTooLarge", Invalid),
    ("409 C", "XMinioObjectExistsAsDirectory", Invalid),
    ("501 N", "NotImplemented", Invalid),
    ("503 S", "SlowDown", Throttled),
    ("503 S", "SlowDownWrite", Throttled),
    ("429 T", "Whatever", Throttled),
    ("503 S", "ServiceUnavailable", Transient),
    ("503 S", "XMinioServerNotInitialized", Transient),
    ("500 I", "InternalError", Transient),
    ("504 G", "Whatever", Transient),
    ("507 I", "XMinioStorageFull", Transient),
    ("400 B", "RequestTimeout", Transient),
    ("400 B", "IncompleteBody", Transient),
    ("307 T", "TemporaryRedirect", Transient),
]


@pytest.mark.parametrize(("status", "code", "kind"), ERRORS)
async def test_a_refusal_has_a_class_and_names_all_that_is_known(store, server, status, code, kind):
    server.script = [refused(status, code, "it &amp; that")]
    with pytest.raises(TandemError) as raised:
        await store.put("k\n", b"1", Content())
    assert type(raised.value) is kind
    assert str(raised.value) == rf"put here:'k\n': {status[:3]} {code}: it & that"


@pytest.mark.parametrize(("status", "lands"), [("500 I", True), ("504 G", True), ("503 S", False)])
async def test_an_error_after_which_a_write_may_yet_land_is_unresolved(
    store, server, status, lands
):
    server.script = [answer(status), answer(status)]
    with pytest.raises(Transient) as written:
        await store.put("k", b"1", Content())
    with pytest.raises(Transient) as read:
        await store.head("k")
    assert (written.value.unresolved, read.value.unresolved) == (lands, False)


async def test_retry_after_is_passed_on(store, server):
    server.script = [
        answer("503 S", Retry_After="7"),
        answer("429 T", Retry_After="Sat, 21 Nov 2026 08:32:59 GMT"),
    ]
    for expected in (7.0, None):
        with pytest.raises(Throttled) as raised:
            await store.head("k")
        assert raised.value.retry_after == expected


async def test_a_skewed_clock_is_told_in_seconds(store, server):
    date = formatdate(time.time() - 3600, usegmt=True)
    server.script = [refused("403 F", "RequestTimeTooSkewed", Date=date)]
    with pytest.raises(Denied, match=r"this machine's clock is 3(599|600|601) s ahead"):
        await store.put("k", b"", Content())


async def test_a_redirect_is_not_followed_but_told(store, server):
    elsewhere = {"Location": "http://127.0.0.1:1/", "x_amz_bucket_region": "eu-west-1"}
    server.script = [answer("301 M", **elsewhere)]
    with pytest.raises(Missing, match="the bucket is in the region eu-west-1"):
        await store.put("k", b"", Content())


@pytest.mark.parametrize(
    "evidence",
    [refused("404 N", "NoSuchKey"), answer("404 N", x_amz_delete_marker="true")],
)
async def test_only_a_missing_key_or_a_delete_marker_is_absence(store, server, evidence):
    server.script = [evidence, evidence]
    assert await store.is_absent("k")
    async with store.open("k") as reader:
        assert reader is None


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (refused("404 N", "NoSuchBucket"), Missing),
        (answer("404 N", b"<html>nothing here</html>"), Missing),
        (refused("403 F", "AccessDenied"), Denied),
        (answer("500 I"), Transient),
    ],
)
async def test_nothing_else_is_absence(store, server, other, kind):
    server.script = [other, other]
    with pytest.raises(kind):
        await store.is_absent("k")
    with pytest.raises(kind):
        await store.open("k").__aenter__()


async def test_an_error_that_quotes_an_unspeakable_key_is_understood(store, server):
    body = b"<Error><Code>NoSuchKey</Code><Message>no</Message><Key>&#x1;</Key></Error>"
    server.script = [answer("404 N", body)]
    assert await store.is_absent("\x01")


@pytest.mark.parametrize("size", [5, 300_000])
async def test_a_body_that_ends_early_is_transient(store, server, size):
    server.script = [found(b"1234", size, Connection="close")]
    async with store.open("k") as reader:
        with pytest.raises(Transient, match="get here:'k': no answer") as raised:
            await reader.read()
    assert not raised.value.unresolved


async def test_a_body_that_stalls_is_transient(store, server, monkeypatch):
    monkeypatch.setattr(store._connection._client, "_silence", 0.2)
    server.script = [found(b"1234", 5)]
    async with store.open("k") as reader:
        with pytest.raises(Transient):
            await reader.read()


async def test_a_write_without_an_answer_is_unresolved(store, server, monkeypatch):
    monkeypatch.setattr(store._connection._client, "_silence", 0.2)
    server.script = [Silence]
    with pytest.raises(Transient, match="put here:'k': no answer") as raised:
        await store.put("k", b"1", Content())
    assert raised.value.unresolved


async def test_a_server_that_stops_reading_is_given_up(store, server, monkeypatch):
    monkeypatch.setattr(store._connection._client, "_silence", 0.2)
    server.script = [Deafness]
    with pytest.raises(Transient) as raised:
        await store.put("k", bytes(32 * 1024 * 1024), Content())
    assert raised.value.unresolved


async def test_a_request_that_never_left_is_not_unresolved(server):
    await server.stop()
    store = S3Store.connect(Site("here", "bucket", server.endpoint, "key", "secret"))
    with pytest.raises(Transient, match="no answer from") as raised:
        await store.put("k", b"1", Content())
    await store.close()
    assert not raised.value.unresolved


async def test_a_read_on_a_kept_connection_that_was_closed_is_made_once_more(store, server):
    server.script = [OK, Hangup, found(b"1234", 4)]
    await store.put("k", b"1", Content())
    async with store.open("k") as reader:
        assert await reader.read() == b"1234"
    assert [one.connection for one in server.requests] == [1, 1, 2]


async def test_a_read_that_finds_a_second_closed_connection_fails(store, server):
    server.script = [OK, Hangup, Hangup]
    await store.put("k", b"1", Content())
    with pytest.raises(Transient):
        await store.head("k")
    assert len(server.requests) == 3


async def test_a_write_is_never_repeated_for_the_first_one_may_land_after_it(store, server):
    server.script = [OK, Hangup]
    await store.put("k", b"1", Content())
    with pytest.raises(Transient) as raised:
        await store.put("k", b"2", Content())
    assert raised.value.unresolved
    assert len(server.requests) == 2


async def test_a_completion_is_never_repeated(store, server):
    server.script = [OK, Hangup]
    await store.put("k", b"1", Content())
    with pytest.raises(Transient) as raised:
        await store.complete_upload("k", "id", PARTS)
    assert raised.value.unresolved
    assert len(server.requests) == 2


async def test_blanks_before_the_answer_to_a_completion_are_skipped(store, server):
    server.script = [COMPLETED]
    assert (await store.complete_upload("k", "id", PARTS)).etag == "e-1"


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (refused("200 OK", "InternalError"), Transient),
        (refused("200 OK", "PreconditionFailed"), Conflict),
        (refused("200 OK", "SlowDown"), Throttled),
        (refused("200 OK", "EntityTooSmall"), Invalid),
        (answer("200 OK"), Transient),
    ],
)
async def test_a_completion_that_fails_after_a_200_is_an_error(store, server, answered, kind):
    server.script = [answered]
    with pytest.raises(TandemError) as raised:
        await store.complete_upload("k", "id", PARTS)
    assert type(raised.value) is kind


async def test_a_server_that_ignores_a_range_is_found_out(store, server):
    server.script = [found(b"0123456789")]
    with pytest.raises(Transient, match="bytes 2 to 3 were asked for, and the server gave all"):
        await store.open("k", span=(2, 3)).__aenter__()


async def test_an_answer_without_its_usual_headers_is_transient(store, server):
    server.script = [answer("200 OK")]
    with pytest.raises(Transient, match="the answer cannot be understood: KeyError\\('etag'\\)"):
        await store.head("k")


def page(*names: str, more: str = "false", extra: str = "") -> bytes:
    contents = "".join(
        f"<Contents><Key>{name}</Key><LastModified>2026-11-21T08:33:23.056Z</LastModified>"
        f"<ETag>&#34;e&#34;</ETag><Size>2</Size></Contents>"
        for name in names
    )
    listing = f"<ListBucketResult>{contents}<IsTruncated>{more}</IsTruncated>{extra}"
    return answer("200 OK", f"{listing}</ListBucketResult>".encode())


async def listed(store: S3Store) -> list[str]:
    return [entry.key async for entry in store.list()]


async def test_pages_follow_their_tokens(store, server):
    token = "<NextContinuationToken>t+/=</NextContinuationToken>"
    server.script = [page("a", more="true", extra=token), page("b")]
    assert await listed(store) == ["a", "b"]
    assert "continuation-token=t%2B%2F%3D&encoding-type=url" in server.requests[1].target


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (page("b", "a"), "'a' was listed after 'b'"),
        (page("a", "a"), "'a' was listed after 'a'"),
        (page("a", more="true"), "has no NextContinuationToken"),
        (answer("200 OK", b"<!DOCTYPE x><a/>"), "sent a DTD"),
        (answer("200 OK", b"<ListBuck"), "XML cannot be read"),
        (page(""), "has no Key"),
    ],
)
async def test_a_listing_that_cannot_be_trusted_stops_its_user(store, server, broken, said):
    server.script = [broken]
    with pytest.raises(Transient, match=said):
        await listed(store)


async def test_keys_are_decoded_only_if_the_server_says_it_encoded_them(store, server):
    server.script = [
        page("a%2Bb+c", extra="<EncodingType>url</EncodingType>"),
        page("a%2Bb+c"),
    ]
    assert await listed(store) == ["a+b c"]
    assert await listed(store) == ["a%2Bb+c"]


@pytest.mark.parametrize("operation", ["head", "is_absent", "delete", "tags"])
async def test_a_key_that_the_site_would_take_for_another_is_refused_unsent(
    store, server, operation
):
    with pytest.raises(Invalid, match="here:'/lead': this site cannot keep the key: it has a lead"):
        await getattr(store, operation)("/lead")
    assert server.requests == []
