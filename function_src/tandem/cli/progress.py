"""A progress bar with rate and time left, on standard error if that is a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tandem.cli.terminal import err
from tandem.engine import Engine
from tandem.errors import TandemError
from tandem.listings import listing
from tandem.rule import Rule

# How many keys are counted between two updates of the total.
STEP = 1000


class _Rate(ProgressColumn):
    """Show how many keys are done in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} keys/s")


class Bar:
    """Show how far the walk of one rule to one target has come; nothing unless on a terminal."""

    def __init__(self, title: str) -> None:
        self._shown = err.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not self._shown,
        )
        self._task = self._progress.add_task(title, total=None)

    def advance(self) -> None:
        """Count one key as done; where nothing is shown, at no cost for each of a million keys."""
        if self._shown:
            self._progress.advance(self._task)

    @asynccontextmanager
    async def counting(self, engine: Engine, rule: Rule, after: str = "") -> AsyncIterator[None]:
        """Show the bar, and beside the walk count the source's keys, from which the rest is told.

        Listing is cheap beside looking at each key, but not free: so only on a terminal.
        """
        if not self._shown:
            yield
            return
        count = asyncio.create_task(self._count(engine, rule, after))
        try:
            with self._progress:
                yield
        finally:
            count.cancel()
            await asyncio.gather(count, return_exceptions=True)

    async def _count(self, engine: Engine, rule: Rule, after: str) -> None:
        total = 0
        try:
            async for entry in listing(engine.stores[rule.source], rule.prefix, after):
                total += rule.covers(entry.key)
                if total % STEP == 0:
                    # More are to come: a total is shown only when it is known.
                    await asyncio.sleep(0)
        except TandemError:
            return  # the walk meets the same error, and tells it
        self._progress.update(self._task, total=total)
