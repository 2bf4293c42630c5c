"""Who is overtaken half-way: on real servers, with requests held at the very point that matters.

A request is held either in front of a store, before it is sent, or on the wire, in the middle of
it. What the sides hold in the end is asked by boto3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tandem import transfer
from tandem.change import Change, decode, encode
from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import Conflict, Transient
from tandem.late_look import SETTLE
from tandem.metrics import NoMetrics
from tandem.queues.memory import MemoryQueue
from tandem.settings import Site
from tandem.stores import s3_connection
from tandem.stores.probe import probe
from tandem.stores.s3 import S3Store
from tandem.worker import Worker
from tests.conftest import client_of
from tests.integration.racing import KEY, PART, RULE, Held, Pair
from tests.proxy import Gate, Proxy
from tests.servers import Minio, Versitygw

# MinIO as the probe finds it, MinIO as a server that keeps to no condition, and another server.
WAYS = ("minio", "minio without conditions", "versitygw")
LARGE = {"v1": b"1" * (2 * PART + 7), "v2": b"2" * (2 * PART + 7)}


MakePair = Callable[..., Awaitable[Pair]]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def make_pair(
    way: str, request: pytest.FixtureRequest, make_bucket: Callable[..., str]
) -> AsyncIterator[MakePair]:
    """Give a function that makes a pair whose target is known as the probe finds it."""
    kind = "versitygw" if way == "versitygw" else "minio"
    server: Minio | Versitygw = request.getfixturevalue(kind)
    made: list[Pair] = []

    async def make(*, versioned: bool = False) -> Pair:
        sites = {
            name: Site(
                name,
                make_bucket(server, versioning=versioned),
                server.endpoint,
                server.access_key,
                server.secret_key,
                dialect=kind,
            )
            for name in ("source", "target")
        }
        source, target = (S3Store.connect(site) for site in sites.values())
        target.capabilities = (await probe(target)).capabilities
        if way == "minio without conditions":
            target.capabilities = replace(
                target.capabilities,
                conditional_put=False,
                conditional_complete=False,
                conditional_delete=False,
            )
        made.append(Pair(source, target, sites, client_of(server)))
        return made[-1]

    yield make
    for pair in made:
        pair.client.close()
        await pair.source.close()
        await pair.target.close()


@pytest.fixture
async def pair(make_pair: MakePair, request: pytest.FixtureRequest) -> Pair:
    """Give a pair of buckets, without versions unless a test asks for them."""
    return await make_pair(versioned=getattr(request, "param", False))


plain_and_versioned = pytest.mark.parametrize(
    "pair", [False, True], ids=["plain", "versioned"], indirect=True
)


Road = tuple[Proxy, S3Store]


@pytest.fixture
async def road(pair: Pair) -> AsyncIterator[Road]:
    """Give a proxy before the target, and the store of a worker that goes through it."""
    async with on_the_way(pair) as made:
        yield made


@pytest.fixture
async def short_road(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Road]:
    """Give the same with a store that does not wait long for an answer."""
    monkeypatch.setattr(s3_connection, "SILENCE_SECONDS", 0.5)
    async with on_the_way(pair) as made:
        yield made


@asynccontextmanager
async def on_the_way(pair: Pair) -> AsyncIterator[Road]:
    site = pair.sites["target"]
    async with Proxy(int(site.endpoint.rpartition(":")[2])) as proxy:
        store = S3Store.connect(replace(site, endpoint=proxy.endpoint))
        store.capabilities = pair.target.capabilities
        yield proxy, store
        await store.close()


async def handled(pair: Pair, change: Change, target: S3Store, late: Gate) -> None:
    """Do all that a worker does about a change, be it now or after what may be late has landed."""
    while True:
        try:
            recheck = (await pair.work(change, target)).recheck
        except Transient as fault:
            recheck = SETTLE if fault.unresolved else 0.0
        if recheck is None:
            return
        if recheck:
            await late.answered.wait()


@pytest.mark.parametrize("overwrites", [False, True], ids=["new", "overwrite"])
async def test_a_writer_that_is_overtaken_before_its_put_leaves_the_newer_version(
    pair: Pair, *, overwrites: bool
):
    if overwrites:
        await pair.work(pair.put(b"v0"))
    slow = Held(pair.target, "put")
    stale = asyncio.create_task(pair.work(pair.put(b"v1"), slow))
    await slow.reached.wait()
    await pair.work(pair.put(b"v2"))
    assert pair.at_target() == b"v2"
    slow.opened.set()
    await stale
    assert pair.at_target() == b"v2"


async def test_a_large_copy_that_is_under_way_is_left_alone_and_ends_with_the_newer_version(
    pair: Pair,
):
    slow = Held(pair.target, "complete_upload")
    stale = asyncio.create_task(pair.work(pair.put(LARGE["v1"]), slow))
    await slow.reached.wait()
    newer = pair.put(LARGE["v2"])
    with pytest.raises(Conflict, match="another worker is sending"):
        await pair.work(newer)
    slow.opened.set()
    await stale
    assert pair.at_target() == LARGE["v2"]


async def test_a_large_copy_that_stands_still_is_overtaken_and_leaves_the_newer_version(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "BUSY", 0.0)
    slow = Held(pair.target, "complete_upload")
    stale = asyncio.create_task(pair.work(pair.put(LARGE["v1"]), slow))
    await slow.reached.wait()
    await pair.work(pair.put(LARGE["v2"]))
    assert pair.at_target() == LARGE["v2"]
    slow.opened.set()
    await stale
    assert pair.at_target() == LARGE["v2"]
    assert not await pair.target.list_uploads(KEY)


async def test_a_writer_that_is_overtaken_in_the_middle_of_its_body_leaves_the_newer_version(
    pair: Pair, road: Road
):
    proxy, slow = road
    bodies = {name: name.encode() * 30_000 for name in ("v1", "v2")}
    proxy.choose = gate = Gate(f"PUT /{pair.sites['target'].bucket}/".encode(), after=20_000)
    stale = asyncio.create_task(pair.work(pair.put(bodies["v1"]), slow))
    await gate.reached.wait()
    newer = asyncio.create_task(pair.work(pair.put(bodies["v2"])))
    # MinIO lets the second wait for a first that came on condition; others let it overtake.
    await asyncio.wait((newer,), timeout=1)
    gate.opened.set()
    await asyncio.gather(stale, newer)
    assert pair.at_target() == bodies["v2"]


async def test_an_object_that_is_overwritten_between_two_ranges_is_never_seen_torn(
    make_pair: MakePair,
):
    pair = await make_pair(versioned=True)
    slow = Held(pair.target, "upload_part", skip=2)  # the first two are the ledger
    copying = asyncio.create_task(pair.work(pair.put(LARGE["v1"]), slow))
    await slow.reached.wait()
    pair.put(LARGE["v2"])
    slow.opened.set()
    await copying
    assert pair.at_target() == LARGE["v2"]
    assert pair.ever_at_target() == {LARGE["v2"]}


@plain_and_versioned
async def test_a_put_that_lands_after_the_delete_is_deleted(pair: Pair):
    slow = Held(pair.target, "put")
    putting = asyncio.create_task(pair.work(pair.put(b"v1"), slow))
    await slow.reached.wait()
    await pair.work(pair.delete())
    slow.opened.set()
    await putting
    assert pair.at_target() is None


@plain_and_versioned
async def test_a_delete_that_lands_after_the_put_is_made_good(pair: Pair):
    await pair.work(pair.put(b"v1"))
    slow = Held(pair.target, "delete")
    deleting = asyncio.create_task(pair.work(pair.delete(), slow))
    await slow.reached.wait()
    await pair.work(pair.put(b"v2"))
    slow.opened.set()
    await deleting
    assert pair.at_target() == b"v2"


async def test_a_delete_that_lands_after_its_delete_marker_was_removed_is_made_good(
    make_pair: MakePair,
):
    pair = await make_pair(versioned=True)
    await pair.work(pair.put(b"v1"))
    slow = Held(pair.target, "delete")
    deleting = asyncio.create_task(pair.work(pair.delete(), slow))
    await slow.reached.wait()
    outcome = await pair.work(pair.undelete())
    assert outcome.decision.action is Action.SKIP
    slow.opened.set()
    await deleting
    assert pair.at_target() == b"v1"


async def test_tags_of_an_older_version_do_not_stay_on_a_newer_one(pair: Pair):
    await pair.work(pair.put(b"v1", Tagging="stage=one"))
    slow = Held(pair.target, "put_tags")
    retagging = asyncio.create_task(pair.work(pair.put(b"v1", Tagging="stage=two"), slow))
    await slow.reached.wait()
    await pair.work(pair.put(b"v2", Tagging="stage=three"))
    slow.opened.set()
    await retagging
    assert pair.at_target() == b"v2"
    bucket = pair.sites["target"].bucket
    found = pair.client.get_object_tagging(Bucket=bucket, Key=KEY)["TagSet"]
    assert found == [{"Key": "stage", "Value": "three"}]


async def given_up(
    pair: Pair, road: Road, method: str, change: Change
) -> tuple[Gate, asyncio.Task[None]]:
    """Have a worker give up its first write; return where it lies, and what the worker does."""
    proxy, slow = road
    line = f"{method} /{pair.sites['target'].bucket}/".encode()
    proxy.choose = gate = Gate(line)
    working = asyncio.create_task(handled(pair, change, slow, gate))
    await gate.reached.wait()
    return gate, working


async def landed(gate: Gate, working: asyncio.Task[None]) -> None:
    """Let a request pass that was given up, after all has been done that can be done before."""
    await asyncio.wait((working,), timeout=1)
    gate.opened.set()
    await gate.answered.wait()
    await working


async def test_a_first_put_that_lands_after_it_was_given_up_does_not_undo_a_delete(
    pair: Pair, short_road: Road
):
    gate, working = await given_up(pair, short_road, "PUT", pair.put(b"v1"))
    await pair.work(pair.delete())
    await landed(gate, working)
    assert pair.at_target() is None


async def test_an_overwriting_put_that_lands_after_it_was_given_up_does_not_undo_a_return(
    pair: Pair, short_road: Road
):
    await pair.work(pair.put(b"v0"))
    looking_first = replace(pair.put(b"v1"), size=None)
    gate, working = await given_up(pair, short_road, "PUT", looking_first)
    await pair.work(pair.put(b"v0"))
    await landed(gate, working)
    assert pair.at_target() == b"v0"


async def test_a_delete_that_lands_after_it_was_given_up_is_made_good(pair: Pair, short_road: Road):
    await pair.work(pair.put(b"v1"))
    gate, working = await given_up(pair, short_road, "DELETE", pair.delete())
    await pair.work(pair.put(b"v2"))
    await landed(gate, working)
    assert pair.at_target() == b"v2"


async def test_an_event_that_is_told_twice_is_looked_at_again_where_a_delete_was_given_up(
    pair: Pair, short_road: Road
):
    await pair.work(pair.put(b"v1"))
    proxy, slow = short_road
    slow.capabilities = replace(slow.capabilities, conditional_delete=False)
    proxy.choose = gate = Gate(f"DELETE /{pair.sites['target'].bucket}/".encode())
    queue = MemoryQueue()
    engine = Engine({"source": pair.source, "target": slow}, (RULE,))
    worker = Worker(queue, engine, pair.sites, NoMetrics(), slots=1)
    working = asyncio.create_task(worker.run())
    deleted = replace(pair.delete(), event="the delete")
    await queue.send(deleted)
    await until(lambda: is_put_off(queue))
    await queue.send(deleted, replace(pair.put(b"v2"), event="the put"))
    await until(lambda: is_put_off(queue))
    assert pair.at_target() == b"v2"
    gate.opened.set()
    await gate.answered.wait()
    for message in queue._messages:  # a minute later
        [change] = decode(message.body, pair.sites[message.site])
        message.body = encode(replace(change, due=datetime.now(UTC)))
        message.due = 0.0
    queue.wake()
    await until(lambda: not queue._messages)
    assert pair.at_target() == b"v2"
    worker.stop()
    await working


def is_put_off(queue: MemoryQueue) -> bool:
    """Return whether one message is left, and is to come again in a minute."""
    soon = asyncio.get_running_loop().time() + SETTLE / 2
    return [message.due > soon for message in queue._messages] == [True]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


async def test_a_delete_marker_at_a_versioned_source_deletes_and_its_removal_brings_back(
    make_pair: MakePair,
):
    pair = await make_pair(versioned=True)
    await pair.work(pair.put(b"v1"))
    outcome = await pair.work(pair.delete())
    assert outcome.decision.action is Action.DELETE
    assert pair.at_target() is None
    assert pair.ever_at_target() == {b"v1"}  # as an old version
    await pair.work(pair.undelete())
    assert pair.at_target() == b"v1"
