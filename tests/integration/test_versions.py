"""Rules with all versions on real servers: histories in order, whoever is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tandem.change import Change
from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import Conflict, Invalid
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores.probe import probe
from tandem.stores.s3 import S3Store
from tandem.transfer import Transfer
from tests.conftest import client_of
from tests.integration.racing import Held
from tests.servers import Minio, Versitygw

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

RULE = Rule("all", "source", ("target",), versions="all")
KEY = "versions/key"
PART = 5 * 1024 * 1024
HISTORY = [b"1", b"2", None, b"3", b"4", None, b"5"]


@dataclass
class Pair:
    """A source and a target bucket with versions, and workers between them."""

    source: S3Store
    target: S3Store
    client: S3Client

    def play(self, *history: bytes | None) -> None:
        """Put and delete at the source as a user would."""
        bucket = self.source.bucket
        for body in history:
            if body is None:
                self.client.delete_object(Bucket=bucket, Key=KEY)
            else:
                self.client.put_object(
                    Bucket=bucket, Key=KEY, Body=body, Metadata={"body": body[:1].decode()}
                )

    async def work(self, target: Any = None) -> Any:
        """Converge as a worker does that sees the target as `target`, as often as it must."""
        stores = {"source": self.source, "target": target or self.target}
        engine = Engine(stores, (RULE,), Transfer(part_size=PART))
        while True:
            try:
                return await engine.converge(RULE, "target", Change("source", KEY))
            except Conflict:
                continue

    def history(self, bucket: str) -> list[bytes | None]:
        """Return what a bucket holds of the key, oldest first, as boto3 and the clock tell it."""
        told = self.client.list_object_versions(Bucket=bucket, Prefix=KEY)
        found: list[Any] = [*told.get("Versions", ()), *told.get("DeleteMarkers", ())]
        return [
            None if "ETag" not in one else self._body(bucket, one["VersionId"])
            for one in sorted(found, key=lambda one: one["LastModified"])
        ]

    def _body(self, bucket: str, version: str) -> bytes:
        found = self.client.get_object(Bucket=bucket, Key=KEY, VersionId=version)
        return found["Body"].read()


MakePair = Callable[..., Any]


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, make_bucket: Callable[..., str]
) -> AsyncIterator[Pair]:
    """Give a pair on the server that a test names, MinIO by default."""
    kind = getattr(request, "param", "minio")
    server: Minio | Versitygw = request.getfixturevalue(kind)
    source, target = (
        S3Store.connect(
            Site(
                name,
                make_bucket(server, versioning=True),
                server.endpoint,
                server.access_key,
                server.secret_key,
                dialect=kind,
            )
        )
        for name in ("source", "target")
    )
    target.capabilities = (await probe(target)).capabilities
    client = client_of(server)
    yield Pair(source, target, client)
    client.close()
    await source.close()
    await target.close()


async def test_versions_are_replayed_in_order_with_delete_markers_in_their_places(pair: Pair):
    pair.play(*HISTORY)
    await pair.work()
    assert pair.history(pair.target.bucket) == HISTORY
    assert (await pair.work()).decision.action is Action.SKIP
    pair.play(None, b"6", b"7", None)
    await pair.work()
    assert pair.history(pair.target.bucket) == [*HISTORY, None, b"6", b"7", None]
    assert (await pair.work()).decision.action is Action.SKIP


@pytest.mark.parametrize("skip", range(5))
async def test_versions_are_replayed_in_order_by_two_workers_of_whom_one_is_overtaken_at_a_put(
    pair: Pair, skip: int
):
    bodies = [body for body in HISTORY if body]
    assert skip < len(bodies)
    pair.play(*HISTORY)
    slow = Held(pair.target, "put", skip)
    stale = asyncio.create_task(pair.work(slow))
    await slow.reached.wait()
    await pair.work()
    assert pair.history(pair.target.bucket) == HISTORY
    slow.opened.set()
    await stale
    told = pair.history(pair.target.bucket)
    # The first two puts expect nothing, or what only they replace; another may expect what
    # others have come back to: then the rest is repeated, in order.
    assert told == HISTORY or told == [*HISTORY, *HISTORY[HISTORY.index(bodies[skip]) :]]
    assert pair.history(pair.source.bucket)[-1] == told[-1]


async def test_versions_are_replayed_in_order_by_two_workers_at_once(pair: Pair):
    for turn in range(5):
        pair.play(*[body and body + b"%d" % turn for body in HISTORY], None)
        await asyncio.gather(pair.work(), pair.work())
        told, wanted = (pair.history(store.bucket) for store in (pair.target, pair.source))
        # MinIO keeps to no condition on deletes: one that comes late is made good by repetition.
        rest = iter(told)
        assert all(body in rest for body in wanted)
        assert told[-1] is wanted[-1] is None
        assert (await pair.work()).decision.action is Action.SKIP


async def test_a_worker_that_is_overtaken_at_a_delete_repeats_it_at_worst(pair: Pair):
    pair.play(b"1", None, b"2")
    slow = Held(pair.target, "delete")
    stale = asyncio.create_task(pair.work(slow))
    await slow.reached.wait()
    await pair.work()
    slow.opened.set()
    await stale
    assert pair.history(pair.target.bucket) == [b"1", None, b"2", None, b"2"]
    assert (await pair.work()).decision.action is Action.SKIP


async def test_large_versions_are_read_by_their_ids(pair: Pair):
    bodies = [b"1" * (PART + 1), b"2" * (PART + 2)]
    pair.play(*bodies)
    await pair.work()
    assert pair.history(pair.target.bucket) == bodies


async def test_versions_that_minio_does_not_list_are_refused(pair: Pair):
    pair.play(b"1")
    above = KEY.partition("/")[0]
    for bucket in (pair.source.bucket, pair.target.bucket):
        pair.client.put_object(Bucket=bucket, Key=above, Body=b"above")
    with pytest.raises(Invalid, match="does not list its versions"):
        await pair.work()
    assert await pair.target.head(KEY) is None


@pytest.mark.parametrize("status", ["Suspended"])
async def test_a_target_whose_versioning_is_suspended_is_refused_with_nothing_done(
    pair: Pair, status: Any
):
    pair.play(*HISTORY)
    pair.client.put_bucket_versioning(
        Bucket=pair.target.bucket, VersioningConfiguration={"Status": status}
    )
    with pytest.raises(Invalid, match=f"{pair.target.bucket} of the site target is suspended"):
        await pair.work()
    assert pair.history(pair.target.bucket) == []


async def test_the_null_version_of_a_source_whose_versioning_is_suspended_is_followed(pair: Pair):
    pair.play(b"1")
    pair.client.put_bucket_versioning(
        Bucket=pair.source.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    for newest in (b"2", b"3", None, b"4"):
        pair.play(newest)
        await pair.work()
        assert (await pair.work()).decision.action is Action.SKIP
    assert pair.history(pair.target.bucket) == [b"1", b"2", b"3", None, b"4"]


@pytest.mark.parametrize("pair", ["versitygw"], indirect=True)
async def test_versions_are_replayed_in_order_between_other_servers(pair: Pair):
    pair.play(b"1", b"2", None, b"3")
    await pair.work()
    found = [version async for version in pair.target.versions(KEY)]
    assert [version.size for version in found] == [1, 0, 1, 1]
    assert (await pair.work()).decision.action is Action.SKIP
