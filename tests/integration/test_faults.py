"""Twenty changes a second while the network between workers and target drops, delays and cuts.

The plumbing is that of the local stack: MinIO tells NATS, two workers replicate. Set
TANDEM_FAULT_SECONDS for a long run, in which requests also land after their time-out; what
happened is printed, which `pytest -s` shows. docs/benchmarks.md has the figures of one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.logs import FILE_VARIABLE
from service.worker import READY_VARIABLE
from stacks.local.minio import destinations, targets
from stacks.local.notification import EVENTS
from stacks.local.paths import HOME
from tandem.ledger import flag_number
from tandem.queues.jetstream import JetStreamQueue
from tandem.rule import Rule
from tandem.settings import ENVIRONMENT_VARIABLE, JetStream, Settings, Site
from tandem.stores.base import Capabilities
from tandem.stores.s3_connection import SILENCE_SECONDS
from tests.conftest import bucket_on, client_of
from tests.integration.workload import KIB, MIB, Item, contents, put, uploads
from tests.proxy import Proxy, Weather
from tests.queues.conftest import prepared
from tests.servers import START_SECONDS, Minio, Nats

pytestmark = pytest.mark.timeout(1800)

FUNCTION_SOURCE = Path(__file__).parents[2] / "function_src"
SECONDS = float(os.environ.get("TANDEM_FAULT_SECONDS", "25"))
LONG_SECONDS = 120.0
CHANGES_PER_SECOND = 20
# One change of so many is a large object.
LARGE_ONE_IN = 50
MAX_PARTS = Capabilities().max_parts
KEYS = [f"faults/{number:03}" for number in range(150)]
LARGE_KEYS = [f"faults/large-{number}" for number in range(10)]
# Deletes that may or may not have happened are looked at again after a minute.
DRAIN_SECONDS = 900.0
# Events that wait on the source's disk come within three seconds.
QUIET_SECONDS = 6.0


@dataclass
class Plumbing:
    """Both servers, the settings that workers read, and the network between."""

    source: Minio
    target: Minio
    settings: Settings
    proxy: Proxy
    weather: Weather
    environment: dict[str, str]

    def bucket(self, site: str) -> str:
        """Return the name of a site's bucket."""
        return self.settings.sites[site].bucket

    async def tandem(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the `tandem` command."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tandem.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


def told_to(queue: JetStream, nats: Nats, folder: Path) -> dict[str, str]:
    """Return the environment in which a server tells NATS of its changes, as in a stack."""
    address = f"127.0.0.1:{nats.port}"
    found: dict[str, Any] = dict(targets("source", "source", queue, address, nats.password))
    return {name: value.replace(HOME, str(folder)) for name, value in found.items()}


def notify(source: Minio, bucket: str) -> None:
    rules: Any = [
        {"Id": name, "QueueArn": arn, "Events": list(EVENTS)}
        for name, arn in destinations("source").items()
    ]
    client = client_of(source)
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": rules}
    )
    client.close()


@contextmanager
def workers(environment: dict[str, str], folder: Path, count: int) -> Iterator[list[Path]]:
    """Run workers as a stack does; give the files that are there once they are ready."""
    ready = [folder / f"ready-{number}" for number in range(count)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "service.worker", "--name", f"worker-{number}"],
            env={
                **environment,
                READY_VARIABLE: str(file),
                FILE_VARIABLE: str(folder / f"worker-{number}.log"),
            },
            stdin=subprocess.DEVNULL,
        )
        for number, file in enumerate(ready)
    ]
    try:
        yield ready
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.wait(START_SECONDS)


def wait_for(files: Iterable[Path]) -> None:
    limit = time.monotonic() + START_SECONDS
    while not all(file.exists() for file in files):
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.fixture
async def plumbing(nats: Nats, second_minio: Minio, tmp_path: Path) -> AsyncIterator[Plumbing]:
    """Give everything but the workers, with fair weather."""
    queue = await prepared(nats, ack_wait=JetStreamQueue.lease)
    source = Minio(tmp_path / "source", told_to(queue, nats, tmp_path))
    source.start()
    late = SILENCE_SECONDS + 5 if SECONDS >= LONG_SECONDS else None
    weather = Weather(seed=11, calm=12, late=late)
    weather.clear = True
    async with Proxy(second_minio.port, weather) as proxy:
        sites = {
            name: Site(name, bucket_on(server), endpoint, server.access_key, server.secret_key)
            for name, server, endpoint in (
                ("source", source, source.endpoint),
                ("target", second_minio, proxy.endpoint),
            )
        }
        settings = Settings("test", sites, (Rule("all", "source", ("target",)),), queue)
        notify(source, sites["source"].bucket)
        (tmp_path / "tandem.json").write_text(settings.dump())
        environment = {
            **os.environ,
            "PYTHONPATH": str(FUNCTION_SOURCE),
            ENVIRONMENT_VARIABLE: str(tmp_path / "tandem.json"),
        }
        yield Plumbing(source, second_minio, settings, proxy, weather, environment)
    source.kill()


