"""What `tandem doctor` finds out about a stack: its sites, its queue, and what its rules get."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tandem.cli.stack import Stack
from tandem.errors import ErrorClass, Invalid, TandemError, Transient
from tandem.protocol import losses, protocol
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores.abilities import Ability, Probeable, Trial, Verdict, observed
from tandem.stores.base import SCRATCH, Capabilities
from tandem.stores.probe import observe, probe
from tandem.versions import unversioned

# How long, in seconds, a site may take for all that it is asked.
PATIENCE = 30.0
# What is wrong with a site, and what to do about it.
TROUBLES: Mapping[ErrorClass, tuple[str, str]] = {
    ErrorClass.TRANSIENT: ("not reachable", "See that the server is up, and the endpoint right."),
    ErrorClass.THROTTLED: ("throttled", "Let the server rest, or raise its limits."),
    ErrorClass.DENIED: ("denied", "Mend the site's credentials, or the bucket's policy."),
    ErrorClass.INVALID: (
        "no versions",
        "Turn the bucket's versioning on, or let the rule do without.",
    ),
    ErrorClass.MISSING: ("no bucket", "Make the bucket, or correct its name or its region."),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """Say how a site is; `seconds` is what its first answer took, `trials` what was tried on it."""

    site: Site
    role: str
    seconds: float
    error: TandemError | None
    trials: tuple[Trial, ...]
    capabilities: Capabilities

    @property
    def state(self) -> str:
        """Return how it is in a word or two."""
        if self.error is None:
            return "ok"
        return TROUBLES.get(self.error.error_class, (self.error.error_class.value, ""))[0]

    @property
    def advice(self) -> str:
        """Return what to do about it; empty if it is well."""
        if self.error is None:
            return ""
        return TROUBLES.get(self.error.error_class, ("", "Look at what the server says."))[1]

    @property
    def remains(self) -> str:
        """Return what the probe could not clean up, if anything."""
        return next(
            (
                trial.told
                for trial in self.trials
                if trial.ability is Ability.CLEANING and trial.verdict is Verdict.NO
            ),
            "",
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Say how a rule fares at one of its targets; `broken` names the sites that are not well."""

    rule: Rule
    target: str
    protocol: str
    warnings: tuple[str, ...]
    broken: tuple[str, ...]


async def sites(stack: Stack) -> dict[str, Condition]:
    """Look at every site of a stack at once; targets are written to, under SCRATCH alone."""
    named = stack.settings.sites
    roles = {name: role(name, stack.settings.rules) for name in named}
    async with stack.stores(*named) as stores:
        found = await asyncio.gather(
            *(
                _examined(
                    stores[name],
                    named[name],
                    roles[name],
                    stack.settings.rules,
                )
                for name in named
            )
        )
    return {one.site.name: one for one in found}


def role(site: str, rules: tuple[Rule, ...]) -> str:
    """Return what a site is to the rules: source, target, both or neither."""
    ways = [way for rule in rules for way in rule.directions]
    reads = any(way.source == site for way in ways)
    writes = any(site in way.targets for way in ways)
    if reads and writes:
        return "both"
    return "source" if reads else "target" if writes else "neither"


def routes(stack: Stack, found: Mapping[str, Condition]) -> list[Route]:
    """Return how each rule fares at each of its targets."""
    return [
        _route(rule, found[rule.source], found[target])
        for each in stack.settings.rules
        for rule in each.directions
        for target in rule.targets
    ]


async def queue(stack: Stack) -> TandemError | None:
    """Return why the queue does not answer, None if it does."""
    try:
        async with stack.queue() as opened:
            await opened.backlog()
    except TandemError as error:
        return error
    return None


def _route(rule: Rule, source: Condition, target: Condition) -> Route:
    broken = tuple(site.site.name for site in (source, target) if site.error)
    if broken:
        return Route(rule, target.site.name, "", (), broken)
    warnings = losses(source.capabilities, target.capabilities, rule)
    return Route(rule, target.site.name, protocol(target.capabilities), warnings, ())


async def _examined(store: Probeable, site: Site, part: str, rules: Sequence[Rule]) -> Condition:
    """Look at one site: whether it answers, admits us and has the bucket; then what it can do."""
    began = time.monotonic()
    seconds = 0.0
    trials: tuple[Trial, ...] = ()
    error: TandemError | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            # Only a server that knows us, and the bucket, can say that a key is not there.
            await store.is_absent(f"{SCRATCH}{secrets.token_hex(8)}")
            seconds = time.monotonic() - began
            if part in {"target", "both"}:
                probed = await probe(store)
                trials, store.capabilities = probed.trials, probed.capabilities
            elif part == "source":
                trials = await observe(store)
                store.capabilities = observed(trials, store.capabilities)
            for fault in await unversioned(store, rules):
                error = Invalid(fault)
    except TandemError as refusal:
        error = refusal
    except TimeoutError:
        error = Transient(f"{site.name} did not answer all within {PATIENCE:.0f} s")
    return Condition(site, part, seconds, error, trials, store.capabilities)
