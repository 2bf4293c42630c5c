"""A rule that goes both ways, on the real thing: both sides written at once, then quiet."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from bench.traces import Stream
from tandem.stores.base import SCRATCH
from tests.conftest import client_of
from tests.integration.workload import Item, contents, put
from tests.stack import Stack

pytestmark = pytest.mark.timeout(1800)

WRITES = 100
SITES = ("source", "target")
# By when the workers must have fallen silent, and for how long they are then listened to.
PATIENCE_SECONDS = 10.0
QUIET_SECONDS = 10.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack that is up and replicates both ways."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.pulumi("config", "set", "--path", "rules[0].twoWay", "true", "--stack", stack.name)
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def write(stack: Stack, site: str, keys: list[str]) -> None:
    """Put, overwrite and delete keys at one side."""
    chance = random.Random(site)
    client = client_of(stack.server(site))
    bucket = stack.settings.sites[site].bucket
    for _ in range(WRITES):
        key = chance.choice(keys)
        if chance.random() < 0.3:
            client.delete_object(Bucket=bucket, Key=key)
        else:
            put(client, bucket, Item(key, chance.choice([0, 100, 4096, 100_000])), chance)
    client.close()


def requests(stream: Stream) -> int:
    """Return how many requests Tandem has made since the stream began, but for its probes."""
    calls = [
        json.loads(line)["http"]["request"] for line in stream.text.splitlines() if line.strip()
    ]
    return sum(
        call["headers"].get("User-Agent") == ["tandem"]
        and SCRATCH not in unquote(f"{call['path']}?{call.get('rawquery', '')}")
        for call in calls
    )


def test_after_writes_and_deletes_on_both_sides_all_is_equal_and_nobody_asks_any_more(stack: Stack):
    shared = [f"shared/{number}" for number in range(20)]
    writers = [
        threading.Thread(
            target=write, args=(stack, site, [*shared, *(f"{site}/{n}" for n in range(40))])
        )
        for site in SITES
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    time.sleep(PATIENCE_SECONDS)
    streams = [Stream(stack.settings.sites[site]) for site in SITES]
    time.sleep(QUIET_SECONDS)
    for stream in streams:
        stream.close()
    assert [requests(stream) for stream in streams] == [0, 0]
    left, right = (
        contents(stack.server(site), stack.settings.sites[site].bucket) for site in SITES
    )
    assert left == right
    assert left
    assert json.loads(stack.tandem("errors", "--json").stdout or "[]") == []
    verified = stack.tandem("verify", "--json")
    assert verified.returncode == 0, verified.stdout


def test_a_delete_of_a_copy_takes_the_original_with_it(stack: Stack):
    clients = {site: client_of(stack.server(site)) for site in SITES}
    buckets = {site: stack.settings.sites[site].bucket for site in SITES}
    clients["source"].put_object(Bucket=buckets["source"], Key="gone", Body=b"1")
    stack.wait_until_quiet()
    assert contents(stack.server("target"), buckets["target"])["gone"]
    clients["target"].delete_object(Bucket=buckets["target"], Key="gone")
    stack.wait_until_quiet()
    for site in SITES:
        assert "gone" not in contents(stack.server(site), buckets[site])
        clients[site].close()
