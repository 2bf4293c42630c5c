"""The sweep that comes by itself: uploads that nobody will go on with are aborted once a day."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from service.journal import SweepRound
from service.recurring import Recurring
from tandem.engine import Engine
from tandem.report import printable, size
from tandem.rule import Rule
from tandem.settings import Settings
from tandem.stores.base import ObjectStore
from tandem.sweep import sweep

logger = logging.getLogger(__name__)


class Sweeping(Recurring[SweepRound]):
    """Sweep the targets of a stack whenever it is due, and answer for how that went."""

    def __init__(self, settings: Settings, stores: Mapping[str, ObjectStore], folder: Path) -> None:
        super().__init__(settings, folder, settings.sweep.every, SweepRound)
        self._engine = Engine(stores, settings.rules)

    def to_json(self) -> dict[str, Any]:
        """Return how it stands, as `Recurring.to_json`, and `older_than` in seconds."""
        return {**super().to_json(), "older_than": self._settings.sweep.older_than}

    def _ended(self, round_: SweepRound) -> str:
        return f"{round_.aborted} aborted ({size(round_.bytes)}), {round_.kept} kept"

    async def _route(self, round_: SweepRound, rule: Rule, target: str) -> None:
        started, kept, first = time.monotonic(), 0, None
        older_than = self._settings.sweep.older_than
        try:
            sweeping = sweep(self._engine, rule, target, older_than=older_than)
            async with aclosing(sweeping) as found:
                async for swept in found:
                    where = f"{rule.name}: the upload of {printable(swept.upload.key)} to {target}"
                    if swept.error:
                        # It stops no other, and is looked into again with the next attempt.
                        logger.warning("%s stays: %s", where, swept.error)
                        first = first or swept.error
                    elif swept.aborted:
                        round_.aborted += 1
                        round_.bytes += swept.size
                        logger.info("%s (%s) aborted: %s", where, size(swept.size), swept.reason)
                    else:
                        kept += 1
        finally:
            round_.seconds += time.monotonic() - started
        if first:
            raise first
        round_.kept += kept
