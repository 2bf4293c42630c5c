"""Mistakes that show only when several settings are held side by side. Pure.

A rule writes the keys that begin with its target prefix and end with its suffix. Rules that have
any key in common have this one: their longest such prefix followed by their longest suffix. So what
could go wrong for some key is found by looking at these few keys, and nothing is missed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from stacks.flows import REST, Edge, edges_of, loops
from stacks.mistakes import Mistake, Path, shown, spelled, suggestion
from tandem.rule import OWN, Rule


def overlap(one: Rule, other: Rule) -> bool:
    """Return whether some key at the targets is written by both rules."""
    key = REST.join(_affixes(one, other))
    originals = ((rule, rule.source_key(key)) for rule in (one, other))
    return all(original is not None and rule.covers(original) for rule, original in originals)


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
    edges = edges_of(rules)
    yield from _rivals(edges)
    yield from _loops(edges)


def of_versions(rules: Mapping[int, Rule], versioned: Mapping[str, bool]) -> Iterator[Mistake]:
    """Find rules that need versions at sites of which one keeps none.

    `versioned` has the sites that can be told. Under a rule that goes both ways, old versions say
    which side has seen what: without them a deleted copy would come back, and a conflict be settled
    by clocks alone.
    """
    for index, rule in rules.items():
        for site in (rule.source, *rule.targets):
            if rule.two_way and not versioned.get(site, True):
                state = f"is true, and the site {site} has no versioning"
                fix = f"set sites.{site}.versioning to true, or go one way"
                yield Mistake(("rules", index, "twoWay"), state, fix)
            if rule.versions == "all" and not versioned.get(site, True):
                state = f'is "all", and the site {site} has no versioning'
                fix = f"set sites.{site}.versioning to true, or use latest"
                yield Mistake(("rules", index, "versions"), state, fix)


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
    yield from _tag_faults(index, rule)
    yield from _version_faults(index, rule)
    for position, target in enumerate(rule.targets):
        path: Path = ("rules", index, "targets", position)
        if target in rule.targets[:position]:
            yield Mistake(path, f"is {shown(target)} once more", "name each target once")
        elif target == rule.source:
            yield Mistake(path, f"is {shown(target)}, the rule's own source", "name another site")
        else:
            named.append((path, target))
    for key, affix in (("prefix", rule.prefix), ("targetPrefix", rule.target_prefix or "")):
        if affix.startswith(OWN):
            state = f"is {shown(affix)}, where Tandem keeps things of its own"
            yield Mistake(("rules", index, key), state, f"begin with neither {' nor '.join(OWN)}")
    for path, site in named:
        if sites is not None and site not in sites:
            yield Mistake(path, f"is {shown(site)}, which is no site", suggestion(site, sites))


def _version_faults(index: int, rule: Rule) -> Iterator[Mistake]:
    """Find what goes ill with carrying over all versions."""
    path: Path = ("rules", index, "versions")
    if rule.versions == "all" and rule.two_way:
        # Neither side's history would be the other's: each has what its own users wrote between.
        yield Mistake(path, 'is "all", and the rule goes both ways', "use latest, or go one way")
    if rule.versions == "all" and rule.where_tags:
        # Tags come and go without a version, so no history tells which versions were meant.
        state = 'is "all", and the rule has whereTags'
        yield Mistake(path, state, "use latest, or leave whereTags out")
    if rule.versions == "all" and rule.groups:
        # An index's older versions would have to wait for its group's older versions.
        state = 'is "all", and the rule has groups'
        yield Mistake(path, state, "use latest, or leave groups out")


def _tag_faults(index: int, rule: Rule) -> Iterator[Mistake]:
    """Find what goes ill with choosing objects by their tags."""
    state = f"is {shown(dict(rule.where_tags))}"
    path: Path = ("rules", index, "whereTags")
    if rule.where_tags and rule.two_way:
        fix = "go one way, or choose by prefix and suffix: the two sides may differ in their tags"
        yield Mistake(path, f"{state}, and the rule goes both ways", fix)
    if rule.where_tags and rule.ownership == "all":
        fix = "set ownership to tandem: what is deleted has no tags to tell whether it was meant"
        yield Mistake(path, f"{state}, and the rule's ownership is all", fix)


def _rivals(edges: Sequence[Edge]) -> Iterator[Mistake]:
    """Find targets whose keys two rules would write, each undoing what the other did."""
    for place, edge in enumerate(edges):
        for other in edges[:place]:
            if other.target == edge.target and overlap(other.way, edge.way):
                state = (
                    f"is {shown(edge.target)}, to which {spelled(other.path[:2])} writes "
                    f"{_keys(*_affixes(other.way, edge.way))} too"
                )
                fix = "let each key of a site come from one rule, by prefix or suffix"
                yield Mistake(edge.path, state, fix)
                break


def _loops(edges: Sequence[Edge]) -> Iterator[Mistake]:
    """Find rules along which a key would go round for ever."""
    for loop in loops(edges):
        closing = loop.edges[-1]
        way = " → ".join([closing.target, *(edge.target for edge in loop.edges)])
        keys = _keys(loop.prefix, loop.suffix)
        state = f"is {shown(closing.target)}, which closes a loop for {keys} ({way})"
        yield Mistake(closing.path, state, "break it by another target, prefix or suffix")


def _affixes(*rules: Rule) -> tuple[str, str]:
    """Return how the keys begin and end that all of these rules write, if there are any."""
    prefix = max((rule.target_key(rule.prefix) for rule in rules), key=len)
    return prefix, max((rule.suffix for rule in rules), key=len)


def _keys(prefix: str, suffix: str) -> str:
    return f"keys like {shown(f'{prefix}…{suffix}')}" if prefix or suffix else "every key"