def change(client: Any, bucket: str, number: int) -> str:
    """Make one change of any kind to the source, and return its kind."""
    chance = random.Random(number)
    if number % LARGE_ONE_IN == LARGE_ONE_IN // 2:
        put(client, bucket, Item(chance.choice(LARGE_KEYS), 20 * MIB), chance)
        return "large put"
    if chance.random() < 0.2:
        keys = LARGE_KEYS if chance.random() < 0.05 else KEYS
        client.delete_object(Bucket=bucket, Key=chance.choice(keys))
        return "delete"
    size = chance.choice((0, KIB, 4 * KIB, 64 * KIB, 200 * KIB))
    put(client, bucket, Item(chance.choice(KEYS), size), chance)
    return "put"


def work(source: Minio, bucket: str, seconds: float) -> Counter[str]:
    """Make changes at an even pace, and return how many of each kind."""
    client = client_of(source)
    began = time.monotonic()

    def one(number: int) -> str:
        time.sleep(max(0.0, began + number / CHANGES_PER_SECOND - time.monotonic()))
        return change(client, bucket, number)

    with ThreadPoolExecutor(4) as pool:
        made = Counter(pool.map(one, range(int(seconds * CHANGES_PER_SECOND))))
    client.close()
    return made


async def drained(settings: Settings) -> float:
    """Wait until no change waits, nor comes late; return after how many seconds the last went."""
    queue = await JetStreamQueue.connect(settings.queue)
    began = last = time.monotonic()
    try:
        while time.monotonic() < last + QUIET_SECONDS:
            await asyncio.sleep(0.5)
            waiting = (await queue.backlog()).count
            if any(waiting.values()):
                last = time.monotonic()
                assert last < began + DRAIN_SECONDS, f"{waiting} still wait"
    finally:
        await queue.close()
    return last - began


def begun(target: Minio, bucket: str) -> list[str]:
    """Return the key of each unfinished upload that holds some of an object.

    One may hold nothing: its answer was lost, or its ledger. Whose it is nobody can tell, it costs
    nothing, and MinIO drops it after a day.
    """
    client = client_of(target)
    found = []
    for key in uploads(target, bucket, LARGE_KEYS):
        for upload in client.list_multipart_uploads(Bucket=bucket, Prefix=key)["Uploads"]:
            told = client.list_parts(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
            numbers = [part["PartNumber"] for part in told.get("Parts", ())]
            found += [key for number in numbers if number < flag_number(MAX_PARTS)]
    client.close()
    return found


async def test_nothing_is_lost_while_the_network_to_the_target_drops_delays_and_cuts(
    plumbing: Plumbing, tmp_path: Path
):
    source, target = plumbing.bucket("source"), plumbing.bucket("target")
    with workers(plumbing.environment, tmp_path, 2) as ready:
        await asyncio.to_thread(wait_for, ready)
        plumbing.weather.clear = False
        began = time.monotonic()
        made = await asyncio.to_thread(work, plumbing.source, source, SECONDS)
        worked = time.monotonic() - began
        plumbing.weather.clear = True
        last = await drained(plumbing.settings)
    here, there = await asyncio.gather(
        asyncio.to_thread(contents, plumbing.source, source),
        asyncio.to_thread(contents, plumbing.target, target),
    )
    left = uploads(plumbing.target, target, LARGE_KEYS)
    swept = await plumbing.tandem("sweep", "--older-than", "0s", "--json")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    figures = {
        "seconds": round(worked, 1),
        "changes": made,
        "requests": plumbing.proxy.requests,
        "faults": plumbing.proxy.done,
        "drained after seconds": round(last, 1),
        "uploads left behind": len(left),
        "of them swept up": len(json.loads(swept.stdout)["uploads"]),
    }
    print(json.dumps(figures, indent=2))  # noqa: T201 -- the figures of a long run
    assert there == here
    assert begun(plumbing.target, target) == []
    # Connections are few, so that in a short run none may be refused; and none of it lands late.
    assert len(plumbing.proxy.done) >= (6 if SECONDS < LONG_SECONDS else 8)
    # All that went wrong could be mended by trying again, so nothing is left to be explained.
    errors = await plumbing.tandem("errors", "--json")
    assert (errors.returncode, json.loads(errors.stdout)) == (0, []), errors.stdout
    verified = await plumbing.tandem("verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
