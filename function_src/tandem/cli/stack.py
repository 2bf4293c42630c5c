"""The stack that a command works on, and the ways into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import typer

from tandem.engine import Engine
from tandem.probing import ask
from tandem.queues.base import Queue
from tandem.rule import Rule
from tandem.settings import Settings, Site, find
from tandem.stores.abilities import Probeable


class Refused(Exception):
    """Say in one line why a command cannot do what was asked, and what to do instead."""


class Stack:
    """Hold the settings of a stack that is up, and open what they name."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.settings = Settings.parse(path.read_text(encoding="utf-8"))

    @classmethod
    def of(cls, context: typer.Context) -> Stack:
        """Return the stack that `--stack` names, or the only one there is.

        Raises `Refused` if there is none, several, or its settings cannot be read.
        """
        try:
            path = find(context.obj)
        except FileNotFoundError as error:
            raise Refused(str(error)) from error
        try:
            return cls(path)
        except (OSError, ValueError) as error:
            raise Refused(f"cannot read {path}: {error}") from error

    def site(self, name: str) -> Site:
        """Return a site by name; raises `Refused`, naming those there are."""
        try:
            return self.settings.sites[name]
        except KeyError:
            raise Refused(_unknown("site", name, self.settings.sites)) from None

    def rules(self, names: Sequence[str]) -> tuple[Rule, ...]:
        """Return rules by name, all of them for no name; raises `Refused` for an unknown one."""
        known = {rule.name: rule for rule in self.settings.rules}
        for name in names:
            if name not in known:
                raise Refused(_unknown("rule", name, known))
        return tuple(rule for rule in known.values() if not names or rule.name in names)

    def routes(self, names: Sequence[str], target: str | None) -> tuple[tuple[Rule, str], ...]:
        """Return each of the named rules with each of its targets, or with `target` alone.

        Raises `Refused` if nothing is left.
        """
        rules = self.rules(names)
        if target:
            self.site(target)
        routes = tuple(
            (way, each)
            for rule in rules
            for way in rule.directions
            for each in way.targets
            if target in (None, each)
        )
        if not routes:
            meant = ", ".join(rule.name for rule in rules) or "this stack, which has no rule"
            raise Refused(f"{target or 'no site'} is not a target of {meant}")
        return routes

    @asynccontextmanager
    async def stores(self, *names: str) -> AsyncIterator[dict[str, Probeable]]:
        """Open the stores of the named sites; close them at the end."""
        from tandem.stores.s3 import S3Store  # noqa: PLC0415 -- `--help` needs no HTTP client

        async with AsyncExitStack() as opened:
            stores: dict[str, Probeable] = {}
            for name in dict.fromkeys(names):
                stores[name] = S3Store.connect(self.site(name))
                opened.push_async_callback(stores[name].close)
            yield stores

    @asynccontextmanager
    async def engine(
        self, routes: Sequence[tuple[Rule, str]], *, writes: bool = False
    ) -> AsyncIterator[Engine]:
        """Open an engine for these rules and targets, and the stores that it needs.

        One that writes asks its targets first: a server that ignores conditions silently is
        written to with more care.
        """
        sites = [site for rule, target in routes for site in (rule.source, target)]
        rules = list(dict.fromkeys(rule for rule, _ in routes))
        async with self.stores(*sites) as stores:
            if writes:
                await ask(stores, {target for _, target in routes}, rules)
            yield Engine(stores, rules)

    @asynccontextmanager
    async def queue(self) -> AsyncIterator[Queue]:
        """Open the stack's queue; close it at the end."""
        from tandem.queues.jetstream import (  # noqa: PLC0415 -- `--help` needs no NATS client
            JetStreamQueue,
        )

        queue = await JetStreamQueue.connect(self.settings.queue)
        try:
            yield queue
        finally:
            await queue.close()


def _unknown(noun: str, name: str, known: Any) -> str:
    return f"there is no {noun} {name!r} in this stack: its {noun}s are {', '.join(sorted(known))}"
