"""`tandem doctor`: whether a stack can work, how it writes, and what its targets cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import typer

from tandem.cli import checkup
from tandem.cli.checkup import Condition, Route
from tandem.cli.stack import Stack
from tandem.cli.terminal import Json, columns, document, say
from tandem.errors import TandemError
from tandem.report import duration, printable
from tandem.stores.abilities import Ability

EXAMPLES = "\b\nExamples:\n  tandem doctor\n  tandem doctor --json | jq '.rules[].warnings'"


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Ask every site whether it answers, admits us and has its bucket; try what targets can do.

    Sources are only read. Targets are probed as a worker does at its start: small objects are
    written under `.tandem/probe/`, which no rule covers, and deleted again. A server that takes
    a condition and does not keep to it is found out: `ignored`. For each rule the command says
    how its targets are written to, and what the contract loses where one can do less. Exit code
    1 if a site or the queue is not well.
    """
    stack = Stack.of(context)
    found, queue = asyncio.run(_look(stack))
    routes = checkup.routes(stack, found)
    broken = bool(queue) or any(site.error for site in found.values())
    if as_json:
        document(_json(stack, found, queue, routes))
    else:
        _print(stack, found, queue, routes)
    if broken:
        raise typer.Exit(1)


async def _look(stack: Stack) -> tuple[dict[str, Condition], TandemError | None]:
    return await checkup.sites(stack), await checkup.queue(stack)


def _print(
    stack: Stack,
    found: Mapping[str, Condition],
    queue: TandemError | None,
    routes: list[Route],
) -> None:
    rows = [
        (site.site.name, site.role, site.site.bucket, site.site.endpoint, _state(site))
        for site in found.values()
    ]
    url = stack.settings.queue.url
    rows.append(("queue", "-", "-", url, "not reachable" if queue else "ok"))
    columns(rows, head=("SITE", "ROLE", "BUCKET", "ENDPOINT", "STATE"))
    for site in found.values():
        if site.error:
            say(f"{site.site.name}: {printable(str(site.error))}", style="red")
            say(f"    {site.advice}")
        if site.remains:
            say(f"{site.site.name}: {printable(site.remains)}", style="yellow")
    if queue:
        say(f"queue: {printable(str(queue))}", style="red")
    _print_abilities([site for site in found.values() if site.trials])
    for route in routes:
        _print_route(route)


def _print_abilities(sites: list[Condition]) -> None:
    """Print what was tried, a column for each site; a source is asked less than a target."""
    told = [{trial.ability: trial.verdict.value for trial in site.trials} for site in sites]
    rows = [
        (ability.value, *(verdicts.get(ability, "-") for verdicts in told))
        for ability in Ability
        if any(ability in verdicts for verdicts in told)
    ]
    if rows:
        say()
        columns(rows, head=("WHAT", *(site.site.name.upper() for site in sites)))


def _print_route(route: Route) -> None:
    say()
    where = f"{route.rule.name}: {route.rule.source} → {route.target}"
    if route.broken:
        say(f"{where}: cannot work: see {' and '.join(route.broken)}", style="red")
        return
    say(f"{where}: {route.protocol}")
    for warning in route.warnings:
        say(f"    {warning}", style="yellow")


def _state(site: Condition) -> str:
    return f"ok, {duration(site.seconds)}" if site.error is None else site.state


def _json(
    stack: Stack,
    found: Mapping[str, Condition],
    queue: TandemError | None,
    routes: list[Route],
) -> dict[str, Any]:
    return {
        "stack": stack.settings.stack,
        "ok": not queue and not any(site.error for site in found.values()),
        "queue": {"url": stack.settings.queue.url, "error": str(queue) if queue else None},
        "sites": [_site_json(site) for site in found.values()],
        "rules": [
            {
                "rule": route.rule.name,
                "source": route.rule.source,
                "target": route.target,
                "broken": list(route.broken),
                "protocol": route.protocol or None,
                "warnings": list(route.warnings),
            }
            for route in routes
        ],
    }


def _site_json(site: Condition) -> dict[str, Any]:
    return {
        "name": site.site.name,
        "role": site.role,
        "bucket": site.site.bucket,
        "endpoint": site.site.endpoint,
        "state": site.state,
        "seconds": site.seconds,
        "error": str(site.error) if site.error else None,
        "class": site.error.error_class.value if site.error else None,
        "advice": site.advice or None,
        "trials": [asdict(trial) for trial in site.trials],
        "capabilities": asdict(site.capabilities),
    }
