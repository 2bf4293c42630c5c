"""The reconcile that comes by itself, every so often, in one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from service.journal import Journal, Round, now
from tandem.cursor import Cursor
from tandem.emission import Emission, emit
from tandem.errors import TandemError
from tandem.queues.base import Queue
from tandem.report import duration
from tandem.rule import Rule
from tandem.settings import Settings
from tandem.stores.base import ObjectStore

logger = logging.getLogger(__name__)

# After a failure the next attempt, in seconds, if the interval is not shorter still.
RETRY = 300.0
# How often, in seconds, progress is written down.
NOTE = 2.0


class Schedule:
    """Reconcile a stack whenever it is due, and answer for how that went.

    `folder` is where it remembers, so that a restart neither forgets nor repeats.
    """

    def __init__(
        self, settings: Settings, queue: Queue, stores: Mapping[str, ObjectStore], folder: Path
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._stores = stores
        self._folder = folder
        self._every = settings.reconcile.every
        self._running = False
        self.journal = Journal(folder)

    def to_json(self) -> dict[str, Any]:
        """Return how it stands: interval, when the next is due, the one under way, the last.

        `every` is in seconds, null for never; see `Round` for the rounds.
        """
        journal = self.journal
        return {
            "every": self._every or None,
            "thorough": self._settings.reconcile.thorough,
            "due": journal.due.isoformat() if self._every and journal.due else None,
            "current": journal.current.to_json() if self._running and journal.current else None,
            "last": journal.last.to_json() if journal.last else None,
        }

    async def run(self) -> None:
        """Reconcile for ever, each time that it is due; not at all if settings say never."""
        if not self._every:
            return
        self._settle_due()
        while True:
            await asyncio.sleep(self._wait())
            try:
                with self.journal.held() as alone:
                    if not alone:
                        self._put_off(RETRY)
                    elif self._wait() == 0:
                        await self._round()
            except Exception:
                # Such as a full disk: the next attempt may find it mended.
                logger.exception("reconcile could not be carried out")
                self._put_off(RETRY)

    def _settle_due(self) -> None:
        """Let what a restart cut short go on at once, and let a shorter interval count."""
        latest = now() + timedelta(seconds=self._every)
        due = now() if self.journal.current else self.journal.due
        self.journal.due = min(due or latest, latest)
        with contextlib.suppress(OSError):  # a full disk must not keep it from being tried
            self.journal.write()

    def _wait(self) -> float:
        due = self.journal.due
        return max(0.0, (due - now()).total_seconds()) if due else 0.0

    async def _round(self) -> None:
        """Go on with the round that was cut short, or begin one, and note how it ends."""
        journal = self.journal
        round_ = journal.current
        if round_ is None or round_.age >= timedelta(seconds=self._every):
            # Routes that fail for long hold back no other: those have their turn again.
            round_ = Round(began=now().isoformat())
        journal.current, self._running = round_, True
        try:
            tried = [await self._try(round_, *route) for route in self._routes()]
        finally:
            self._running = False
        faults = list(filter(None, tried))
        if not faults:
            journal.current = None
            logger.info(
                "reconcile: %d keys compared in %s, %d changes emitted",
                *(round_.keys, duration(round_.seconds), round_.changes),
            )
        journal.last = replace(
            round_, ended=now().isoformat(), error="; ".join(faults) or None, done=[]
        )
        self._put_off(RETRY if faults else self._every)
        journal.write()

    def _put_off(self, seconds: float) -> None:
        self.journal.due = now() + timedelta(seconds=min(self._every, seconds))

    def _routes(self) -> Iterator[tuple[Rule, str]]:
        for rule in self._settings.rules:
            for way in rule.directions:
                yield from ((way, target) for target in way.targets)

    async def _try(self, round_: Round, rule: Rule, target: str) -> str | None:
        """Reconcile one route unless that is done; return what was wrong, None if nothing was."""
        sites = [self._settings.sites[name] for name in (rule.source, target)]
        thorough = self._settings.reconcile.thorough
        cursor = Cursor(self._folder, "reconcile", rule, sites, thorough=thorough)
        # Another rule of the same name is another route.
        name = hashlib.sha256(json.dumps(cursor.walk).encode()).hexdigest()[:16]
        if name in round_.done:
            return None
        try:
            await self._route(round_, rule, target, cursor)
        except Exception as error:
            what = f"{rule.name}: {rule.source} → {target}: {error}"
            # Of a fault of ours the log must hold more than what it says.
            ours = not isinstance(error, TandemError)
            logger.warning("reconcile stopped, and deleted nothing: %s", what, exc_info=ours)
            return what
        cursor.remove()
        round_.done.append(name)
        return None

    async def _route(self, round_: Round, rule: Rule, target: str, cursor: Cursor) -> None:
        keys, changes, seconds = round_.keys, round_.changes, round_.seconds
        started = noted = time.monotonic()

        def told(done: Emission) -> None:
            nonlocal noted
            round_.keys, round_.changes = keys + done.compared, changes + done.emitted
            round_.seconds = seconds + time.monotonic() - started
            cursor.reach(done.after)
            if time.monotonic() - noted >= NOTE:
                noted = time.monotonic()
                self.journal.write()

        try:
            await emit(
                self._stores,
                self._queue,
                rule,
                target,
                thorough=self._settings.reconcile.thorough,
                start_after=cursor.resume(),
                told=told,
            )
        except BaseException:
            # The end of the service too.
            cursor.save()
            raise
        finally:
            round_.seconds = seconds + time.monotonic() - started
            self.journal.write()
