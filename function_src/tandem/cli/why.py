"""`tandem why`: explain one key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from tandem.attempt import Attempt
from tandem.change import Change
from tandem.cli.inquiry import Account, Past, Route, Side, inquire, uncovered
from tandem.cli.stack import Refused, Stack
from tandem.cli.terminal import Json, Target, counted, document, say, warn
from tandem.decision import SOURCE_ETAG, SOURCE_SITE, Action
from tandem.errors import Invalid
from tandem.queues.base import Failure
from tandem.report import ADVICE, duration, failure, moment, printable, size

EXAMPLES = (
    "\b\n"
    "Examples:\n"
    "  tandem why reports/2026/07.txt\n"
    "  tandem why a.json --rule documents --target archive\n"
    "  tandem why a.json --json | jq '.routes[].now'"
)
# What an action has done to the target, and what it would do to it now.
_DONE = {
    Action.COPY: "copied",
    Action.RETAG: "tags set",
    Action.DELETE: "deleted",
    Action.SKIP: "left alone",
    Action.HOLD: "held back",
}
_NOW = {
    Action.COPY: "it would be copied",
    Action.RETAG: "its tags would be set at the target",
    Action.DELETE: "it would be deleted at the target",
    Action.SKIP: "nothing is to be done",
    Action.HOLD: "it would be copied, and is held back",
}


def why(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The object's key at its source.")],
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="RULE", help="Only this rule.")
    ] = None,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Explain one key, for each rule and target: what is there, what would be done, what was done.

    Shows what both sides hold now and what a worker would do about it, the last change that was
    heard of, how the last attempts ended (those of about a week are remembered), and what
    lies in the error streams. Exit code 1 if there is something to do or something failed.
    """
    stack = Stack.of(context)
    routes = _routes(stack, rule, target)
    covered = [(one, at) for one, at in routes if one.covers(key)]
    accounts, past = asyncio.run(inquire(stack, covered, key))
    known = {(account.rule, account.target.site) for account in accounts}
    wanted = {(one.name, at) for one, at in routes}
    # Of a rule that has changed, or is gone.
    others = [
        failed
        for failed in past.failures
        if (failed.rule, failed.target) not in known
        and ((rule is target is None) or (failed.rule, failed.target) in wanted)
    ]
    if as_json:
        document(
            {
                "stack": stack.settings.stack,
                "key": key,
                "routes": [account.to_json() for account in accounts],
                "others": [failure(failed) for failed in others],
                "error": str(past.error) if past.error else None,
            }
        )
    else:
        _print(key, routes, accounts, others, past)
    if others or past.error or not all(account.well for account in accounts):
        raise typer.Exit(1)


def _routes(stack: Stack, rule: str | None, target: str | None) -> list[Route]:
    """Return each rule and target that is asked for, whether or not it covers the key."""
    rules = stack.rules([rule] if rule else [])
    if target:
        stack.site(target)
    routes = [
        (one, at)
        for each in rules
        for one in each.directions
        for at in one.targets
        if target in (None, at)
    ]
    if not routes:
        meant = ", ".join(each.name for each in rules) or "this stack, which has no rule"
        raise Refused(f"{target or 'no site'} is not a target of {meant}")
    return routes


def _print(
    key: str, routes: list[Route], accounts: list[Account], others: list[Failure], past: Past
) -> None:
    shown = printable(key)
    if not accounts:
        rules = list(dict.fromkeys(rule for rule, _ in routes))
        say(f"no rule covers {shown}, so nothing replicates it: {'; '.join(uncovered(rules, key))}")
    for number, account in enumerate(accounts):
        if number:
            say()
        to = account.target.site
        if account.target.key != key:
            to += f":{printable(account.target.key)}"
        say(f"{account.rule}: {account.source.site}:{shown} → {to}", style="bold")
        for name, text in _lines(account):
            say(f"  {name:8}{text}")
    for failed in others:
        whose = failed.rule or "no rule"
        say(f"  error   of {whose}, which does not cover it now: {_fault(failed)}")
    if past.error:
        warn(f"what happened before cannot be told: {printable(str(past.error))}")


def _lines(account: Account) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of a key under one rule at one target, each with its name."""
    yield "now", _now(account)
    for side, name in ((account.source, "source"), (account.target, "target")):
        yield name, _holds(side)
    if account.waiting is not None:
        yield "waiting", _waiting(account)
        last = max(account.attempts, key=lambda attempt: attempt.at, default=None)
        yield "change", _change(last.change) if last else "none was heard of in the last week"
    for attempt in account.attempts:
        yield "attempt", _attempt(attempt)
    for failed in account.failures:
        yield "error", _fault(failed)


def _now(account: Account) -> str:
    if account.decision:
        return f"{_NOW[account.decision.action]}: {printable(account.decision.reason)}"
    if isinstance(account.error, Invalid):
        site = (account.target if account.target.error else account.source).site
        return f"it cannot be replicated: {site} cannot keep a key like this"
    return "what would be done cannot be told, for a side does not tell what it holds"


def _holds(side: Side) -> str:
    if side.error:
        return f"{side.error.error_class}: {printable(str(side.error))}"
    if side.look is None:
        return "nothing"
    state = side.look.state
    told = [size(state.size), moment(state.last_modified), f"etag {printable(state.etag)}"]
    if state.version_id:
        told.append(f"version {printable(state.version_id)}")
    if origin := state.metadata.get(SOURCE_SITE):
        etag = printable(state.metadata.get(SOURCE_ETAG, "?"))
        told.append(f"written by Tandem from {printable(origin)}'s etag {etag}")
    return ", ".join(told)


def _waiting(account: Account) -> str:
    if not account.waiting:
        return f"no change of {account.source.site} waits"
    age = ""
    if account.oldest:
        seconds = max(0.0, (datetime.now(UTC) - account.oldest).total_seconds())
        age = f", the oldest for {duration(seconds)}"
    return f"{counted(account.waiting, 'change')} of {account.source.site}, of any key{age}"


def _change(change: Change) -> str:
    """Say what the last hint that workers had of the key told of it."""
    told = ["a delete" if change.removed else "a write"]
    if change.time:
        told[0] += f" at {moment(change.time)}"
    if change.etag:
        told.append(f"etag {printable(change.etag)}")
    if change.version_id:
        told.append(f"version {printable(change.version_id)}")
    if change.sequencer:
        told.append(f"sequencer {printable(change.sequencer)}")
    if change.time is None and change.etag is None:
        told[0] = "a request to look, of Tandem's own"
    return ", ".join(told)


def _attempt(attempt: Attempt) -> str:
    outcome = attempt.outcome
    if outcome is None:
        ended = f"failed, {attempt.error_class}: {printable(attempt.message)}"
    else:
        ended = _DONE[outcome.decision.action]
        if outcome.decision.action is Action.COPY:
            ended += f" {size(outcome.size)}"
        ended += f" in {duration(outcome.seconds)}: {printable(outcome.decision.reason)}"
        if outcome.recheck is not None:
            ended += "; to be looked at once more"
    by = f"{printable(attempt.worker)}, delivery {attempt.number}"
    return f"{moment(attempt.at)}  {ended} ({by})"


def _fault(failed: Failure) -> str:
    told = f"{failed.error_class}: {printable(failed.message)}"
    times = counted(failed.attempts, "attempt")
    return f"{moment(failed.at)}  {told} ({times}). {ADVICE[failed.error_class]}"
