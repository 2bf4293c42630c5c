"""`tandem reconcile` on real servers, and what every comparison makes of listings that fail."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem import retrying
from tandem.change import Change, native
from tandem.emission import emit
from tandem.errors import TandemError
from tandem.queues.jetstream import JetStreamQueue
from tandem.queues.memory import MemoryQueue
from tandem.settings import ENVIRONMENT_VARIABLE
from tandem.stores.s3 import S3Store
from tests.cli.conftest import DOCUMENTS, LOGS, Cli, Side
from tests.queues.conftest import prepared
from tests.servers import Nats
from tests.stores.listing_server import ListingServer
from tests.stores.scripted_server import ScriptedServer, answer, refused
from tests.stores.test_s3_wire import page

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def stacked(cli: Cli, nats: Nats) -> Cli:
    """A stack with the streams that `pulumi up` makes."""
    cli.write(queue=replace(await prepared(nats), stack="test"))
    return cli


async def run(cli: Cli, *words: str) -> Any:
    """Run the command beside the event loop that a server of the test needs."""
    return await asyncio.to_thread(cli, *words)


async def waiting(cli: Cli) -> list[Change]:
    """Take every change that waits, and return them."""
    queue = await JetStreamQueue.connect(cli.settings.queue)
    found = []
    for _ in range((await queue.backlog()).count.get("source", 0)):
        delivery = await queue.receive()
        found.append(native(delivery.body))
        await delivery.done()
    await queue.close()
    return sorted(found, key=lambda change: change.key)


async def test_reconcile_queues_what_may_differ_for_its_rule_and_target(
    stacked: Cli, source: Side, target: Side
):
    for key in ("a", "b", "c"):
        source.put(key, key.encode())
    target.put("b", b"b")
    target.put("d", b"d")
    told = await run(stacked, "reconcile")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("documents: source → target: 4 keys compared in ")
    assert told.out.endswith(", 3 changes queued\n")
    changes = await waiting(stacked)
    assert [(one.key, one.site, one.rule, one.target) for one in changes] == [
        (key, "source", "documents", "target") for key in ("a", "c", "d")
    ]
    assert target.keys() == ["b", "d"]
    assert not list(stacked.path.parent.glob("reconcile*"))


async def test_a_thorough_reconcile_queues_every_key(stacked: Cli, source: Side, target: Side):
    source.put("a", b"a")
    target.put("a", b"a")
    (rule,) = (await run(stacked, "reconcile", "--json")).json["rules"]
    assert (rule["keys"], rule["changes"]) == (1, 0)
    (rule,) = (await run(stacked, "reconcile", "--thorough", "--json")).json["rules"]
    assert (rule["keys"], rule["changes"]) == (1, 1)
    assert [one.key for one in await waiting(stacked)] == ["a"]


async def test_a_rehearsal_tells_of_each_change_and_needs_no_queue(
    cli: Cli, source: Side, target: Side
):
    for key in ("both", "new", "other"):
        source.put(key)
    target.put("both")
    target.put("gone")
    target.put("other", b"else")
    told = await run(cli, "reconcile", "--dry-run")
    assert told.lines[:-1] == [
        "change  source → target  gone  (only the target lists it)",
        "change  source → target  new  (only the source lists it)",
        "change  source → target  other  (size or ETag differ)",
    ]
    assert told.lines[-1].startswith("documents: source → target: 4 keys compared in ")
    assert told.lines[-1].endswith(", 3 changes would be queued")
    found = (await run(cli, "reconcile", "--dry-run", "--shard", "o", "--thorough", "--json")).json
    assert [(one["key"], one["why"]) for one in found["changes"]] == [
        ("other", "size or ETag differ")
    ]
    assert [(one["keys"], one["changes"]) for one in found["rules"]] == [(1, 1)]


async def test_shards_narrow_it_to_the_keys_that_begin_so(stacked: Cli, source: Side):
    stacked.write(rules=(DOCUMENTS, LOGS))
    for key in ("2025/a", "2026/a", "2026/b", "logs/a", "other"):
        source.put(key)
    told = (await run(stacked, "reconcile", "--shard", "2026/", "--shard", "2025/", "--json")).json
    assert [(one["rule"], one["keys"]) for one in told["rules"]] == [("documents", 3)]
    assert [one.key for one in await waiting(stacked)] == ["2025/a", "2026/a", "2026/b"]
    told = await run(stacked, "reconcile", "logs", "--shard", "2026/")
    assert told.code == 2
    assert told.err == "tandem: no key of logs begins with '2026/': see its prefix\n"


def test_a_queue_that_is_away_is_told_plainly(cli: Cli, source: Side):
    source.put("a")
    told = cli("reconcile")
    assert told.code == 2
    assert "NATS at nats://127.0.0.1:" in told.err
    assert told.err.count("\n") == 1


TOKEN = "<NextContinuationToken>t</NextContinuationToken>"
MANY = [f"{number}" for number in range(10)]
# What a listing may come to, often enough for every try, and what is said of it.
FAULTS = {
    "500": (
        [refused("500 Internal Server Error", "InternalError")],
        "list source: 500 InternalError: so it is",
    ),
    "403": ([refused("403 Forbidden", "AccessDenied")], "list source: 403 AccessDenied: so it is"),
    "404": (
        [refused("404 Not Found", "NoSuchBucket")],
        "list source: 404 NoSuchBucket: so it is",
    ),
    "an empty page that promises more": (
        [page(more="true", extra=TOKEN)],
        "a page without a key promises another page, so the listing cannot be trusted",
    ),
    "an empty page after a good one": (
        [page("0", more="true", extra=TOKEN), page(more="true", extra=TOKEN)],
        "a page without a key promises another page",
    ),
    "an endless page": (
        [page(*MANY, more="true", extra=TOKEN)],
        "is said to be that page, so the listing cannot be trusted",
    ),
    "an unsorted page": ([page("1", "0")], "'0' was listed after '1'"),
    "a truncated page without a next": ([page("0", more="true")], "has no NextContinuationToken"),
    "a page that was cut off": ([answer("200 OK", b"<ListBucketResult>")], "cannot be read"),
    "a page of something else": ([answer("200 OK", b"<html/>")], "'html' in place of a listing"),
    "a page that does not say whether it is whole": (
        [answer("200 OK", b"<ListBucketResult/>")],
        "does not say whether the listing is truncated",
    ),
}


@pytest.fixture
async def broken(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedServer]:
    monkeypatch.setattr(retrying, "PAUSE", 0)
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


def script(server: ScriptedServer, steps: list[bytes]) -> None:
    """Let a server say `steps`, and the last of them for ever after."""
    server.requests.clear()
    server.script = [*steps, *[steps[-1]] * 50]


@pytest.mark.parametrize(("steps", "said"), FAULTS.values(), ids=FAULTS)
async def test_a_listing_that_fails_stops_every_command_says_why_and_deletes_nothing(
    stacked: Cli, target: Side, broken: ScriptedServer, steps: list[bytes], said: str
):
    for key in MANY:
        target.put(key, Metadata={"tandem-source": "source", "tandem-etag": "e"})
    sites = stacked.settings.sites
    ill = replace(sites["source"], endpoint=broken.endpoint)
    stacked.write(sites={**sites, "source": ill})
    for command in (["verify"], ["verify", "--quick"], ["sync"], ["sync", "--dry-run"]):
        script(broken, steps)
        told = await run(stacked, *command, "--concurrency", "1")
        assert told.code == 2
        assert said in told.err
        assert told.err.startswith("tandem: list source: ")
        assert told.err.count("\n") == 1
    script(broken, steps)
    told = await run(stacked, "reconcile")
    assert told.code == 2
    assert said in told.err
    assert {request.method for request in broken.requests} == {"GET"}
    assert target.keys() == MANY


@pytest.mark.parametrize(("steps", "said"), FAULTS.values(), ids=FAULTS)
async def test_a_target_whose_listing_fails_stops_it_as_well(
    source: Side, cli: Cli, broken: ScriptedServer, steps: list[bytes], said: str
):
    source.put("0")
    sites = cli.settings.sites
    stores = {
        "source": S3Store.connect(sites["source"]),
        "target": S3Store.connect(replace(sites["target"], endpoint=broken.endpoint)),
    }
    script(broken, steps)
    queue = MemoryQueue()
    try:
        with pytest.raises(TandemError, match="list target: ") as caught:
            await emit(stores, queue, DOCUMENTS, "target")
        assert said.replace("list source", "list target") in str(caught.value)
    finally:
        for store in stores.values():
            await store.close()
    assert not (await queue.backlog()).count


async def test_an_empty_listing_of_a_full_source_deletes_nothing(
    stacked: Cli, source: Side, target: Side, monkeypatch: pytest.MonkeyPatch
):
    for key in MANY:
        source.put(key)
    assert (await run(stacked, "sync")).code == 0
    whole = S3Store.list

    async def nothing(self: S3Store, prefix: str = "", start_after: str = "") -> Any:
        if self.site != "source":
            async for entry in whole(self, prefix, start_after):
                yield entry

    monkeypatch.setattr(S3Store, "list", nothing)
    told = await run(stacked, "sync")
    assert "0 deleted" in told.out
    assert (await run(stacked, "reconcile", "--json")).json["rules"][0]["changes"] == len(MANY)
    assert target.keys() == source.keys() == MANY


# Not ru_maxrss, which begins with what the process had that started this one.
MEASURED = """
import sys
from pathlib import Path
from tandem.cli.main import app
try:
    app(sys.argv[1:])
