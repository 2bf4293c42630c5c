"""What only a real server can tell of the S3 store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tandem.errors import Denied, Invalid, Missing, Transient
from tandem.stores.base import Content
from tandem.stores.s3 import S3Store
from tests.conftest import client_of
from tests.stores.conftest import minio_site


@pytest.fixture
async def store(minio, bucket):
    store = S3Store.connect(minio_site(minio, bucket))
    yield store
    await store.close()


@pytest.mark.parametrize("wrong", [{"secret_key": "wrong"}, {"access_key": "nobody"}])
async def test_wrong_credentials_are_denied(minio, bucket, wrong):
    store = S3Store.connect(replace(minio_site(minio, bucket), **wrong))
    for call in (store.put("k", b"", Content()), store.head("k"), store.is_absent("k")):
        with pytest.raises(Denied):
            await call
    await store.close()


async def test_a_missing_bucket_is_missing_and_no_evidence_about_keys(minio):
    store = S3Store.connect(minio_site(minio, "no-such-bucket"))
    assert await store.head("k") is None
    for call in (
        store.is_absent("k"),
        store.put("k", b"", Content()),
        store.delete("k"),
        store.tags("k"),
        store.list_uploads("k"),
    ):
        with pytest.raises(Missing, match="NoSuchBucket"):
            await call
    with pytest.raises(Missing):
        await anext(store.list())
    await store.close()


async def test_boto_reads_what_was_written_and_the_other_way_round(minio, bucket, store):
    client = client_of(minio)
    content = Content({"content-type": "a/b"}, {"owner": "ada"}, {"team": "x"})
    await store.put("a+b c/\u00e9", b"ours", content)
    got = client.get_object(Bucket=bucket, Key="a+b c/\u00e9")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (
        b"ours",
        "a/b",
        {"owner": "ada"},
    )
    client.put_object(
        Bucket=bucket, Key="theirs", Body=b"t", Metadata={"Owner": "bob"}, Tagging="team=y%2Bz"
    )
    client.close()
    state = await store.head("theirs")
    assert state is not None
    assert (state.metadata, state.tag_count) == ({"owner": "bob"}, 1)
    assert await store.tags("theirs") == {"team": "y+z"}


async def test_what_a_server_says_of_limits_is_invalid(store):
    for content in (
        Content(metadata={"a": "x" * 9000}),
        Content(tags={str(number): "" for number in range(11)}),
    ):
        with pytest.raises(Invalid, match="400"):
            await store.put("k", b"", content)


async def test_many_requests_at_once_share_few_connections(minio, bucket):
    store = S3Store.connect(minio_site(minio, bucket), connections=4)
    await asyncio.gather(*(store.put(f"{n}", b"x", Content()) for n in range(100)))
    assert len([entry async for entry in store.list()]) == 100
    await store.close()


async def test_a_store_outlives_its_server(second_minio, make_bucket):
    store = S3Store.connect(minio_site(second_minio, make_bucket(second_minio)))
    await store.put("k", b"1", Content())
    second_minio.kill()
    with pytest.raises(Transient):
        await store.head("k")
    second_minio.start()
    assert await store.head("k") is not None
    await store.close()


async def test_minio_lists_nothing_under_the_name_of_an_object(store):
    """One more reason why a listing is never evidence that a key is not there."""
    await store.put("a", b"1", Content())
    await store.put("a/b", b"2", Content())
    assert [entry.key async for entry in store.list()] == ["a"]
    assert [entry.key async for entry in store.list("a/")] == []
    assert not await store.is_absent("a/b")
    await store.delete("a")
    assert [entry.key async for entry in store.list()] == ["a/b"]
