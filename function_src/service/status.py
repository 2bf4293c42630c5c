"""How a stack does, rule by rule, for people and for alarms."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.lag import Window, quantile
from service.metrics import Waiting, lag_buckets
from tandem.errors import Invalid, TandemError
from tandem.queues.base import Queue
from tandem.settings import Settings
from tandem.stores.base import ObjectStore
from tandem.versions import FIX, unversioned

logger = logging.getLogger(__name__)

SAMPLE_SECONDS = 10.0
SAMPLES = 30
# How long one part of the stack may take to answer before it counts as down.
HEALTH_SECONDS = 3.0
# A key that no one uses; only that the bucket answers for it matters.
HEALTH_KEY = "tandem-health"


class Status:
    """Watch a stack, and answer for it."""

    def __init__(self, settings: Settings, queue: Queue, stores: Mapping[str, ObjectStore]) -> None:
        self._settings = settings
        self._queue = queue
        self._stores = stores
        self._window = Window(SAMPLES)

    async def watch(self) -> None:
        """Keep samples of the lag for ever, so that quantiles are of the last five minutes."""
        while True:
            try:
                self._window.sample(lag_buckets())
            except Exception:
                # Such as a file that a worker is just making; the next sample is not far.
                logger.exception("no sample of the lag could be taken")
            await asyncio.sleep(SAMPLE_SECONDS)

    async def rules(self) -> list[dict[str, Any]]:
        """Return one entry for each rule.

        `rule`, `source`, `targets`; `lag` in seconds as {`p50`, `p99`} over the last five
        minutes, null without copies; `backlog` in changes of its source that wait or are being
        handled; `oldest`, the age of the first of them in seconds, null without backlog;
        `failed`, the count in the error stream of each class. Raises `Transient` if the queue
        does not answer.
        """
        waiting, failed = await self._backlog(), await self._queue.failed()
        lag = self._window.gained(lag_buckets())
        return [
            {
                "rule": rule.name,
                "source": rule.source,
                "targets": list(rule.targets),
                "lag": {
                    "p50": quantile(lag.get(rule.name, {}), 0.5),
                    "p99": quantile(lag.get(rule.name, {}), 0.99),
                },
                "backlog": sum(waiting[0].get(way.source, 0) for way in rule.directions),
                "oldest": max(
                    (waiting[1][way.source] for way in rule.directions if way.source in waiting[1]),
                    default=None,
                ),
                "failed": {name.value: n for name, n in failed.get(rule.name, {}).items()},
            }
            for rule in self._settings.rules
        ]

    async def waiting(self) -> Waiting:
        """Return what waits, for Prometheus; nothing if the queue does not answer."""
        try:
            return Waiting(*await self._backlog())
        except TandemError:
            return Waiting({}, {})

    async def _backlog(self) -> tuple[dict[str, int], dict[str, float]]:
        """Return by source site how many changes wait, and the age of the oldest in seconds."""
        found, now = await self._queue.backlog(), datetime.now(UTC)
        ages = {site: (now - since).total_seconds() for site, since in found.oldest.items()}
        return found.count, {site: max(0.0, age) for site, age in ages.items()}

    async def ailments(self) -> list[str]:
        """Return what is wrong with the queue and the sites, one line each."""
        checks = [self._ailment("queue", self._queue.backlog())]
        checks += [
            self._ailment(f"site {name}", self._examine(store))
            for name, store in self._stores.items()
        ]
        return [found for found in await asyncio.gather(*checks) if found]

    async def _examine(self, store: ObjectStore) -> None:
        """Raise what is wrong with a site: it does not answer, or keeps no versions and should."""
        await store.is_absent(HEALTH_KEY)
        for fault in await unversioned(store, self._settings.rules):
            raise Invalid(f"{fault}: {FIX}")

    async def _ailment(self, what: str, check: Any) -> str | None:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await check
        except TimeoutError:
            return f"{what}: no answer in {HEALTH_SECONDS:g} s"
        except TandemError as error:
            return f"{what}: {error}"
        return None
