"""`tandem verify`: report what differs."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

import typer

from tandem.cli.progress import Bar
from tandem.cli.stack import Stack
from tandem.cli.terminal import Json, Rules, Target, columns, counted, document, say
from tandem.reconcile import IN_FLIGHT, Finding, examine
from tandem.report import Tally, called, finding, printable, size, what, why
from tandem.sample import SEEDS, Sample

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem verify                    every rule, every target\n"
    "  tandem verify documents --limit 0 --json\n"
    "  tandem verify --sample 1         read one object in a hundred\n"
    "  tandem verify && echo in step"
)


Limit = Annotated[
    int, typer.Option(min=0, metavar="N", help="List at most N keys; 0 lists them all.")
]
Concurrency = Annotated[
    int, typer.Option(min=1, max=1024, metavar="N", help="How many keys are looked at at once.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Believe pairs whose size and ETag agree in the listings.")
]
Percent = Annotated[
    float,
    typer.Option(
        min=0,
        max=100,
        metavar="PERCENT",
        help="Read so many of the objects on both sides, and compare checksums.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=SEEDS - 1, metavar="N", help="Read the sample of an earlier run."),
]


def verify(
    context: typer.Context,
    rules: Rules = None,
    target: Target = None,
    limit: Limit = 100,
    concurrency: Concurrency = IN_FLIGHT,
    quick: Quick = False,
    sample: Percent = 0.0,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Report every key that differs between a source and its targets; change nothing.

    Asks both sides about every key, and compares bytes (by size, ETag and provenance), content
    headers, user metadata and tags. WHAT says what would mend it: copy, retag or delete. A key
    that only the target has and that Tandem did not write is foreign, not a difference. With
    --sample, bytes that differ though all of this agrees are corrupt. Of rules with all versions,
    keys whose histories differ are told too, also those deleted on both sides; a gap is an older
    version that came too late. Exit code 1 if anything differs or could not be looked at.
    """
    stack = Stack.of(context)
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    work = _Verify(limit, Sample(sample, seed) if sample else None, thorough=not quick)
    tallies = asyncio.run(work.run(stack, rules or [], target, concurrency))
    if as_json:
        document(_json(stack, work, tallies, seed if sample else None))
    else:
        _print(work, tallies)
        if sample:
            say(f"the sample's seed is {seed} (--seed {seed} reads the same keys again)")
    if any(tally.differ or tally.failed for tally in tallies):
        raise typer.Exit(1)


class _Verify:
    """One call of `tandem verify`."""

    def __init__(self, limit: int, sample: Sample | None, *, thorough: bool) -> None:
        self.limit = limit
        self.sample = sample
        self.thorough = thorough
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
                    async for found in examine(
                        engine,
                        rule,
                        site,
                        thorough=self.thorough,
                        sample=self.sample,
                        in_flight=concurrency,
                    ):
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


def _json(stack: Stack, work: _Verify, tallies: list[Tally], seed: int | None) -> dict[str, Any]:
    return {
        "stack": stack.settings.stack,
        "differ": sum(tally.differ for tally in tallies),
        "failed": sum(tally.failed for tally in tallies),
        "seed": seed,
        "rules": [tally.to_json() for tally in tallies],
        "findings": [finding(found) for found in work.listed],
        "unlisted": work.unlisted,
    }


def _print(work: _Verify, tallies: list[Tally]) -> None:
    if work.listed:
        rows = [
            (what(found), found.target, called(found.key, found.target_key), printable(why(found)))
            for found in work.listed
        ]
        columns(rows, head=("WHAT", "TARGET", "KEY", "WHY"))
    if work.unlisted:
        say(f"… and {work.unlisted:,} more (--limit 0 lists them all)")
    for tally in tallies:
        say(_summary(tally))


def _summary(tally: Tally) -> str:
    counts: list[tuple[int, Any]] = [
        (tally.corrupt, "corrupt"),
        (tally.gaps, "with gaps"),
        (tally.foreign, "foreign"),
        (tally.uncovered, "not covered for their tags"),
        (tally.failed, "failed"),
    ]
    rest = "".join(f", {count:,} {word}" for count, word in counts if count)
    differ = f"{tally.differ:,} differ" if tally.differ else "none differs"
    if tally.sampled:
        rest += f", {counted(tally.sampled, 'object')} read ({size(tally.read)} on each side)"
    where = f"{tally.rule}: {tally.source} → {tally.target}"
    return f"{where}: {counted(tally.keys, 'key')}, {differ}{rest}"
