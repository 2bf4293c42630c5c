"""Which failures a command is about: the options that say so, and the failures that match."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from tandem.cli.stack import Refused, Stack
from tandem.errors import ErrorClass
from tandem.queues.base import Failure, Queue
from tandem.report import parse_duration, printable

ClassOption = Annotated[
    ErrorClass | None, typer.Option("--class", help="Only failures of this class.")
]
RuleOption = Annotated[
    str | None, typer.Option("--rule", metavar="RULE", help="Only failures of this rule.")
]
TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="SITE", help="Only failures at this target.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="GLOB", help="Only keys that match; * matches / too."),
]
OlderOption = Annotated[
    str | None,
    typer.Option(
        "--older-than", metavar="TIME", help="Only failures older than this: 90s, 10m, 2h, 1d."
    ),
]
NewerOption = Annotated[
    str | None,
    typer.Option("--newer-than", metavar="TIME", help="Only failures younger than this."),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say which failures a command is about; None leaves a thing open.

    `key` is a glob. `before` and `after` bound the time at which they were given up, UTC; what
    fails while the command runs is never meant.
    """

    error_class: ErrorClass | None
    rule: str | None
    target: str | None
    key: str | None
    before: datetime
    after: datetime | None

    @classmethod
    def read(
        cls,
        stack: Stack,
        error_class: ErrorClass | None,
        rule: str | None,
        target: str | None,
        key: str | None,
        older_than: str | None,
        newer_than: str | None,
    ) -> Wanted:
        """Read the options; raises `Refused` for a rule, a site or a time that is none."""
        if rule:
            stack.rules([rule])
        if target:
            stack.site(target)
        now = datetime.now(UTC)
        return cls(
            error_class,
            rule,
            target,
            key,
            _before(now, "--older-than", older_than) or now,
            _before(now, "--newer-than", newer_than),
        )

    async def of(self, queue: Queue) -> AsyncIterator[Failure]:
        """Yield the failures that lie in the error streams and are wanted."""
        async for failed in queue.failures(self.error_class):
            if self._has(failed):
                yield failed

    def _has(self, failed: Failure) -> bool:
        key = failed.change.key if failed.change else None
        return (
            failed.at <= self.before
            and (self.after is None or failed.at >= self.after)
            and self.rule in (None, failed.rule)
            and self.target in (None, failed.target)
            and (self.key is None or (key is not None and fnmatchcase(key, self.key)))
        )


def _before(now: datetime, option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise Refused(f"{option}: {error}") from error


def route(failed: Failure) -> str:
    """Return in words what a failure is about: a rule, a key and a target, or a message."""
    if failed.change is None:
        return f"a message that cannot be understood: {printable(failed.raw[:200])}"
    where = f"{failed.change.site}:{printable(failed.change.key)}"
    return f"{failed.rule}: {where} → {failed.target}" if failed.target else where
