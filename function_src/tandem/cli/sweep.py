"""`tandem sweep`: abort uploads that nobody will go on with."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, Rules, Target, columns, counted, document, say
from tandem.report import duration, parse_duration, printable, size
from tandem.sweep import Swept
from tandem.sweep import sweep as sweep_uploads

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem sweep --dry-run               print what would be aborted, and do nothing\n"
    "  tandem sweep documents --older-than 7d"
)


def sweep(
    context: typer.Context,
    rules: Rules = None,
    target: Target = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="TIME", help="Only where nothing has moved for so long."
        ),
    ] = "1d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly what would be aborted; do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Abort unfinished uploads that large copies left at the targets and nobody will go on with.

    Only Tandem's own, known by their last two parts, and only if both sides, asked about the key,
    need no copy: an upload that is still wanted is kept, and the next copy goes on with it. WHAT
    says which: abort or keep. Exit code 1 if one could not be looked into or aborted.
    """
    stack = Stack.of(context)
    try:
        seconds = parse_duration(older_than).total_seconds()
    except ValueError as error:
        raise Refused(f"--older-than: {error}") from error
    found = asyncio.run(_sweep(stack, rules or [], target, seconds, dry_run=dry_run))
    if as_json:
        told = [_told(swept) for swept in found]
        document({"stack": stack.settings.stack, "dry_run": dry_run, "uploads": told})
    else:
        _print(found, dry_run=dry_run)
    if any(swept.error for swept in found):
        raise typer.Exit(1)


async def _sweep(
    stack: Stack, rules: list[str], target: str | None, older_than: float, *, dry_run: bool
) -> list[Swept]:
    routes = stack.routes(rules, target)
    found = []
    async with stack.engine(routes) as engine:
        for rule, forth in routes:
            for one in rule.directions:
                to = forth if one.source == rule.source else rule.source
                sweeping = sweep_uploads(engine, one, to, older_than=older_than, dry_run=dry_run)
                found += [swept async for swept in sweeping]
    return found


def _what(swept: Swept) -> str:
    return "failed" if swept.error else "abort" if swept.aborted else "keep"


def _print(found: list[Swept], *, dry_run: bool) -> None:
    if found:
        rows = [
            (
                _what(swept),
                swept.target,
                printable(swept.upload.key),
                duration(swept.age),
                size(swept.size),
                printable(str(swept.error or swept.reason)),
            )
            for swept in found
        ]
        columns(rows, head=("WHAT", "TARGET", "KEY", "AGE", "HOLDS", "WHY"), right={3, 4})
    gone = [swept for swept in found if swept.aborted]
    verb = "would be aborted" if dry_run else "aborted"
    held = size(sum(swept.size for swept in gone))
    say(f"{counted(len(gone), 'upload')} {verb} ({held}), {len(found) - len(gone):,} kept")


def _told(swept: Swept) -> dict[str, Any]:
    return {
        "what": _what(swept),
        "rule": swept.rule,
        "source": swept.source,
        "target": swept.target,
        "key": swept.upload.key,
        "upload": swept.upload.upload_id,
        "initiated": swept.upload.initiated.isoformat(),
        "age": swept.age,
        "parts": swept.parts,
        "size": swept.size,
        "why": str(swept.error or swept.reason),
    }
