"""Reading lag off both servers' own request traces.

Polling a key that is being written waits on the server's lock and inflates what it measures; a
trace does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from tandem.settings import Site
from tools.install import ensure

# Time for mc to connect before, and for the last lines to arrive after.
SETTLE_SECONDS = 1.5


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
    """Trace the PutObject requests of each site's server while the block runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = mc_environment(folder, **sites)
        running = []
        for alias in sites:
            with (folder / alias).open("wb") as out:
                command = [str(ensure("mc")), "admin", "trace", "--json"]
                running.append(
                    subprocess.Popen(
                        [*command, "--funcname", "s3.PutObject", alias],
                        env=environment,
                        stdout=out,
                        stderr=subprocess.DEVNULL,
                    )
                )
        found = {alias: Trace() for alias in sites}
        try:
            time.sleep(SETTLE_SECONDS)
            yield found
            time.sleep(SETTLE_SECONDS)
        finally:
            for process in running:
                process.terminate()
                process.wait()
        for alias in sites:
            _read(folder / alias, found[alias])


def _read(path: Path, into: Trace) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        call = json.loads(line)
        if call.get("statusCode") != 200:  # noqa: PLR2004 -- HTTP's OK
            continue
        bucket, _, key = call["path"].lstrip("/").partition("/")
        # Nanoseconds: more digits than datetime reads, so the fraction is kept apart.
        whole, _, fraction = call["time"].rstrip("Z").partition(".")
        start = datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")
        end = start + call["duration"] / 1e9
        into.ends[bucket, key] = max(end, into.ends.get((bucket, key), 0.0))
