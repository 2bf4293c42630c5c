"""`tandem put`: put an object, and see how long it takes to reach its targets."""

from __future__ import annotations

import asyncio
import mimetypes
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from tandem.cli.arrival import Arrival, await_arrivals
from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, document, say, warn
from tandem.cli.upload import upload
from tandem.report import duration, printable, size
from tandem.rule import Rule
from tandem.stores.base import Content

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem put source report.pdf ~/report.pdf\n"
    "  echo hello | tandem put source hello.txt --wait\n"
    "  tandem put source a.json a.json --metadata owner=ada --tag keep=yes"
)


ContentType = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="The content type; by default the key's ending tells."),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="User metadata; may be given several times."),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A tag; may be given several times."),
]


def put(
    context: typer.Context,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Where to put it.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The object's key.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="What to put; - is standard input.")
    ] = "-",
    content_type: ContentType = None,
    metadata: Metadata = None,
    tag: Tag = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every target has it, and say how long.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long --wait waits.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Put one object into a site; with `--wait`, watch it appear at every target.

    A large object goes up in parts, and memory stays bounded. The time that `--wait` prints runs
    from the end of the put to the outcome that a worker told; then both sides are asked. Exit
    code 1 if a target did not have it in time.
    """
    stack = Stack.of(context)
    stack.site(site)
    content = _content(key, content_type, metadata, tag)
    routes = _routes(stack, site, key) if wait else []
    with _opened(file) as source:
        told, arrivals = asyncio.run(_put(stack, site, key, source, content, routes, timeout))
    if as_json:
        document({**told, "arrivals": [arrival.to_json() for arrival in arrivals]})
    else:
        say(f"{site}:{printable(key)}: {size(told['size'])} put in {duration(told['seconds'])}")
        for arrival in arrivals:
            say(_sentence(site, printable(key), arrival, timeout))
    if not all(arrival.level for arrival in arrivals):
        raise typer.Exit(1)


def _content(
    key: str,
    content_type: str | None,
    metadata: Sequence[str] | None,
    tags: Sequence[str] | None,
) -> Content:
    guessed = mimetypes.guess_type(key)[0] or "binary/octet-stream"
    return Content(
        {"content-type": content_type or guessed},
        {name.lower(): value for name, value in _named("--metadata", metadata).items()},
        _named("--tag", tags),
    )


def _routes(stack: Stack, site: str, key: str) -> list[tuple[Rule, str]]:
    """Return the rules and targets that carry a key of a site; warn if there are none."""
    routes = [
        (one, target)
        for rule in stack.settings.rules
        for one in rule.directions
        if one.source == site and one.covers(key)
        for target in one.targets
    ]
    if not routes:
        warn(f"no rule carries {printable(key)} from {site}, so there is nothing to wait for")
    return routes


async def _put(
    stack: Stack,
    site: str,
    key: str,
    source: BinaryIO,
    content: Content,
    routes: Sequence[tuple[Rule, str]],
    patience: float,
) -> tuple[dict[str, Any], list[Arrival]]:
    """Put the object; with routes, wait for it at the end of each of them."""
    async with AsyncExitStack() as opened:
        stores = await opened.enter_async_context(stack.stores(site))
        if routes:
            queue = await opened.enter_async_context(stack.queue())
            # Before the put: a worker may be quicker than we are.
            heard = await opened.enter_async_context(queue.outcomes())
            engine = await opened.enter_async_context(stack.engine(routes))
        started = time.monotonic()
        count = await upload(stores[site], key, source, content)
        ended, seconds = datetime.now(UTC), time.monotonic() - started
        told = {"site": site, "key": key, "size": count, "seconds": round(seconds, 6)}
        if not routes:
            return told, []
        return told, await await_arrivals(engine, routes, key, ended, heard, patience)


def _sentence(site: str, key: str, arrival: Arrival, patience: float) -> str:
    where = f"{site}:{key} → {arrival.target}:{printable(arrival.key)}"
    if arrival.seconds is not None:
        return f"{where} after {duration(arrival.seconds)}"
    if arrival.level:
        return f"{where} is there, but no worker told of it: its time is not known"
    return (
        f"{where} is not level after {duration(patience)}: "
        "`tandem status` and `tandem errors` tell more"
    )


def _named(option: str, pairs: Sequence[str] | None) -> dict[str, str]:
    """Return NAME=VALUE texts as a dict; raises `Refused` for one that is none."""
    named = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise Refused(f"{option} {pair!r} is not NAME=VALUE")
        named[name] = value
    return named


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """Open the file, or standard input for `-`; raises `Refused` if it cannot be read."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 -- closed below; only opening may be refused
    except OSError as error:
        raise Refused(f"cannot read {file}: {error.strerror}") from error
    with source:
        yield source
