"""`tandem errors`: work that a retry could not mend."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from datetime import datetime
from typing import Annotated

import typer

from tandem.cli.stack import Stack
from tandem.cli.terminal import Json, counted, document, say
from tandem.cli.wanted import (
    ClassOption,
    KeyOption,
    NewerOption,
    OlderOption,
    RuleOption,
    TargetOption,
    Wanted,
    route,
)
from tandem.errors import ErrorClass
from tandem.queues.base import Failure
from tandem.report import ADVICE, duration, failure, moment, printable

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem errors                        the newest hundred\n"
    "  tandem errors --class denied --rule documents\n"
    "  tandem errors --key 'logs/*' --newer-than 1h --json"
)


def errors(
    context: typer.Context,
    error_class: ClassOption = None,
    rule: RuleOption = None,
    target: TargetOption = None,
    key: KeyOption = None,
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show the newest N; 0 shows them all.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show the work that failed for good: what, why, and what to do; the newest comes last.

    Each class of error has a stream of its own, where failures stay until they are redriven or
    discarded.
    """
    stack = Stack.of(context)
    wanted = Wanted.read(stack, error_class, rule, target, key, older_than, newer_than)
    found, counts = asyncio.run(_newest(stack, wanted, limit))
    if as_json:
        document([failure(failed) for failed in found])
        return
    if counts.total() > len(found):
        say(f"the newest {len(found):,} of {counts.total():,} (--limit 0 shows them all)")
    for failed in found:
        _print(failed)
    for name in ErrorClass:
        if counts[name]:
            say(f"{counts[name]:,} {name}: {ADVICE[name]}")
    if not found:
        say("no errors")


async def _newest(
    stack: Stack, wanted: Wanted, limit: int
) -> tuple[list[Failure], Counter[ErrorClass]]:
    """Return the newest failures, oldest of them first, and how many there are of each class."""
    counts: Counter[ErrorClass] = Counter()
    newest: list[tuple[datetime, int, Failure]] = []
    async with stack.queue() as queue:
        async for failed in wanted.of(queue):
            counts[failed.error_class] += 1
            item = (failed.at, counts.total(), failed)
            if limit and len(newest) >= limit:
                heapq.heappushpop(newest, item)
            else:
                heapq.heappush(newest, item)
    return [failed for _, _, failed in sorted(newest, key=lambda item: item[:2])], counts


def _print(failed: Failure) -> None:
    say(f"{moment(failed.at)}  {failed.error_class}  {route(failed)}")
    times = counted(failed.attempts, "attempt")
    took = duration(max(0.0, (failed.at - failed.since).total_seconds()))
    say(f"    {printable(failed.message)} ({times} in {took})")
