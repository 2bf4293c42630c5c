"""The reconcile that comes by itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.journal import ReconcileRound
from service.recurring import Recurring
from tandem.cursor import Cursor
from tandem.emission import Emission, emit
from tandem.queues.base import Queue
from tandem.report import duration
from tandem.rule import Rule
from tandem.settings import Settings
from tandem.stores.base import ObjectStore

# How often, in seconds, progress is written down.
NOTE = 2.0


class Schedule(Recurring[ReconcileRound]):
    """Reconcile a stack whenever it is due, and answer for how that went."""

    def __init__(
        self, settings: Settings, queue: Queue, stores: Mapping[str, ObjectStore], folder: Path
    ) -> None:
        super().__init__(settings, folder, settings.reconcile.every, ReconcileRound)
        self._queue = queue
        self._stores = stores

    def to_json(self) -> dict[str, Any]:
        """Return how it stands, as `Recurring.to_json`, and whether it is `thorough`."""
        return {**super().to_json(), "thorough": self._settings.reconcile.thorough}

    def _ended(self, round_: ReconcileRound) -> str:
        return (
            f"{round_.keys} keys compared in {duration(round_.seconds)}, "
            f"{round_.changes} changes emitted"
        )

    def _cursor(self, rule: Rule, target: str, *, thorough: bool = False) -> Cursor:
        thorough = thorough or self._settings.reconcile.thorough
        return super()._cursor(rule, target, thorough=thorough)

    async def _route(self, round_: ReconcileRound, rule: Rule, target: str) -> None:
        cursor = self._cursor(rule, target)
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
        cursor.remove()
