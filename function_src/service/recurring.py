"""Work that comes by itself, every so often, in one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic

from service.journal import Journal, R, now
from tandem.cursor import Cursor
from tandem.errors import TandemError
from tandem.rule import Rule
from tandem.settings import Settings

logger = logging.getLogger(__name__)

# After a failure the next attempt, in seconds, if the interval is not shorter still.
RETRY = 300.0


class Recurring(ABC, Generic[R]):
    """Do a round of one kind of work on all rules whenever it is due, and answer for it.

    `every` is in seconds, 0 for never. `folder` is where it remembers, so that a restart neither
    forgets nor repeats.
    """

    def __init__(self, settings: Settings, folder: Path, every: float, kind: type[R]) -> None:
        self._settings = settings
        self._folder = folder
        self._every = every
        self._kind = kind
        self._running = False
        self.journal = Journal(folder, kind)

    def to_json(self) -> dict[str, Any]:
        """Return how it stands: interval, when the next is due, the one under way, the last.

        `every` is in seconds, null for never; see `Round` for the rounds.
        """
        journal = self.journal
        return {
            "every": self._every or None,
            "due": journal.due.isoformat() if self._every and journal.due else None,
            "current": journal.current.to_json() if self._running and journal.current else None,
            "last": journal.last.to_json() if journal.last else None,
        }

    async def run(self) -> None:
        """Do a round each time that it is due, for ever; not at all if settings say never."""
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
                logger.exception("%s could not be carried out", self._kind.name)
                self._put_off(RETRY)

    @abstractmethod
    async def _route(self, round_: R, rule: Rule, target: str) -> None:
        """Do the work on one rule at one target, counting it in `round_`; raise what is wrong."""

    @abstractmethod
    def _ended(self, round_: R) -> str:
        """Return in words what a round has come to."""

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
            round_ = self._kind(began=now().isoformat())
        journal.current, self._running = round_, True
        try:
            tried = [await self._try(round_, *route) for route in self._routes()]
        finally:
            self._running = False
        faults = list(filter(None, tried))
        if not faults:
            journal.current = None
            logger.info("%s: %s", self._kind.name, self._ended(round_))
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

    async def _try(self, round_: R, rule: Rule, target: str) -> str | None:
        """Work on one route unless that is done; return what was wrong, None if nothing was."""
        # Another rule of the same name is another route.
        name = self._cursor(rule, target).walk_id
        if name in round_.done:
            return None
        try:
            await self._route(round_, rule, target)
        except Exception as error:
            what = f"{rule.name}: {rule.source} → {target}: {error}"
            # Of a fault of ours the log must hold more than what it says.
            ours = not isinstance(error, TandemError)
            logger.warning(
                "%s stopped, and deleted nothing: %s", self._kind.name, what, exc_info=ours
            )
            return what
        round_.done.append(name)
        return None

    def _cursor(self, rule: Rule, target: str, *, thorough: bool = False) -> Cursor:
        sites = [self._settings.sites[name] for name in (rule.source, target)]
        return Cursor(self._folder, self._kind.name, rule, sites, thorough=thorough)
