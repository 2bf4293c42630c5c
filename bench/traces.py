"""Reading lag off both servers' own request traces.

Polling a key that is being written waits on the server's lock and inflates what it measures; a
trace does not.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from tandem.settings import Site
from tandem.stores.sigv4 import Signer

# What `mc admin trace` asks for: github.com/minio/madmin-go, ServiceTrace.
PATH, QUERY = "/minio/admin/v3/trace", "s3=true"
# Time for the last lines to arrive.
SETTLE_SECONDS = 1.5
READ_SECONDS = 0.25
READ_BYTES = 1024 * 1024
# A server with nothing to tell sends a blank every half second.
SILENCE_SECONDS = 30.0


@dataclass
class Trace:
    """Hold when each (bucket, key) was last written: the end of its PutObject, in epoch seconds."""

    ends: dict[tuple[str, str], float] = field(default_factory=dict)

    def lags(self, source: tuple[Trace, str], keys: list[str], bucket: str) -> dict[str, float]:
        """Return, for each key that reached `bucket` here, its seconds behind the source."""
        there, source_bucket = source
        return {
            key: self.ends[bucket, key] - there.ends[source_bucket, key]
            for key in keys
            if (bucket, key) in self.ends
        }


def mc_environment(folder: Path, **sites: Site) -> dict[str, str]:
    """Return an environment in which `mc` knows each site's server under the given alias."""
    hosts = {}
    for alias, site in sites.items():
        url = urlsplit(site.endpoint)
        hosts[f"MC_HOST_{alias}"] = (
            f"{url.scheme}://{site.access_key}:{site.secret_key}@{url.netloc}"
        )
    return {**os.environ, "MC_CONFIG_DIR": str(folder / "mc"), **hosts}


@contextmanager
def traced(**sites: Site) -> Iterator[dict[str, Trace]]:
    """Trace the requests of each site's server while the block runs."""
    streams = {name: Stream(site) for name, site in sites.items()}
    found = {name: Trace() for name in sites}
    try:
        yield found
        time.sleep(SETTLE_SECONDS)
    finally:
        for stream in streams.values():
            stream.close()
    for name, stream in streams.items():
        _read(stream.text, found[name])


class Stream:
    """Take a server's traces off the wire, a few times a second only.

    `mc admin trace` wakes up, decodes and prints at each request that a copy makes, in the very
    milliseconds that are to be measured, and on the same cores.
    """

    def __init__(self, site: Site) -> None:
        url = urlsplit(site.endpoint)
        headers = {"host": url.netloc}
        Signer(site.access_key, site.secret_key, site.region).sign("GET", PATH, QUERY, headers)
        self._connection = http.client.HTTPConnection(url.netloc, timeout=SILENCE_SECONDS)
        self._connection.request("GET", f"{PATH}?{QUERY}", headers=headers)
        self._answer = self._connection.getresponse()
        if self._answer.status != HTTPStatus.OK:
            raise OSError(f"{site.endpoint} gives no trace: {self._answer.read()!r}")
        self._pieces: list[bytes] = []
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._run, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """Return what has come so far."""
        return b"".join(self._pieces).decode()

    def close(self) -> None:
        """Read what is left and stop."""
        self._over.set()
        self._reader.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._over.wait(READ_SECONDS):
            while True:
                piece = self._answer.read1(READ_BYTES)
                self._pieces.append(piece)
                # A server with nothing to tell sends a blank, half a second after its last word.
                if not piece.strip():
                    break


def _read(text: str, into: Trace) -> None:
    for line in text.splitlines():
        if not line.strip():
            continue
        call = json.loads(line)
        if (
            call["funcname"] != "s3.PutObject"
            or call["http"]["response"]["statuscode"] != HTTPStatus.OK
        ):
            continue
        bucket, _, key = call["path"].lstrip("/").partition("/")
        # Nanoseconds: more digits than datetime reads, so the fraction is kept apart.
        whole, _, fraction = call["time"].rstrip("Z").partition(".")
        start = datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")
        end = start + call["dur"] / 1e9
        into.ends[bucket, key] = max(end, into.ends.get((bucket, key), 0.0))
