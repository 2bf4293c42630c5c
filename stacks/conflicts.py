"""Mistakes that show only when several settings are held side by side. Pure.

A rule covers the keys that begin with its prefix and end with its suffix. Rules that have any key
in common have this one: their longest prefix followed by their longest suffix. So what could go
wrong for some key is found by looking at these few keys, and nothing is missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from stacks.mistakes import Mistake, Path, shown, spelled, suggestion
from tandem.rule import Rule


@dataclass(frozen=True, slots=True)
class _Edge:
    """One target of one rule, by their places in the file."""

    rule: int
    position: int
    source: str
    target: str

    @property
    def path(self) -> Path:
        return ("rules", self.rule, "targets", self.position)


def common_key(rules: Sequence[Rule]) -> str:
    """Return a key that all of these rules cover, if there is any such key."""
    prefix, suffix = _affixes(rules)
    return prefix + suffix


def overlap(one: Rule, other: Rule) -> bool:
    """Return whether some key is covered by both rules."""
    key = common_key((one, other))
    return one.covers(key) and other.covers(key)


def of_sites(places: Mapping[str, tuple[str, str]]) -> Iterator[Mistake]:
    """Find sites that are the same bucket; `places` has each site's server and bucket."""
    first: dict[tuple[str, str], str] = {}
    for site, place in places.items():
        owner = first.setdefault(place, site)
        if owner != site:
            server, bucket = place
            state = f"is {shown(bucket)} on the server {server}, and so is that of {owner}"
            yield Mistake(("sites", site, "bucket"), state, "give each site a bucket of its own")


def of_ports(ports: Mapping[str, int]) -> Iterator[Mistake]:
    """Find ports that are given twice."""
    first: dict[int, str] = {}
    for name, port in ports.items():
        owner = first.setdefault(port, name)
        if owner != name:
            fix = "use a port of its own, or leave it out to have a free one found"
            yield Mistake(("local", "ports", name), f"is {port}, and so is {owner}", fix)


def of_rules(rules: Mapping[int, Rule], sites: Collection[str] | None) -> Iterator[Mistake]:
    """Find rules that cannot stand, alone or together.

    `rules` has each rule under its place in the file, and `sites` the names there are, or None
    where that cannot be told.
    """
    yield from _same_names(rules)
    for index, rule in rules.items():
        yield from _own_faults(index, rule, sites)
    edges = _edges(rules)
    yield from _rivals(rules, edges)
    yield from _loops(rules, edges)


def of_versions(rules: Mapping[int, Rule], versioned: Mapping[str, bool]) -> Iterator[Mistake]:
    """Find rules that go both ways between sites of which one keeps no versions.

    `versioned` has the sites that can be told. Old versions say which side has seen what: without
    them a deleted copy would come back, and a conflict be settled by clocks alone.
    """
    for index, rule in rules.items():
        for site in (rule.source, *rule.targets):
            if rule.two_way and not versioned.get(site, True):
                state = f"is true, and the site {site} has no versioning"
                fix = f"set sites.{site}.versioning to true, or go one way"
                yield Mistake(("rules", index, "twoWay"), state, fix)


def _same_names(rules: Mapping[int, Rule]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for index, rule in rules.items():
        owner = first.setdefault(rule.name, index)
        if owner != index:
            state = f"is {shown(rule.name)}, and so is that of rules[{owner}]"
            yield Mistake(("rules", index, "name"), state, "give each rule a name of its own")


def _own_faults(index: int, rule: Rule, sites: Collection[str] | None) -> Iterator[Mistake]:
    named: list[tuple[Path, str]] = [(("rules", index, "source"), rule.source)]
    if rule.two_way and len(rule.targets) > 1:
        state = f"is true, and the rule has {len(rule.targets)} targets"
        yield Mistake(("rules", index, "twoWay"), state, "name one target, and no more")
    for position, target in enumerate(rule.targets):
        path: Path = ("rules", index, "targets", position)
        if target in rule.targets[:position]:
            yield Mistake(path, f"is {shown(target)} once more", "name each target once")
        elif target == rule.source:
            yield Mistake(path, f"is {shown(target)}, the rule's own source", "name another site")
        else:
            named.append((path, target))
    for path, site in named:
        if sites is not None and site not in sites:
            yield Mistake(path, f"is {shown(site)}, which is no site", suggestion(site, sites))


def _edges(rules: Mapping[int, Rule]) -> list[_Edge]:
    """List where keys may flow, leaving out what `_own_faults` refuses."""
    return [
        _Edge(index, position, direction.source, target)
        for index, rule in rules.items()
        for direction in rule.directions
        for position, target in enumerate(direction.targets)
        if target != direction.source and target not in direction.targets[:position]
    ]


def _rivals(rules: Mapping[int, Rule], edges: Sequence[_Edge]) -> Iterator[Mistake]:
    """Find targets whose keys two rules would write, each undoing what the other did."""
    for place, edge in enumerate(edges):
        for other in edges[:place]:
            pair = rules[other.rule], rules[edge.rule]
            if other.target == edge.target and overlap(*pair):
                state = (
                    f"is {shown(edge.target)}, to which {spelled(other.path[:2])} writes "
                    f"{_common_keys(pair)} too"
                )
                fix = "let each key of a site come from one rule, by prefix or suffix"
                yield Mistake(edge.path, state, fix)
                break


def _loops(rules: Mapping[int, Rule], edges: Sequence[_Edge]) -> Iterator[Mistake]:
    """Find rules along which a key would come back to where it started."""
    told: set[_Edge] = set()
    affixes = {rule.prefix for rule in rules.values()}, {rule.suffix for rule in rules.values()}
    for prefix, suffix in sorted(product(*affixes), key=lambda pair: (len("".join(pair)), pair)):
        taken = [edge for edge in edges if rules[edge.rule].covers(prefix + suffix)]
        for loop in _closed(taken):
            closing = loop[-1]
            there_and_back = len({edge.rule for edge in loop}) == 1
            if closing in told or there_and_back:
                continue
            told.add(closing)
            keys = _common_keys([rules[edge.rule] for edge in loop])
            way = " → ".join([closing.target, *(edge.target for edge in loop)])
            state = f"is {shown(closing.target)}, which closes a loop for {keys} ({way})"
            fix = "break it by another target, prefix or suffix"
            yield Mistake(closing.path, state, fix)


def _closed(edges: Sequence[_Edge]) -> Iterator[list[_Edge]]:
    """Yield a loop for each edge that closes one, that edge last: without these, none is left."""
    leaving: defaultdict[str, list[_Edge]] = defaultdict(list)
    for edge in edges:
        leaving[edge.source].append(edge)
    explored: set[str] = set()

    def walk(site: str, way: list[_Edge]) -> Iterator[list[_Edge]]:
        for edge in leaving.get(site, ()):
            here = [*way, edge]
            passed = [step.source for step in here]
            if edge.target in passed:
                yield here[passed.index(edge.target) :]
            elif edge.target not in explored:
                yield from walk(edge.target, here)
        explored.add(site)

    for site in leaving:
        if site not in explored:
            yield from walk(site, [])


def _affixes(rules: Sequence[Rule]) -> tuple[str, str]:
    prefix = max((rule.prefix for rule in rules), key=len)
    return prefix, max((rule.suffix for rule in rules), key=len)


def _common_keys(rules: Sequence[Rule]) -> str:
    """Name the keys that all of these rules cover."""
    prefix, suffix = _affixes(rules)
    return f"keys like {shown(f'{prefix}…{suffix}')}" if prefix or suffix else "every key"