finally:
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) // 1024, file=sys.stderr)
"""


async def peak(path: Path, *words: str) -> int:
    """Return the peak memory of a command in MiB; it must find nothing that differs."""

    def measured() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MEASURED, *words],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "function_src"),
                ENVIRONMENT_VARIABLE: str(path),
            },
            capture_output=True,
            text=True,
            check=True,
        )

    return int((await asyncio.to_thread(measured)).stderr.split()[-1])


@pytest.mark.parametrize("words", [["verify", "--quick"], ["reconcile"], ["sync"]])
async def test_memory_does_not_grow_with_the_number_of_keys(
    paper: Cli, nats: Nats, words: list[str]
):
    paper.write(rules=(DOCUMENTS,), queue=replace(await prepared(nats), stack="test"))
    peaks = []
    for size in (20_000, 200_000):
        server = ListingServer(size)
        await server.start()
        sites = {
            name: replace(site, endpoint=server.endpoint)
            for name, site in paper.settings.sites.items()
        }
        paper.write(sites=sites)
        peaks.append(await peak(paper.path, *words))
        await server.stop()
        assert server.pages == 2 * size // 1000
    assert peaks[1] < 200
    assert peaks[1] - peaks[0] < 10, json.dumps(peaks)


def test_a_sample_is_read_and_its_seed_told(cli: Cli, source: Side):
    for key in MANY:
        source.put(key, key.encode() * 1000)
    cli("sync")
    told = cli("verify", "--sample", "100", "--seed", "7")
    assert told.lines == [
        "documents: source → target: 10 keys, none differs, 10 objects read (9.8 KiB on each side)",
        "the sample's seed is 7 (--seed 7 reads the same keys again)",
    ]
    found = cli("verify", "--sample", "40", "--json").json
    again = cli("verify", "--sample", "40", "--seed", str(found["seed"]), "--json").json
    assert again == found
    assert found["rules"][0]["sampled"] < 10


def test_an_object_that_rotted_at_the_target_is_found(
    cli: Cli, source: Side, monkeypatch: pytest.MonkeyPatch
):
    source.put("k", b"body")
    cli("sync")
    opened: Callable[..., Any] = S3Store.open

    def elsewhere(self: S3Store, key: str, **options: Any) -> Any:
        # The target gives another object's bytes under the ETag that it tells.
        return opened(
            self, "other" if self.site == "target" else key, **(options | {"if_match": None})
        )

    source.put("other", b"rott")
    cli("sync")
    monkeypatch.setattr(S3Store, "open", elsewhere)
    told = cli("verify", "--sample", "100", "--quick")
    assert told.code == 1
    assert told.lines[1].startswith("corrupt  target  k    its bytes differ: SHA-256 ")
    assert "2 keys, 1 differ, 1 corrupt, 2 objects read" in told.out
