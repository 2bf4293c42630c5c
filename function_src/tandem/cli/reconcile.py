"""`tandem reconcile`: queue a change for each key that may differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, Rules, Target, counted, document, say, warn
from tandem.concurrency import together
from tandem.cursor import Cursor
from tandem.emission import Emission, emit, shards
from tandem.queues.base import Queue
from tandem.report import duration, printable
from tandem.rule import Rule
from tandem.stores.base import ObjectStore

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem reconcile                     every rule, every target\n"
    "  tandem reconcile documents --thorough\n"
    "  tandem reconcile --shard 2025/ --shard 2026/"
)

# What a shell makes of a command that Ctrl-C ended: 128 and SIGINT's number.
INTERRUPTED = 130


def reconcile(
    context: typer.Context,
    rules: Rules = None,
    target: Target = None,
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
    work = _Reconcile(stack, thorough=thorough, restart=restart)
    parts = list(_parts(routes, shard or []))
    try:
        results = asyncio.run(work.run(parts, as_json=as_json))
    except KeyboardInterrupt:
        warn("interrupted: the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        document({"stack": stack.settings.stack, "rules": results})


def _parts(
    routes: Sequence[tuple[Rule, str]], prefixes: Sequence[str]
) -> Iterator[tuple[Rule, str, tuple[str, ...]]]:
    """Yield each route with the prefixes to compare; raises `Refused` if no rule has such keys."""
    split = [(rule, target, shards(rule, prefixes)) for rule, target in routes]
    if not any(found for _, _, found in split):
        asked = " or ".join(map(repr, prefixes))
        raise Refused(f"no key of {routes[0][0].name} begins with {asked}: see its prefix")
    yield from (each for each in split if each[2])


class _Reconcile:
    """One call of `tandem reconcile`."""

    def __init__(self, stack: Stack, *, thorough: bool, restart: bool) -> None:
        self.stack = stack
        self.thorough = thorough
        self.restart = restart

    async def run(
        self, parts: Sequence[tuple[Rule, str, tuple[str, ...]]], *, as_json: bool
    ) -> list[dict[str, Any]]:
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
                    "rule": rule.name,
                    "source": rule.source,
                    "target": target,
                    "keys": sum(each.compared for each in done),
                    "changes": sum(each.emitted for each in done),
                    "seconds": round(time.monotonic() - started, 3),
                }
                results.append(told)
                if not as_json:
                    say(_line(told))
        return results

    async def _shard(
        self,
        stores: dict[str, ObjectStore],
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


def _line(told: dict[str, Any]) -> str:
    return (
        f"{told['rule']}: {told['source']} → {told['target']}: {counted(told['keys'], 'key')} "
        f"compared in {duration(told['seconds'])}, {counted(told['changes'], 'change')} queued"
    )
