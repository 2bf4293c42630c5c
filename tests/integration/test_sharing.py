"""What a source is asked for one change and three targets, by the server's own word."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

from bench.traces import Stream
from tandem.change import Change
from tandem.engine import Engine
from tandem.metrics import NoMetrics
from tandem.queues.memory import MemoryQueue
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores.s3 import S3Store
from tandem.worker import Worker
from tests.conftest import client_of
from tests.servers import Minio

TARGETS = ("one", "two", "three")


def asked(stream: Stream, bucket: str) -> Counter[str]:
    """Return how often each call was made on a bucket, as far as the server has told."""
    whole = stream.text.rpartition("\n")[0]
    calls = [json.loads(line) for line in whole.splitlines() if line.strip()]
    return Counter(
        call["funcname"].removeprefix("s3.")
        for call in calls
        if call["path"].startswith(f"/{bucket}/")
    )


async def test_a_source_is_read_once_for_all_targets(
    minio: Minio, make_bucket: Callable[[Minio], str]
):
    sites = {
        name: Site(name, make_bucket(minio), minio.endpoint, minio.access_key, minio.secret_key)
        for name in ("source", *TARGETS)
    }
    bucket = sites["source"].bucket
    stores = {name: S3Store.connect(site) for name, site in sites.items()}
    client = client_of(minio)
    written = client.put_object(Bucket=bucket, Key="k", Body=b"body")
    queue = MemoryQueue()
    engine = Engine(stores, (Rule("fan", "source", TARGETS),))
    worker = Worker(queue, engine, sites, NoMetrics())
    stream = await asyncio.to_thread(Stream, sites["source"])
    running = asyncio.create_task(worker.run())
    await queue.send(Change("source", "k", etag=written["ETag"].strip('"'), size=4))
    async with asyncio.timeout(60):
        # Each target has its own look at the source after its write.
        while asked(stream, bucket)["HeadObject"] < len(TARGETS):  # noqa: ASYNC110 -- only asking tells
            await asyncio.sleep(0.05)
    worker.stop()
    await running
    await asyncio.to_thread(stream.close)
    assert asked(stream, bucket) == {"GetObject": 1, "HeadObject": len(TARGETS)}
    for name in TARGETS:
        found = client.get_object(Bucket=sites[name].bucket, Key="k")
        assert found["Body"].read() == b"body"
    client.close()
    await asyncio.gather(*(store.close() for store in stores.values()))
