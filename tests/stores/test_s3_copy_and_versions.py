"""Copies, checksums and versions over the wire: what is sent, what is made of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tandem.errors import Conflict, Invalid, TandemError, Transient
from tandem.settings import Site
from tandem.stores.base import SCRATCH, Checksum, Condition, Content
from tandem.stores.s3 import S3Store
from tandem.stores.s3_versions import versions_of
from tests.stores.scripted_server import ScriptedServer, answer, refused

OK = answer("200 OK", ETag='"e"')
COPIED = answer(
    "200 OK",
    b"<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>",
    x_amz_version_id="v",
)
DELETED = answer("204 No Content")


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


def sent(server: ScriptedServer, *names: str) -> dict[str, str]:
    headers = server.requests[-1].headers
    return {name: headers[name] for name in names if name in headers}


async def test_a_copy_names_its_source_encoded_and_gives_its_own_content(
    store: S3Store, server: ScriptedServer
):
    server.script = [COPIED]
    content = Content({"content-type": "a/b"}, {"own": "1"}, {"t": "1"})
    written = await store.copy("a +\u00e9", "k", content, if_match="e", if_none_match="f")
    assert (written.etag, written.version_id) == ("e", "v")
    request = server.requests[0]
    assert (request.method, request.target, request.body) == ("PUT", "/bucket/k", b"")
    assert {name: value for name, value in request.headers.items() if "copy" in name} == {
        "x-amz-copy-source": "/bucket/a%20%2B%C3%A9",
        "x-amz-copy-source-if-match": '"e"',
        "x-amz-copy-source-if-none-match": '"f"',
    }
    assert sent(server, "content-type", "x-amz-meta-own", "x-amz-tagging") == {
        "content-type": "a/b",
        "x-amz-meta-own": "1",
        "x-amz-tagging": "t=1",
    }
    assert sent(server, "x-amz-metadata-directive", "x-amz-tagging-directive") == {
        "x-amz-metadata-directive": "REPLACE",
        "x-amz-tagging-directive": "REPLACE",
    }


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (answer("304 Not Modified"), Conflict),
        (refused("412 Precondition Failed", "PreconditionFailed"), Conflict),
        (refused("404 Not Found", "NoSuchKey"), Conflict),
        (refused("200 OK", "InternalError"), Transient),
        (refused("501 Not Implemented", "NotImplemented"), Invalid),
    ],
)
async def test_a_copy_that_was_not_made_is_told(
    store: S3Store, server: ScriptedServer, told: bytes, kind: type[TandemError]
):
    server.script = [told]
    with pytest.raises(kind, match="copy to here:'k'"):
        await store.copy("a", "k", Content(), if_none_match="e")


async def test_a_condition_on_a_copy_is_sent_only_where_it_is_known_to_be_kept(
    store: S3Store, server: ScriptedServer
):
    with pytest.raises(Invalid, match="knows no such condition"):
        await store.copy("a", "k", Content(), condition=Condition(if_absent=True))
    assert server.requests == []
    server.script = [COPIED]
    await store.unguarded().copy("a", "k", Content(), condition=Condition(if_absent=True))
    assert sent(server, "if-none-match") == {"if-none-match": "*"}


async def test_an_unguarded_store_sends_every_condition_and_leaves_the_other_as_it_was(
    store: S3Store, server: ScriptedServer
):
    server.script = [DELETED]
    await store.unguarded().delete("k", Condition(if_match="e"))
    assert sent(server, "if-match") == {"if-match": '"e"'}
    assert not store.capabilities.conditional_delete


@pytest.mark.parametrize(
    ("checksum", "header", "value"),
    [
        (Checksum("crc32c", bytes.fromhex("e3069283")), "x-amz-checksum-crc32c", "4waSgw=="),
        (Checksum("sha256", bytes(32)), "x-amz-checksum-sha256", "A" * 43 + "="),
    ],
)
async def test_a_checksum_goes_along_as_base64(
    store: S3Store, server: ScriptedServer, checksum: Checksum, header: str, value: str
):
    server.script = [OK]
    await store.put("k", b"123456789", Content(), checksum=checksum)
    assert sent(server, header) == {header: value}


def page(*entries: str, more: str = "") -> bytes:
    return (
        f"<ListVersionsResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{more}"
        f"<EncodingType>url</EncodingType>{''.join(entries)}</ListVersionsResult>"
    ).encode()


def version(kind: str, key: str, version_id: str, at: str = "2026-11-21T08:32:59Z") -> str:
    return (
        f"<{kind}><Key>{key}</Key><VersionId>{version_id}</VersionId>"
        f"<LastModified>{at}</LastModified></{kind}>"
    )


MORE = (
    "<IsTruncated>true</IsTruncated><NextKeyMarker>a+b</NextKeyMarker>"
    "<NextVersionIdMarker>1</NextVersionIdMarker>"
)


async def test_a_purge_deletes_every_version_and_marker_of_every_page(
    store: S3Store, server: ScriptedServer
):
    first = page(version("Version", ".tandem/probe/a+b", "1"), more=MORE)
    last = page(version("DeleteMarker", ".tandem/probe/a%2Bb", "2"))
    server.script = [answer("200 OK", first), DELETED, answer("200 OK", last), DELETED]
    await store.purge(SCRATCH)
    targets = [request.target for request in server.requests]
    assert targets[1] == "/bucket/.tandem/probe/a%20b?versionId=1"
    assert "key-marker=a%20b" in targets[2]
    assert "version-id-marker=1" in targets[2]
    assert targets[3] == "/bucket/.tandem/probe/a%2Bb?versionId=2"


@pytest.mark.parametrize("prefix", ["", "k", ".tandem/", "x/.tandem/probe/"])
async def test_nothing_but_scratch_keys_is_ever_purged(
    store: S3Store, server: ScriptedServer, prefix: str
):
    with pytest.raises(ValueError, match="only keys under"):
        await store.purge(prefix)
    assert server.requests == []


@pytest.mark.parametrize("body", [b"", b"<a>", b"<!DOCTYPE a><a/>"])
def test_a_page_of_versions_that_cannot_be_read_is_an_error(body: bytes):
    with pytest.raises(ValueError, match="the server"):
        versions_of(body)


def test_a_page_that_is_no_listing_of_versions_is_an_error():
    with pytest.raises(ValueError, match="in place of a listing of versions"):
        versions_of(b"<ListBucketResult></ListBucketResult>")


def test_a_version_without_an_id_is_the_null_version():
    found, following = versions_of(page(version("Version", "a+b", "")))
    assert [(one.key, one.version_id) for one in found] == [("a b", "null")]
    assert following is None


def ids(*entries: str) -> list[str]:
    return [one.version_id for one in versions_of(page(*entries))[0]]


def test_versions_and_markers_that_come_in_turns_are_left_in_their_order():
    turns = [("Version", "3"), ("DeleteMarker", "2"), ("Version", "1")]
    assert ids(*(version(kind, "k", name) for kind, name in turns)) == ["3", "2", "1"]


def test_markers_that_are_listed_apart_are_put_in_their_places_by_time():
    told = [
        ("Version", 5),
        ("Version", 3),
        ("Version", 1),
        ("DeleteMarker", 4),
        ("DeleteMarker", 2),
    ]
    entries = [version(kind, "k", str(at), f"2026-11-21T08:32:0{at}Z") for kind, at in told]
    assert ids(*entries) == ["5", "4", "3", "2", "1"]


def test_ids_that_tell_the_time_finer_than_the_listing_are_believed():
    first, second, third = (f"01M7ZAXQ8{one}0000000000000000" for one in "BEH")
    entries = [
        version("DeleteMarker", "k", second, "2026-11-21T08:32:59.9Z"),
        version("Version", "k", third),
        version("Version", "k", first),
    ]
    assert ids(*entries) == [third, second, first]


async def test_versions_of_pages_that_lead_nowhere_are_not_believed(
    store: S3Store, server: ScriptedServer
):
    same = answer("200 OK", page(version("Version", "a", "1"), more=MORE))
    server.script = [same, same]
    with pytest.raises(Transient, match="followed by itself"):
        [one async for one in store.versions()]


async def test_versions_whose_keys_go_backwards_are_not_believed(
    store: S3Store, server: ScriptedServer
):
    first = answer("200 OK", page(version("Version", "b", "1"), more=MORE))
    last = answer("200 OK", page(version("Version", "a", "1")))
    server.script = [first, last]
    with pytest.raises(Transient, match="cannot be trusted"):
        [one async for one in store.versions()]


@pytest.mark.parametrize(
    ("told", "versioning"),
    [
        ("<Status>Enabled</Status>", "enabled"),
        ("<Status>Suspended</Status>", "suspended"),
        ("", "off"),
    ],
)
async def test_a_bucket_tells_whether_it_keeps_versions(
    store: S3Store, server: ScriptedServer, told: str, versioning: str
):
    body = f"<VersioningConfiguration>{told}</VersioningConfiguration>".encode()
    server.script = [answer("200 OK", body)]
    assert await store.versioning() == versioning
    assert server.requests[0].target == "/bucket?versioning="


async def test_one_version_is_asked_for_by_its_id(store: S3Store, server: ScriptedServer):
    server.script = [refused("404 Not Found", "NoSuchVersion")] * 2
    assert await store.head("k", "v 1") is None
    async with store.open("k", version_id="v 1") as reader:
        assert reader is None
    assert [request.target for request in server.requests] == ["/bucket/k?versionId=v%201"] * 2


async def test_a_page_comes_in_the_servers_own_order(store: S3Store, server: ScriptedServer):
    entry = (
        "<Contents><Key>{}</Key><ETag>e</ETag><Size>1</Size>"
        "<LastModified>2026-11-21T08:32:59Z</LastModified></Contents>"
    )
    entries = f"{entry.format('b')}{entry.format('a')}<IsTruncated>false</IsTruncated>"
    body = f"<ListBucketResult>{entries}</ListBucketResult>".encode()
    server.script = [answer("200 OK", body), answer("200 OK", body)]
    assert [one.key for one in await store.page("", "0")] == ["b", "a"]
    assert "start-after=0" in server.requests[0].target
    with pytest.raises(Transient, match="cannot be trusted"):
        [one async for one in store.list()]
