"""`tandem redrive` and `tandem discard`: what becomes of failed work."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import typer

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, ask, counted, document, say, warn
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
from tandem.queues.base import Failure
from tandem.report import failure

REDRIVE_EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem redrive --dry-run             print what would be put back\n"
    "  tandem redrive --class denied        after its credentials were mended\n"
    "  tandem redrive --key 'logs/*' --older-than 10m"
)
DISCARD_EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem discard --class poison --dry-run\n"
    "  tandem discard --class poison        asks first\n"
    "  tandem discard --key 'tmp/*' --older-than 7d --yes"
)


def redrive(
    context: typer.Context,
    error_class: ClassOption = None,
    rule: RuleOption = None,
    target: TargetOption = None,
    key: KeyOption = None,
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be put back; do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put failed work back into the queue, when what made it fail has been mended.

    Each failure is queued for its own rule and target, and only then leaves its error stream: a
    crash in between does it twice, which is harmless, and never loses it. A message that could
    not be understood names no key, so it stays, until it is discarded.
    """
    stack = Stack.of(context)
    wanted = Wanted.read(stack, error_class, rule, target, key, older_than, newer_than)
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
        warn(
            f"{counted(left, 'message')} that cannot be understood {stay}: "
            "see `tandem errors` and `tandem discard`"
        )


async def _redrive(
    stack: Stack, wanted: Wanted, *, dry_run: bool, aloud: bool
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
                say(f"{failed.error_class}  {route(failed)}")
    return put_back, left


def discard(
    context: typer.Context,
    error_class: ClassOption = None,
    rule: RuleOption = None,
    target: TargetOption = None,
    key: KeyOption = None,
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be discarded; do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Throw failures away, such as messages that cannot be understood.

    Nothing is done about what they asked for; where that may matter, a `tandem sync` of the rule
    finds it. Shows what goes and asks, unless told `--yes`; some option must say which.
    """
    if not any((error_class, rule, target, key, older_than, newer_than)):
        raise Refused(
            "say which failures to discard: --class poison, say, or --rule, --target, --key, "
            "--older-than or --newer-than"
        )
    stack = Stack.of(context)
    wanted = Wanted.read(stack, error_class, rule, target, key, older_than, newer_than)
    found = asyncio.run(_found(stack, wanted))
    if not as_json:
        for failed in found:
            say(f"{failed.error_class}  {route(failed)}")
    if found and not dry_run:
        if not yes:
            _confirm(found)
        asyncio.run(_drop(stack, found))
    if as_json:
        discarded = [failure(failed) for failed in found]
        document({"stack": stack.settings.stack, "dry_run": dry_run, "discarded": discarded})
    else:
        say(f"{counted(len(found), 'failure')} {'would be ' if dry_run else ''}discarded")


async def _found(stack: Stack, wanted: Wanted) -> list[Failure]:
    async with stack.queue() as queue:
        return [failed async for failed in wanted.of(queue)]


def _confirm(found: list[Failure]) -> None:
    """Ask; raises `Refused` for anything but a yes."""
    typed = ask(f"Discard {counted(len(found), 'failure')} for good? [y/N]")
    if typed.lower() not in {"y", "yes"}:
        raise Refused("nothing was discarded (--yes does not ask)")


async def _drop(stack: Stack, found: list[Failure]) -> None:
    """Drop those that were shown, and none that has come since."""
    async with stack.queue() as queue:
        for failed in found:
            await queue.drop(failed)
