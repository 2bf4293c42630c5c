"""Measure `tandem verify --quick` and `tandem reconcile` beside `rclone check`, on one pair.

It starts two MinIO servers and a NATS server of its own, on free ports and in a folder that goes
again, and fills two buckets with the same keys. Putting a million objects would take the better
part of an hour, and it is listings that are measured: so one object is put, and MinIO's file for
it (`xl.meta`, which holds a small object whole and no key) is linked under every other key. A few
keys are missing at the target. All three compare sizes and ETags by listings; each run is a
process of its own, whose wall time and peak memory the kernel tells, and they take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats

from tandem.rule import Rule
from tandem.settings import ENVIRONMENT_VARIABLE, Settings, Site
from tandem.stores.base import Content
from tandem.stores.s3 import S3Store
from tests.conftest import bucket_on
from tests.queues.conftest import prepared
from tests.servers import Minio, Nats
from tools.install import ensure

ROOT = Path(__file__).parents[1]
BODY = os.urandom(1024)
# Objects in one folder, and links to one file, of which ext4 allows 65,000.
FOLDER, LINKS = 1000, 50_000


@dataclass
class Contender:
    """A command, and what was measured of it; seconds, and bytes of peak memory."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    said: str = ""

    def run(self) -> None:
        """Run once; exit code 1, by which all three say that something differs, is no fault."""
        started, peak = time.monotonic(), 0
        with tempfile.TemporaryFile("w+") as told:
            process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                # What wait4 tells begins with the peak of the process that forked.
                peak = max(peak, high_water(process.pid))
                time.sleep(0.05)
            seconds = time.monotonic() - started
            told.seek(0)
            self.said = told.read()
        if process.returncode not in {0, 1}:
            raise SystemExit(f"{self.name} failed ({process.returncode}):\n{self.said[-2000:]}")
        self.seconds.append(seconds)
        self.peaks.append(peak)


def high_water(pid: int) -> int:
    """Return the peak memory of a process in bytes, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def key(number: int) -> str:
    """Return the key of that number; there are FOLDER of them in a folder."""
    return f"reports/{number // FOLDER:05}/{number % FOLDER:04}.txt"


async def put_one(site: Site) -> None:
    """Put the object that is linked under every key."""
    store = S3Store.connect(site)
    await store.put(key(0), BODY, Content(headers={"content-type": "text/plain"}))
    await store.close()


def fill(server: Minio, bucket: str, meta: bytes, numbers: Iterator[int]) -> int:
    """Put the same object under all these keys, behind the server's back; return how many."""
    data, file, count = server.folder / "data" / bucket, server.folder / "linked", 0
    for number in numbers:
        if count % LINKS == 0:
            file.unlink(missing_ok=True)
            file.write_bytes(meta)
        folder = data / key(number)
        if number % FOLDER == 0 or count == 0:
            folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        if not (folder / "xl.meta").exists():
            os.link(file, folder / "xl.meta")
        count += 1
    return count


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that goes again, which takes minutes for millions of files."""
    folder = Path(tempfile.mkdtemp(prefix="tandem-bench-"))
    try:
        yield folder
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@contextmanager
def pair(keys: int, missing: int) -> Iterator[tuple[Settings, Path]]:
    """Give the settings of a pair of buckets with so many keys, and their file."""
    with scratch() as folder:
        servers = {"source": Minio(folder / "source"), "target": Minio(folder / "target")}
        nats = Nats(folder / "nats")
        try:
            for server in (*servers.values(), nats):
                server.start()
            sites = {
                name: Site(name, bucket_on(one), one.endpoint, one.access_key, one.secret_key)
                for name, one in servers.items()
            }
            asyncio.run(put_one(sites["source"]))
            own = servers["source"].folder / "data" / sites["source"].bucket
            meta = (own / key(0) / "xl.meta").read_bytes()
            fill(servers["source"], sites["source"].bucket, meta, iter(range(keys)))
            gone = max(1, keys // missing)
            kept = (number for number in range(keys) if (number + 1) % gone)
            there = fill(servers["target"], sites["target"].bucket, meta, kept)
            print(f"{keys:,} keys at the source, {there:,} at the target")
            queue = asyncio.run(prepared(nats))
            rules = (Rule("everything", "source", ("target",)),)
            settings = Settings("bench", sites, rules, queue)
            path = folder / "tandem.json"
            path.write_text(settings.dump(), encoding="utf-8")
            yield settings, path
        finally:
            for server in (*servers.values(), nats):
                server.kill()


async def clear(settings: Settings) -> None:
    """Take what a reconcile has queued: nobody works here, and a full queue makes the next wait."""
    queue = settings.queue
    client = await nats.connect(queue.url, user=queue.user, password=queue.password)
    await client.jetstream().purge_stream(queue.changes)
    await client.close()


def contenders(settings: Settings, path: Path) -> list[Contender]:
    """Return the three commands."""
    common = {"PATH": os.environ["PATH"], "HOME": str(path.parent)}
    tandem = [sys.executable, "-m", "tandem.cli.main"]
    ours = {
        **common,
        "PYTHONPATH": str(ROOT / "function_src"),
        ENVIRONMENT_VARIABLE: str(path),
    }
    theirs = {**common, "RCLONE_CONFIG": "/dev/null"}
    for name, site in settings.sites.items():
        told = {
            "type": "s3",
            "provider": "Minio",
            "endpoint": site.endpoint,
            "access_key_id": site.access_key,
            "secret_access_key": site.secret_key,
        }
        theirs |= {f"RCLONE_CONFIG_{name}_{word}".upper(): text for word, text in told.items()}
    sides = [f"{name}:{site.bucket}" for name, site in settings.sites.items()]
    return [
        Contender("tandem verify", [*tandem, "verify", "--quick", "--limit", "1"], ours),
        Contender("tandem reconcile", [*tandem, "reconcile", "--restart"], ours),
        Contender("rclone check", [str(ensure("rclone")), "check", *sides], theirs),
    ]


def report(measured: list[Contender]) -> dict[str, float]:
    """Print what was measured, and return it: seconds are medians, peaks the highest."""
    found: dict[str, float] = {}
    for one in measured:
        found[f"{one.name} s"] = statistics.median(one.seconds)
        found[f"{one.name} peak MiB"] = max(one.peaks) / 2**20
        print(f"{one.name}: {one.said.strip().splitlines()[-1]}")
    for one in measured[:-1]:
        found[f"{one.name} ratio"] = found[f"{one.name} s"] / found["rclone check s"]
    for name, value in found.items():
        print(f"{name:28} {value:8.2f}", flush=True)
    return found


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys at the source")
    parser.add_argument("--missing", type=int, default=500, help="of which the target lacks these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with pair(arguments.keys, arguments.missing) as (settings, path):
        measured = contenders(settings, path)
        for _ in range(arguments.rounds):
            for one in measured:
                one.run()
                asyncio.run(clear(settings))
        # Before the cleaning up, which takes minutes.
        found = report(measured)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
