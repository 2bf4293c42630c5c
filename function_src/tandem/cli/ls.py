"""`tandem ls`: sites, and the objects in them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC
from typing import Annotated

import typer

from tandem.cli.stack import Stack
from tandem.cli.terminal import Json, columns, document, say, warn
from tandem.listings import listing
from tandem.report import entry, printable, size
from tandem.stores.base import Entry

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem ls                        the sites of the stack\n"
    "  tandem ls source                 its objects\n"
    "  tandem ls source:logs/2026- --limit 20"
)


def ls(
    context: typer.Context,
    place: Annotated[
        str | None,
        typer.Argument(metavar="SITE[:PREFIX]", help="A site, and how its keys begin."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="List at most N objects; 0 lists them all.")
    ] = 1000,
    as_json: Json = False,
) -> None:
    """List the sites of the stack, or the objects of one site: size, time, key."""
    stack = Stack.of(context)
    if place is None:
        _sites(stack, as_json=as_json)
        return
    site, _, prefix = place.partition(":")
    stack.site(site)
    entries, more = asyncio.run(_objects(stack, site, prefix, limit))
    if as_json:
        document({"site": site, "objects": [entry(one) for one in entries], "more": more})
        return
    columns(
        (
            (
                size(one.size),
                f"{one.last_modified.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}",
                printable(one.key),
            )
            for one in entries
        ),
        right={0},
    )
    if not entries:
        say("no objects")
    if more:
        warn(f"there are more than {limit:,} (--limit 0 lists them all)")


def _sites(stack: Stack, *, as_json: bool) -> None:
    sites = stack.settings.sites.values()
    if as_json:
        document(
            {
                "stack": stack.settings.stack,
                "sites": [
                    {"name": site.name, "bucket": site.bucket, "endpoint": site.endpoint}
                    for site in sites
                ],
            }
        )
        return
    columns(
        ((site.name, site.bucket, site.endpoint) for site in sites),
        head=("SITE", "BUCKET", "ENDPOINT"),
    )


async def _objects(stack: Stack, site: str, prefix: str, limit: int) -> tuple[list[Entry], bool]:
    """Return the first objects, and whether there are more."""
    entries: list[Entry] = []
    async with stack.stores(site) as stores, aclosing(listing(stores[site], prefix)) as listed:
        async for one in listed:
            if limit and len(entries) >= limit:
                return entries, True
            entries.append(one)
    return entries, False
