"""Measure Tandem's lag beside MinIO's own replication, in one run on one pair of servers.

Run it on a stack that is up: `make up && make bench`. One at a time: 4 KiB objects, each put
when the one before is at the target. Burst: 1,000 of them by 16 clients at once. Large: the peak
memory of the workers after a 2 GiB object. Both systems take turns, so that what else the
machine does meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench.traces import mc_environment, traced
from tandem.errors import Transient
from tandem.settings import Settings, Site, find, load
from tandem.stores.base import Content
from tandem.stores.s3 import S3Store
from tools.install import ensure

BODY = os.urandom(4096)
CONTENT = Content(headers={"content-type": "application/octet-stream"})
CLIENTS = 16
PART = 16 * 1024 * 1024
PATIENCE_SECONDS = 120.0
# Between two objects, one at a time: more than either system needs for one.
PAUSE_SECONDS = 0.02


@dataclass
class System:
    """One way from a source bucket to a target bucket, and what was measured of it."""

    name: str
    source: Site
    target: Site
    lags: list[float] = field(default_factory=list)
    bursts: list[float] = field(default_factory=list)
    missing: int = 0


def quantile(values: list[float], q: float) -> float:
    """Return the q-quantile (0 to 1) of values, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


@contextmanager
def native(settings: Settings) -> Iterator[System]:
    """Give a pair of buckets that MinIO itself replicates, on the stack's own two servers."""
    source = replace(settings.sites["source"], bucket="bench-native-source")
    target = replace(settings.sites["target"], bucket="bench-native-target")
    with tempfile.TemporaryDirectory() as folder:
        environment = mc_environment(Path(folder), a=source, b=target)
        there = urlsplit(target.endpoint)

        def mc(*arguments: str) -> None:
            subprocess.run(
                [str(ensure("mc")), *arguments],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        for alias, site in (("a", source), ("b", target)):
            mc("mb", "--ignore-existing", "--with-versioning", f"{alias}/{site.bucket}")
        remote = f"http://{target.access_key}:{target.secret_key}@{there.netloc}/{target.bucket}"
        mc("replicate", "add", f"a/{source.bucket}", "--remote-bucket", remote)
        try:
            yield System("MinIO", source, target)
        finally:
            mc("replicate", "rm", "--all", "--force", f"a/{source.bucket}")
            for alias, site in (("a", source), ("b", target)):
                mc("rb", "--force", f"{alias}/{site.bucket}")


async def put(store: S3Store, key: str) -> None:
    """Put one small object, again where MinIO says IncompleteBody, as it does once in thousands."""
    while True:
        try:
            await store.put(key, BODY, CONTENT)
        except Transient as fault:
            print(f"again: {fault}")
        else:
            return


async def one_at_a_time(system: System, count: int, run: str) -> None:
    """Put objects one by one, each with time to arrive before the next."""
    store = S3Store.connect(system.source)
    keys = [f"bench/one/{run}/{number:05}" for number in range(count)]
    with traced(source=system.source, target=system.target) as traces:
        for key in keys:
            await put(store, key)
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(1)
    await store.close()
    there = (traces["source"], system.source.bucket)
    lags = traces["target"].lags(there, keys, system.target.bucket)
    system.lags += lags.values()
    system.missing += len(keys) - len(lags)


async def burst(system: System, count: int, run: str) -> None:
    """Put objects by 16 clients as fast as they go, and note how late the last one is."""
    store = S3Store.connect(system.source)
    target = S3Store.connect(system.target)
    prefix = f"bench/burst/{run}/"
    keys = [f"{prefix}{number:05}" for number in range(count)]
    rest = iter(keys)

    async def client() -> None:
        for key in rest:
            await put(store, key)

    with traced(source=system.source, target=system.target) as traces:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        # Wait undisturbed; then see by listings, which lock nothing, that all has come.
        limit = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < limit:
            await asyncio.sleep(3)
            if sum([1 async for _ in target.list(prefix)]) == count:
                break
    await store.close()
    await target.close()
    there = (traces["source"], system.source.bucket)
    lags = traces["target"].lags(there, keys, system.target.bucket)
    system.missing += len(keys) - len(lags)
    last_put = max(traces["source"].ends[system.source.bucket, key] for key in keys)
    last_copy = max(traces["target"].ends[system.target.bucket, key] for key in lags)
    system.bursts.append(max(0.0, last_copy - last_put))


async def large(system: System, size: int) -> None:
    """Put one object of `size` bytes, and wait until it is at the target."""
    store, target = S3Store.connect(system.source), S3Store.connect(system.target)
    key = "bench/large"
    upload = await store.create_upload(key, CONTENT)
    body = os.urandom(PART)
    parts = [
        await store.upload_part(key, upload, number, body) for number in range(1, size // PART + 1)
    ]
    written = await store.complete_upload(key, upload, tuple(parts))
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        await asyncio.sleep(1)
        state = await target.head(key)
        if state and state.metadata.get("tandem-etag") == written.etag:
            break
    else:
        raise TimeoutError(f"{key} did not arrive")
    await store.delete(key)
    await store.close()
    await target.close()


def peak(pid_file: Path) -> int:
    """Return the peak resident memory in bytes of the process that a pid file names."""
    pid = json.loads(pid_file.read_text(encoding="utf-8"))["pid"]
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def report(tandem: System, other: System, memory: int | None) -> dict[str, float]:
    """Print what was measured, and return it."""
    found: dict[str, float] = {}
    for system in (other, tandem):
        for q in (0.5, 0.9, 0.99):
            found[f"{system.name} p{q * 100:g} ms"] = 1000 * quantile(system.lags, q)
        found[f"{system.name} burst s"] = statistics.median(system.bursts)
        found[f"{system.name} missing"] = system.missing
    for name in ("p50", "p90", "p99"):
        found[f"{name} ratio"] = found[f"Tandem {name} ms"] / found[f"MinIO {name} ms"]
    if memory is not None:
        found["worker peak MiB"] = memory / 2**20
    for name, value in found.items():
        print(f"{name:20} {value:8.2f}")
    return found


async def measure(settings: Settings, arguments: argparse.Namespace) -> tuple[System, System]:
    """Run every measurement, and return Tandem's and MinIO's figures."""
    ours = System("Tandem", settings.sites["source"], settings.sites["target"])
    with native(settings) as theirs:
        for number in range(arguments.rounds):
            for system in (theirs, ours):
                await one_at_a_time(system, arguments.count, f"{os.getpid()}-{number}")
        for number in range(arguments.rounds):
            for system in (theirs, ours):
                await burst(system, arguments.burst, f"{os.getpid()}-{number}")
    if arguments.large:
        await large(ours, arguments.large * 2**20)
    return ours, theirs


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", help="needed only where several are up")
    parser.add_argument("--count", type=int, default=200, help="objects one at a time, each round")
    parser.add_argument("--burst", type=int, default=1000, help="objects in a burst")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=2048, help="MiB of the large object, or 0")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    ours, theirs = uvloop.run(measure(load(arguments.stack), arguments))
    workers = find(arguments.stack).parent.glob("worker-*.pid")
    memory = max(map(peak, workers)) if arguments.large else None
    found = report(ours, theirs, memory)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
