"""`tandem errors` and `tandem redrive`: work that a retry could not mend."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, counted, document, say, warn
from tandem.errors import ErrorClass
from tandem.queues.base import Failure, Queue
from tandem.report import ADVICE, duration, failure, parse_duration, printable

ERRORS_EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem errors                        the newest hundred\n"
    "  tandem errors --class denied --rule documents\n"
    "  tandem errors --key 'logs/*' --json"
)
REDRIVE_EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem redrive --dry-run             print what would be put back\n"
    "  tandem redrive --class denied        after its credentials were mended\n"
    "  tandem redrive --key 'logs/*' --older-than 10m"
)

ClassOption = Annotated[
    ErrorClass | None, typer.Option("--class", help="Only failures of this class.")
]
RuleOption = Annotated[
    str | None, typer.Option("--rule", metavar="RULE", help="Only failures of this rule.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="GLOB", help="Only keys that match; * matches / too."),
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Say which failures a command is about."""

    error_class: ErrorClass | None
    rule: str | None
    key: str | None
    before: datetime

    async def of(self, queue: Queue) -> AsyncIterator[Failure]:
        """Yield the failures that lie in the error streams and are wanted."""
        async for failed in queue.failures(self.error_class):
            if self._has(failed):
                yield failed

    def _has(self, failed: Failure) -> bool:
        key = failed.change.key if failed.change else None
        return (
            failed.at <= self.before
            and self.rule in (None, failed.rule)
            and (self.key is None or (key is not None and fnmatchcase(key, self.key)))
        )


def errors(
    context: typer.Context,
    error_class: ClassOption = None,
    rule: RuleOption = None,
    key: KeyOption = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show the newest N; 0 shows them all.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show the work that failed for good: what, why, and what to do; the newest comes last.

    Each class of error has a stream of its own, where failures stay until they are redriven.
    """
    stack = Stack.of(context)
    if rule:
        stack.rules([rule])
    wanted = _Wanted(error_class, rule, key, datetime.now(UTC))
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
    stack: Stack, wanted: _Wanted, limit: int
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
    say(f"{failed.at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  {failed.error_class}  {_route(failed)}")
    times = counted(failed.attempts, "attempt")
    took = duration(max(0.0, (failed.at - failed.since).total_seconds()))
    say(f"    {printable(failed.message)} ({times} in {took})")


def _route(failed: Failure) -> str:
    if failed.change is None:
        return f"a message that cannot be understood: {printable(failed.raw[:200])}"
    where = f"{failed.change.site}:{printable(failed.change.key)}"
    return f"{failed.rule}: {where} → {failed.target}" if failed.target else where


def redrive(
    context: typer.Context,
    error_class: ClassOption = None,
    rule: RuleOption = None,
    key: KeyOption = None,
    older_than: Annotated[
        str,
        typer.Option(metavar="TIME", help="Only failures older than this, such as 90s, 10m, 2h."),
    ] = "0s",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be put back; do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put failed work back into the queue, when what made it fail has been mended.

    Each failure is queued for its own rule and target, and only then leaves its error stream: a
    crash in between does it twice, which is harmless, and never loses it. A message that could
    not be understood names no key, so it stays.
    """
    stack = Stack.of(context)
    if rule:
        stack.rules([rule])
    try:
        before = datetime.now(UTC) - parse_duration(older_than)
    except ValueError as error:
        raise Refused(f"--older-than: {error}") from error
    wanted = _Wanted(error_class, rule, key, before)
    put_back, left = asyncio.run(_redrive(stack, wanted, dry_run=dry_run, aloud=not as_json))
    if as_json:
        document(
            {
                "stack": stack.settings.stack,
                "dry_run": dry_run,
                "redriven": [failure(failed) for failed in put_back],
                "left": left,
            }
        )
        return
    say(f"{counted(len(put_back), 'failure')} {'would be ' if dry_run else ''}put back")
    if left:
        stay = "stays" if left == 1 else "stay"
        warn(f"{counted(left, 'message')} that cannot be understood {stay}: see `tandem errors`")


async def _redrive(
    stack: Stack, wanted: _Wanted, *, dry_run: bool, aloud: bool
) -> tuple[list[Failure], int]:
    put_back: list[Failure] = []
    left = 0
    async with stack.queue() as queue:
        async for failed in wanted.of(queue):
            if failed.change is None:
                left += 1
                continue
            if not dry_run:
                await queue.send(
                    replace(failed.change, rule=failed.rule or None, target=failed.target or None)
                )
                await queue.drop(failed)
            put_back.append(failed)
            if aloud:
                say(f"{failed.error_class}  {_route(failed)}")
    return put_back, left
