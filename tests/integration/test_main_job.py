"""The main job on the real thing: a stack by `pulumi up`, worked hard, then compared."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import nats
import pytest

from bench.traces import mc_environment
from tandem.settings import Site
from tandem.stores.base import SCRATCH, Content
from tandem.stores.s3 import S3Store
from tests.conftest import client_of
from tests.integration.workload import MIB, Item, contents, items, put, uploads, work
from tests.stack import Stack
from tools.install import ensure

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack that is up."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def assert_equal_sides(stack: Stack) -> None:
    """Compare the sides by boto3, byte for byte, and by `tandem verify`."""
    stack.wait_until_quiet()
    sites = stack.settings.sites
    there = contents(stack.server("target"), sites["target"].bucket)
    assert there == contents(stack.server("source"), sites["source"].bucket)
    verified = stack.tandem("verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def assert_no_orphans(stack: Stack, keys: list[str]) -> None:
    assert uploads(stack.server("target"), stack.settings.sites["target"].bucket, keys) == []


def test_two_thousand_objects_of_all_kinds_end_equal_on_both_sides(stack: Stack):
    plan = items(seed=1)
    work(stack.server("source"), stack.settings.sites["source"].bucket, plan, seed=1)
    assert_equal_sides(stack)
    assert_no_orphans(stack, [item.key for item in plan if item.size > 16 * MIB])
    errors = stack.tandem("errors", "--json")
    assert errors.stdout.strip() in {"", "[]"}


def test_mc_diff_finds_no_difference_either(stack: Stack):
    sites = stack.settings.sites
    environment = mc_environment(stack.folder, a=sites["source"], b=sites["target"])
    stack.environment.update({name: environment[name] for name in environment if "MC_" in name})
    found = stack.run(
        str(ensure("mc")),
        "diff",
        f"a/{sites['source'].bucket}",
        f"b/{sites['target'].bucket}",
    )
    told = [line for line in found.stdout.splitlines() if SCRATCH not in line]
    assert told == []


class Trickle(threading.Thread):
    """Put objects one after the other, some of them large, while other things happen."""

    def __init__(self, stack: Stack, prefix: str, count: int, pause: float) -> None:
        super().__init__()
        self.client = client_of(stack.server("source"))
        self.bucket = stack.settings.sites["source"].bucket
        self.items = [
            Item(f"{prefix}/{number:04}", 20 * MIB if number % 100 == 50 else 4096)
            for number in range(count)
        ]
        self.pause = pause
        self.failure: Exception | None = None

    def run(self) -> None:
        chance = random.Random(7)
        try:
            for item in self.items:
                put(self.client, self.bucket, item, chance)
                if chance.random() < 0.2:
                    self.client.delete_object(Bucket=self.bucket, Key=item.key)
                time.sleep(self.pause)
        except Exception as error:  # noqa: BLE001 -- told by the test that joins
            self.failure = error
        finally:
            self.client.close()

    def finish(self) -> list[str]:
        """Wait for the end and return every key that was put."""
        self.join()
        if self.failure:
            raise self.failure
        return [item.key for item in self.items]


def test_nothing_is_lost_when_a_worker_the_queue_and_the_target_are_killed(stack: Stack):
    trickle = Trickle(stack, "faults", count=1000, pause=0.03)
    trickle.start()
    for process in ("worker-0", "nats", "minio-target"):
        time.sleep(4)
        stack.kill(process)
        time.sleep(2)
        stack.up()
    keys = trickle.finish()
    assert_equal_sides(stack)
    assert_no_orphans(stack, keys)


async def put_until_stuck(site: Site, prefix: str, count: int) -> list[str]:
    """Put up to `count` objects by 16 clients, and return the keys of those that were answered."""
    answered: list[str] = []
    keys = iter([f"{prefix}/{number:05}" for number in range(count)])
    store = S3Store.connect(site)

    async def client() -> None:
        for key in keys:
            await store.put(key, key.encode(), Content())
            answered.append(key)

    clients = [asyncio.create_task(client()) for _ in range(16)]
    before = -1
    while before < len(answered) < count:
        before = len(answered)
        await asyncio.sleep(3)
    for each in clients:
        each.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await store.close()
    return answered


def test_a_put_that_was_answered_is_replicated_though_queue_and_source_die(stack: Stack):
    sites = stack.settings.sites
    asyncio.run(put_until_stuck(sites["source"], "first", 1))  # so that MinIO knows the queue
    stack.wait_until_quiet()
    os.kill(stack.pid("nats"), signal.SIGSTOP)  # it hangs, so what is sent to it piles up
    answered = asyncio.run(put_until_stuck(sites["source"], "answered", 8000))
    assert len(answered) > 1000
    stack.kill("minio-source")
    stack.kill("nats")
    stack.up()
    stack.wait_until_quiet()
    copies = contents(stack.server("target"), sites["target"].bucket)
    assert sorted(set(answered) - copies.keys()) == []


def test_doubled_and_shuffled_notifications_change_nothing(stack: Stack):
    trickle = Trickle(stack, "shuffled", count=300, pause=0.0)
    queue = stack.settings.queue

    async def repeat() -> int:
        connection = await nats.connect(queue.url, user=queue.user, password=queue.password)
        heard = await connection.subscribe(queue.subject("*", "*"))
        trickle.start()
        await asyncio.to_thread(trickle.join)
        await asyncio.sleep(4)  # the durable target's copies come too
        messages = [await heard.next_msg(timeout=5) for _ in range(heard.pending_msgs)]
        again = messages * 2
        random.Random(3).shuffle(again)
        for message in again:
            await connection.publish(message.subject, message.data)
        await connection.drain()
        return len(again)

    assert asyncio.run(repeat()) >= 1200
    keys = trickle.finish()
    assert_equal_sides(stack)
    assert_no_orphans(stack, keys)
