"""`tandem reconcile`: queue a change for each key that may differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, Rules, Target, counted, document, say, warn
from tandem.concurrency import together
from tandem.cursor import Cursor
from tandem.emission import Emission, emit, matters, shards
from tandem.listings import Pair, walk
from tandem.queues.base import Queue
from tandem.report import duration, printable
from tandem.rule import Rule
from tandem.stores.base import ObjectStore

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem reconcile                     every rule, every target\n"
    "  tandem reconcile documents --dry-run print what would be queued, and do nothing\n"
    "  tandem reconcile --thorough\n"
    "  tandem reconcile --shard 2025/ --shard 2026/"
)

# What a shell makes of a command that Ctrl-C ended: 128 and SIGINT's number.
INTERRUPTED = 130

# What is compared: a rule, a target of it, and the prefixes of its keys.
_Part = tuple[Rule, str, tuple[str, ...]]


def reconcile(
    context: typer.Context,
    rules: Rules = None,
    target: Target = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly what would be queued; do nothing.")
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Queue every key that either side has, even where size and ETag agree.",
        ),
    ] = False,
    shard: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX",
            help="Only keys that begin so; several are compared at once.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin again, though an earlier one was cut short.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the listings of both sides, and queue a change for each key that may differ.

    The workers do the rest, as they do after an event: so this is how a large bucket comes level
    by many workers. It waits while their backlog is long. The service does the same by itself,
    every so often. Cut short, it goes on where it stood.
    """
    stack = Stack.of(context)
    routes = stack.routes(rules or (), target)
    work = _Reconcile(stack, thorough=thorough, restart=restart, as_json=as_json)
    parts = list(_parts(routes, shard or []))
    try:
        results = asyncio.run(work.rehearse(parts) if dry_run else work.run(parts))
    except KeyboardInterrupt:
        warn("interrupted" if dry_run else "interrupted: the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        told = {"stack": stack.settings.stack, "dry_run": dry_run, "rules": results}
        document({**told, "changes": work.told} if dry_run else told)


def _parts(routes: Sequence[tuple[Rule, str]], prefixes: Sequence[str]) -> Iterator[_Part]:
    """Yield each route with the prefixes to compare; raises `Refused` if no rule has such keys."""
    split = [(rule, target, shards(rule, prefixes)) for rule, target in routes]
    if not any(found for _, _, found in split):
        asked = " or ".join(map(repr, prefixes))
        raise Refused(f"no key of {routes[0][0].name} begins with {asked}: see its prefix")
    yield from (each for each in split if each[2])


class _Reconcile:
    """One call of `tandem reconcile`."""

    def __init__(self, stack: Stack, *, thorough: bool, restart: bool, as_json: bool) -> None:
        self.stack = stack
        self.thorough = thorough
        self.restart = restart
        self.as_json = as_json
        self.told: list[dict[str, Any]] = []

    async def run(self, parts: Sequence[_Part]) -> list[dict[str, Any]]:
        """Reconcile each route, one after another, and its shards at once."""
        results = []
        names = [name for rule, target, _ in parts for name in (rule.source, target)]
        async with self.stack.stores(*names) as stores, self.stack.queue() as queue:
            for rule, target, prefixes in parts:
                started, done = time.monotonic(), list[Emission]()
                await together(
                    *(self._shard(stores, queue, rule, target, each, done) for each in prefixes)
                )
                told = {
                    **_route(rule, target),
                    "keys": sum(each.compared for each in done),
                    "changes": sum(each.emitted for each in done),
                    "seconds": round(time.monotonic() - started, 3),
                }
                results.append(told)
                if not self.as_json:
                    say(_line(told, "queued"))
        return results

    async def rehearse(self, parts: Sequence[_Part]) -> list[dict[str, Any]]:
        """Tell of each change that would be queued, in the order of keys."""
        results = []
        names = [name for rule, target, _ in parts for name in (rule.source, target)]
        async with self.stack.stores(*names) as stores:
            for rule, target, prefixes in parts:
                started, keys, changes = time.monotonic(), 0, 0
                for prefix in prefixes:
                    async with aclosing(walk(stores, rule, target, prefix=prefix)) as pairs:
                        async for pair in pairs:
                            keys += 1
                            if matters(rule, pair, thorough=self.thorough):
                                changes += 1
                                self._tell(rule, target, pair)
                told = {
                    **_route(rule, target),
                    "keys": keys,
                    "changes": changes,
                    "seconds": round(time.monotonic() - started, 3),
                }
                results.append(told)
                if not self.as_json:
                    say(_line(told, "would be queued"))
        return results

    def _tell(self, rule: Rule, target: str, pair: Pair) -> None:
        if self.as_json:
            self.told.append({**_route(rule, target), "key": pair.key, "why": _why(pair)})
        else:
            say(f"change  {rule.source} → {target}  {printable(pair.key)}  ({_why(pair)})")

    async def _shard(
        self,
        stores: Mapping[str, ObjectStore],
        queue: Queue,
        rule: Rule,
        target: str,
        prefix: str,
        done: list[Emission],
    ) -> None:
        sites = [self.stack.site(name) for name in (rule.source, target)]
        # Another name than the service's: its reconcile and this one may go on beside each other.
        cursor = Cursor(
            *(self.stack.folder, "reconcile-command", rule, sites),
            thorough=self.thorough,
            prefix=prefix if prefix != rule.prefix else "",
        )
        after = "" if self.restart else cursor.resume()
        if after:
            warn(f"going on after {printable(after)} (--restart begins again)")
        try:
            emission = await emit(
                *(stores, queue, rule, target),
                thorough=self.thorough,
                prefix=prefix,
                start_after=after,
                told=lambda emission: cursor.reach(emission.after),
            )
        except BaseException:
            # An interrupt too: the next one goes on from here.
            cursor.save()
            raise
        cursor.remove()
        done.append(emission)


def _route(rule: Rule, target: str) -> dict[str, Any]:
    return {"rule": rule.name, "source": rule.source, "target": target}


def _why(pair: Pair) -> str:
    """Return in words what the listings say of a key."""
    if pair.source is None:
        return "only the target lists it"
    if pair.target is None:
        return "only the source lists it"
    return "equal by its listing" if pair.looks_equal else "size or ETag differ"


def _line(told: dict[str, Any], done: str) -> str:
    return (
        f"{told['rule']}: {told['source']} → {told['target']}: {counted(told['keys'], 'key')} "
        f"compared in {duration(told['seconds'])}, {counted(told['changes'], 'change')} {done}"
    )
