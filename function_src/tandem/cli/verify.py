"""`tandem verify`: report what differs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from tandem.cli.progress import Bar
from tandem.cli.stack import Stack
from tandem.cli.terminal import Json, Rules, Target, columns, counted, document, say
from tandem.reconcile import IN_FLIGHT, Finding, examine
from tandem.report import Tally, finding, printable, what, why

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem verify                    every rule, every target\n"
    "  tandem verify documents --limit 0 --json\n"
    "  tandem verify && echo in step"
)


def verify(
    context: typer.Context,
    rules: Rules = None,
    target: Target = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="List at most N keys; 0 lists them all.")
    ] = 100,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="How many keys are looked at at once.")
    ] = IN_FLIGHT,
    as_json: Json = False,
) -> None:
    """Report every key that differs between a source and its targets; change nothing.

    Asks both sides about every key, and compares bytes (by size, ETag and provenance), content
    headers, user metadata and tags. WHAT says what would mend it: copy, retag or delete. A key
    that only the target has and that Tandem did not write is foreign, not a difference. Exit
    code 1 if anything differs or could not be looked at.
    """
    stack = Stack.of(context)
    work = _Verify(limit)
    tallies = asyncio.run(work.run(stack, rules or [], target, concurrency))
    differ = sum(tally.differ for tally in tallies)
    failed = sum(tally.failed for tally in tallies)
    if as_json:
        document(
            {
                "stack": stack.settings.stack,
                "differ": differ,
                "failed": failed,
                "rules": [tally.to_json() for tally in tallies],
                "findings": [finding(found) for found in work.listed],
                "unlisted": work.unlisted,
            }
        )
    else:
        _print(work, tallies)
    if differ or failed:
        raise typer.Exit(1)


class _Verify:
    """One call of `tandem verify`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.listed: list[Finding] = []
        self.unlisted = 0

    async def run(
        self, stack: Stack, rules: list[str], target: str | None, concurrency: int
    ) -> list[Tally]:
        """Look at every key of every route."""
        routes = stack.routes(rules, target)
        tallies = []
        async with stack.engine(routes) as engine:
            for rule, site in routes:
                tally, bar = Tally.of(rule, site), Bar(f"{rule.name} → {site}")
                async with bar.counting(engine, rule):
                    async for found in examine(engine, rule, site, in_flight=concurrency):
                        tally.add(found)
                        bar.advance()
                        self._note(found)
                tallies.append(tally)
        return tallies

    def _note(self, found: Finding) -> None:
        if not (found.differs or found.error or found.foreign):
            return
        if self.limit and len(self.listed) >= self.limit:
            self.unlisted += 1
        else:
            self.listed.append(found)


def _print(work: _Verify, tallies: list[Tally]) -> None:
    if work.listed:
        rows = [
            (what(found), found.target, printable(found.key), printable(why(found)))
            for found in work.listed
        ]
        columns(rows, head=("WHAT", "TARGET", "KEY", "WHY"))
    if work.unlisted:
        say(f"… and {work.unlisted:,} more (--limit 0 lists them all)")
    for tally in tallies:
        say(_summary(tally))


def _summary(tally: Tally) -> str:
    counts: list[tuple[int, Any]] = [(tally.foreign, "foreign"), (tally.failed, "failed")]
    rest = "".join(f", {count:,} {word}" for count, word in counts if count)
    differ = f"{tally.differ:,} differ" if tally.differ else "none differs"
    where = f"{tally.rule}: {tally.source} → {tally.target}"
    return f"{where}: {counted(tally.keys, 'key')}, {differ}{rest}"
