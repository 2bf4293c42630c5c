"""`tandem status`: how each rule is doing."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, columns, document, out, say
from tandem.report import STATUS_HEAD, reconcile_line, status_row, sweep_line

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem status\n"
    "  tandem status --watch               until interrupted\n"
    "  tandem status --json | jq '.rules[].lag.p99'"
)
# How long, in seconds, the service may take to answer, and the pause of --watch.
PATIENCE = 10.0
PAUSE = 2.0
# The columns of numbers, which end flush.
NUMBERS = frozenset({3, 4, 5, 6})


def status(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it; needs a terminal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show for each rule its lag, what waits, since when, and what failed.

    Lag is the time from a change at the source to its being visible at the target, over the
    last few minutes: half of the copies took at most P50, all but one in a hundred at most P99.
    Backlog counts the changes that wait or are under way; OLDEST is how long the first of them
    has waited. What failed lies in the error streams: see `tandem errors`. The last lines tell
    of the reconcile and the sweep that come by themselves.
    """
    url = Stack.of(context).settings.service_url.rstrip("/") + "/v1/status"
    if watch and as_json:
        raise Refused("--watch shows a table; ask for --json again and again instead")
    if watch and out.is_terminal:
        _watch(url)
        return
    found = fetch(url)
    if as_json:
        document(found)
        return
    columns(map(status_row, found["rules"]), head=STATUS_HEAD, right=NUMBERS)
    for line in _recurring(found):
        say(line)


def _recurring(found: Mapping[str, Any]) -> tuple[str, ...]:
    now = datetime.now(UTC)
    return reconcile_line(found["reconcile"], now), sweep_line(found["sweep"], now)


def fetch(url: str) -> dict[str, Any]:
    """Return what the service says; raises `Refused` if it does not answer as it should."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 -- our own service's address
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"the service at {url} answered {error.code}: {_detail(error)}") from error
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Refused(
            f"the service at {url} does not answer ({reason}): `make up` starts what is down"
        ) from error
    return found


def _detail(error: urllib.error.HTTPError) -> str:
    """Return what the service says of its own failure, or HTTP's name for it."""
    try:
        with error:
            return str(json.load(error)["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)


def _watch(url: str) -> None:
    with Live(_table(url), console=out, auto_refresh=False, screen=False) as live:
        while True:
            try:
                time.sleep(PAUSE)
            except KeyboardInterrupt:
                return
            live.update(_table(url), refresh=True)


def _table(url: str) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(STATUS_HEAD):
        table.add_column(Text(name), justify="right" if number in NUMBERS else "left")
    try:
        found = fetch(url)
    except Refused as error:
        # It may come back: that is what one watches for.
        return Group(table, Text(str(error), style="red"))
    for rule in found["rules"]:
        table.add_row(*map(Text, status_row(rule)))
    return Group(table, *map(Text, _recurring(found)))
