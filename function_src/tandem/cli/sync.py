"""`tandem sync`: bring existing objects level."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tandem.cli.progress import Bar
from tandem.cli.stack import Stack
from tandem.cli.terminal import Json, Rules, Target, counted, document, say, warn
from tandem.cursor import Cursor
from tandem.engine import Engine
from tandem.reconcile import IN_FLIGHT, Finding, examine
from tandem.reconcile import sync as reconcile
from tandem.report import Tally, called, duration, finding, printable, size, what, why
from tandem.rule import Rule

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem sync                          every rule, every target\n"
    "  tandem sync documents --dry-run      print what would be done, and do nothing\n"
    "  tandem sync --thorough --concurrency 64"
)

# What a shell makes of a command that Ctrl-C ended: 128 and SIGINT's number.
INTERRUPTED = 130


def sync(
    context: typer.Context,
    rules: Rules = None,
    target: Target = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly what would be done; do nothing.")
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Ask about every key, even where size and ETag agree: "
            "finds headers, metadata and tags that differ.",
        ),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin again, though an earlier sync was cut short.")
    ] = False,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="How many keys are copied at once.")
    ] = IN_FLIGHT,
    as_json: Json = False,
) -> None:
    """Bring the objects that are there already level, at every target of every rule.

    Compares the listings of both sides and converges each key that may differ, with the same
    care as the workers: a delete needs the source's own word for that key. What it copies, events
    need not bring; what events bring meanwhile is no harm. Cut short, it goes on where it stood.
    """
    stack = Stack.of(context)
    work = _Sync(stack, stack.routes(rules or (), target), thorough=thorough, as_json=as_json)
    try:
        tallies = asyncio.run(
            work.rehearse(concurrency) if dry_run else work.run(concurrency, restart=restart)
        )
    except KeyboardInterrupt:
        warn("interrupted" if dry_run else "interrupted: the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        told = {"stack": stack.settings.stack, "dry_run": dry_run, "rules": tallies}
        document({**told, ("actions" if dry_run else "failures"): work.told})
    if any(tally["failed"] for tally in tallies):
        raise typer.Exit(1)


class _Sync:
    """One call of `tandem sync`."""

    def __init__(
        self, stack: Stack, routes: Sequence[tuple[Rule, str]], *, thorough: bool, as_json: bool
    ) -> None:
        self.stack = stack
        self.routes = routes
        self.thorough = thorough
        self.as_json = as_json
        self.told: list[dict[str, Any]] = []

    async def run(self, concurrency: int, *, restart: bool) -> list[dict[str, Any]]:
        """Bring each rule's targets level, one after another."""
        results = []
        async with self.stack.engine(self.routes, writes=True) as engine:
            for rule, target in self.routes:
                sites = [self.stack.site(name) for name in (rule.source, target)]
                cursor = Cursor(self.stack.folder, "sync", rule, sites, thorough=self.thorough)
                started = time.monotonic()
                after = "" if restart else cursor.resume()
                if after:
                    warn(f"going on after {printable(after)} (--restart begins again)")
                tally = await self._route(engine, rule, target, cursor, after, concurrency)
                seconds = time.monotonic() - started
                results.append({**tally.to_json(), "seconds": round(seconds, 3)})
                if not self.as_json:
                    say(_summary(tally, seconds))
        return results

    async def _route(
        self,
        engine: Engine,
        rule: Rule,
        target: str,
        cursor: Cursor,
        after: str,
        concurrency: int,
    ) -> Tally:
        tally = Tally.of(rule, target)
        bar = Bar(f"{rule.name} → {target}")

        def told(found: Finding, reached: str) -> None:
            tally.add(found)
            bar.advance()
            cursor.reach(reached)
            if found.error:
                self._tell(found)

        try:
            async with bar.counting(engine, rule, after):
                await reconcile(
                    engine,
                    rule,
                    target,
                    told,
                    thorough=self.thorough,
                    start_after=after,
                    in_flight=concurrency,
                )
        except BaseException:
            # An interrupt too: the next sync goes on from here.
            cursor.save()
            raise
        cursor.remove()
        return tally

    async def rehearse(self, concurrency: int) -> list[dict[str, Any]]:
        """Tell for each rule and target what a sync would do."""
        results = []
        async with self.stack.engine(self.routes) as engine:
            for rule, target in self.routes:
                tally, bar = Tally.of(rule, target), Bar(f"{rule.name} → {target}")
                async with bar.counting(engine, rule):
                    async for found in examine(
                        engine, rule, target, thorough=self.thorough, in_flight=concurrency
                    ):
                        tally.add(found)
                        bar.advance()
                        if found.differs or found.error:
                            self._tell(found)
                results.append(tally.to_json())
                if not self.as_json:
                    say(
                        f"{rule.name}: {rule.source} → {target}: {counted(tally.keys, 'key')}, "
                        f"{tally.differ:,} would change"
                        + (f", {tally.failed:,} failed" if tally.failed else "")
                    )
        return results

    def _tell(self, found: Finding) -> None:
        if self.as_json:
            self.told.append(finding(found))
        else:
            say(
                f"{what(found):6}  {found.source} → {found.target}  "
                f"{called(found.key, found.target_key)}  ({printable(why(found))})"
            )


def _summary(tally: Tally, seconds: float) -> str:
    done = [
        f"{tally.actions['copy']:,} copied ({size(tally.bytes)})",
        f"{tally.actions['retag']:,} retagged",
        f"{tally.actions['delete']:,} deleted",
        f"{tally.actions['skip'] - tally.foreign - tally.uncovered:,} level already",
        *([f"{tally.foreign:,} foreign"] if tally.foreign else []),
        *([f"{tally.uncovered:,} not covered for their tags"] if tally.uncovered else []),
        f"{tally.failed:,} failed",
    ]
    return (
        f"{tally.rule}: {tally.source} → {tally.target}: {counted(tally.keys, 'key')} in "
        f"{duration(seconds)}: {', '.join(done)}"
    )
