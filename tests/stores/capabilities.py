"""The table of docs/capabilities.md: `.venv/bin/python -m tests.stores.capabilities` prints it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from moto.server import ThreadedMotoServer

from tandem.change import Dialect
from tandem.stores.abilities import Ability, Probed
from tandem.stores.memory import MemoryStore
from tandem.stores.probe import probe
from tandem.stores.s3 import S3Store
from tests.conftest import bucket_on
from tests.servers import Minio, Server, Versitygw
from tests.stores.conftest import EVERYTHING, MOTO, moto_site, site_of

# The columns: what each is called, the server, whether the bucket is versioned.
COLUMNS = (
    ("memory", "memory", False),
    ("MinIO", "minio", False),
    ("versitygw", "versitygw", False),
    ("versitygw, versioned", "versitygw", True),
    (MOTO, MOTO, False),
)


def table(found: Mapping[tuple[str, bool], Probed]) -> str:
    """Return the table, as Markdown, of what was found by server and versioning."""
    rows = [
        ("What is tried", *(name for name, _, _ in COLUMNS)),
        tuple("---" for _ in range(len(COLUMNS) + 1)),
        *(
            (
                ability.value,
                *(
                    found[server, versioned][ability].verdict.value
                    for _, server, versioned in COLUMNS
                ),
            )
            for ability in Ability
        ),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


async def _found(stores: Mapping[tuple[str, bool], MemoryStore | S3Store]) -> str:
    found = {}
    for key, store in stores.items():
        found[key] = await probe(store)
        await store.close()
    return table(found)


def main() -> None:
    """Start each server, probe it, and print the table."""
    logging.disable(logging.INFO)  # moto tells of each request
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    started: list[Server] = []
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[tuple[str, bool], MemoryStore | S3Store] = {
            ("memory", False): MemoryStore("memory", capabilities=EVERYTHING),
            (MOTO, False): S3Store.connect(moto_site(f"http://{host}:{port}", versioned=False)),
        }
        servers: dict[Dialect, Minio | Versitygw] = {
            "minio": Minio(Path(folder) / "minio"),
            "versitygw": Versitygw(Path(folder) / "versitygw"),
        }
        try:
            for name, server in servers.items():
                server.start()
                started.append(server)
                for versioned in (False, True):
                    bucket = bucket_on(server, versioning=versioned)
                    stores[name, versioned] = S3Store.connect(site_of(server, bucket, name))
            print(asyncio.run(_found(stores)), end="")  # noqa: T201 -- the command's result
        finally:
            for server in started:
                server.kill()
            moto.stop()


if __name__ == "__main__":
    main()
