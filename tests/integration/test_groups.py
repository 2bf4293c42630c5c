"""A data set and its index on a real server, to a target that is slow: what readers there see.

Many clients write at once, workers share the events, which come in the worst order; readers ask the
target all the while. In the end the target's own clock tells what was written after what.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tandem.change import Change
from tandem.engine import Engine
from tandem.metrics import NoMetrics
from tandem.queues.memory import MemoryQueue
from tandem.rule import Group, Rule
from tandem.settings import Site
from tandem.stores.probe import probe
from tandem.stores.s3 import S3Store
from tandem.worker import Worker
from tests.conftest import client_of
from tests.proxy import Fault, Proxy
from tests.servers import Minio

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

RULE = Rule("tables", "source", ("target",), groups=(Group("*/manifest.json"),))
INDEX = "table/manifest.json"
DATA = [f"table/data/{number:03}" for number in range(200)]
CLIENTS = 16
WORKERS = 3


def slowly(seed: int) -> Callable[[bytes], Fault | None]:
    """Delay each request that writes, by up to a tenth of a second."""
    chance = random.Random(seed)

    def choose(head: bytes) -> Fault | None:
        if not head.startswith(b"PUT"):
            return None
        seconds = chance.uniform(0.01, 0.1)
        return Fault("slow", wait=lambda: asyncio.sleep(seconds))

    return choose


def write(client: S3Client, bucket: str, order: list[str]) -> None:
    """Put an object under each key, by many clients at once."""

    def put(key: str) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(put, order))


def times(client: S3Client, bucket: str) -> dict[str, float]:
    """Return when each key of a bucket was written, by the server's clock."""
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {one["Key"]: one["LastModified"].timestamp() for one in listed}


def lacking(client: S3Client, bucket: str, needed: set[str]) -> set[str] | None:
    """Read as readers do, the index first: return what is not there of it; None without it."""
    try:
        client.head_object(Bucket=bucket, Key=INDEX)
    except client.exceptions.ClientError:
        return None
    return needed - times(client, bucket).keys()


@pytest.mark.parametrize("place", ["last", "amid"])
async def test_no_reader_of_the_target_ever_finds_the_index_before_its_data(
    place: str, minio: Minio, make_bucket: Callable[..., str]
):
    chance, client = random.Random(5), client_of(minio)
    buckets = {name: make_bucket(minio) for name in ("source", "target")}
    order = [*DATA, INDEX]
    if place == "amid":
        order.insert(len(DATA) // 2, order.pop())
    async with Proxy(int(minio.endpoint.rsplit(":", 1)[1]), slowly(5)) as proxy:
        ends = {"source": minio.endpoint, "target": proxy.endpoint}
        sites = {
            name: Site(name, buckets[name], ends[name], minio.access_key, minio.secret_key)
            for name in buckets
        }
        stores = {name: S3Store.connect(site) for name, site in sites.items()}
        stores["target"].capabilities = (await probe(stores["target"])).capabilities
        await asyncio.to_thread(write, client, buckets["source"], order)
        at_source = await asyncio.to_thread(times, client, buckets["source"])
        older = {key for key in DATA if at_source[key] <= at_source[INDEX]}
        queue = MemoryQueue(lease=30.0)
        workers = [
            Worker(queue, Engine(stores, (RULE,)), sites, NoMetrics(), slots=8)
            for _ in range(WORKERS)
        ]
        # The index's event first, then the others in any order; a few are lost.
        told = DATA[: -len(DATA) // 50]
        chance.shuffle(told)
        await queue.send(*(Change("source", key) for key in [INDEX, *told]))
        running = [asyncio.create_task(worker.run()) for worker in workers]
        asked, lacked = 0, None
        async with asyncio.timeout(60):
            while lacked is None:
                lacked = await asyncio.to_thread(lacking, client, buckets["target"], older)
                asked += 1
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
        for store in stores.values():
            await store.close()
    at_target = times(client, buckets["target"])
    client.close()
    assert len(older) >= len(DATA) // 4
    assert lacked == set()
    assert asked > 3
    assert {key for key in older if at_target[key] > at_target[INDEX]} == set()
    held = [
        one for one in await queue.history(INDEX) if one.outcome and one.outcome.decision.awaits
    ]
    assert held
