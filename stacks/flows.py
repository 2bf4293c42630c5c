"""Where keys flow along rules, and which of them would flow for ever. Pure.

A rule only exchanges the prefix of a key. So what goes round for ever comes by some rule again and
again, and nothing behind that rule's prefix is touched meanwhile, however much has grown in front
of it. It is enough, then, to follow for each rule a key that has no more than its prefix in front,
and to see whether it comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from stacks.mistakes import Path
from tandem.rule import Rule

# What of a key lies between any prefix and any suffix.
REST = "*"
# How many places one key is followed to: without an end to them it is in a loop that is found from
# the rules along that loop.
PLACES = 1000


@dataclass(frozen=True, slots=True)
class Edge:
    """One target of one direction of a rule, by their places in the file."""

    rule: int
    position: int
    way: Rule
    target: str

    @property
    def path(self) -> Path:
        """Return where the file names the target."""
        return ("rules", self.rule, "targets", self.position)


@dataclass(frozen=True, slots=True)
class Loop:
    """Edges that lead back to where the first begins; keys with these ends go round along them."""

    edges: tuple[Edge, ...]
    prefix: str
    suffix: str


def edges_of(rules: Mapping[int, Rule]) -> list[Edge]:
    """List where keys may flow, leaving out targets that are the source, or named twice."""
    return [
        Edge(index, position, way, target)
        for index, rule in rules.items()
        for way in rule.directions
        for position, target in enumerate(way.targets)
        if target != way.source and target not in way.targets[:position]
    ]


def loops(edges: Sequence[Edge]) -> Iterator[Loop]:
    """Yield loops, each with its last edge in the file last; without these edges there is none.

    There and back along one rule is none.
    """
    left = list(edges)
    suffixes = {edge.way.suffix for edge in edges}
    # The most general keys first.
    starts = sorted(
        product(edges, suffixes), key=lambda each: (len(each[0].way.prefix + each[1]), each[1])
    )
    for start, suffix in starts:
        while start in left and (loop := _round(start, suffix, left)):
            left.remove(loop.edges[-1])
            yield loop


def _round(start: Edge, suffix: str, edges: Sequence[Edge]) -> Loop | None:
    """Return a loop that keys of `start` with this suffix go round, if there is one."""
    prefix, tail = start.way.prefix, REST + suffix
    if not start.way.covers(prefix + tail):
        return None
    first = [(start, prefix + tail)]
    waiting = deque([(start.target, start.way.target_key(prefix + tail), first)])
    seen = {place[:2] for place in waiting}
    while waiting and len(seen) < PLACES:
        site, key, steps = waiting.popleft()
        for edge in edges:
            if edge.way.source != site or not edge.way.covers(key):
                continue
            way, there = [*steps, (edge, key)], edge.way.target_key(key)
            several = len({step.rule for step, _ in way}) > 1
            back = edge.target == start.way.source and there.startswith(prefix)
            if several and back:
                turned = _turned(way)
                begins = turned[0][1].removesuffix(tail)
                return Loop(tuple(step for step, _ in turned), begins, suffix)
            if (edge.target, there) not in seen:
                seen.add((edge.target, there))
                waiting.append((edge.target, there, way))
    return None


def _turned(steps: Sequence[tuple[Edge, str]]) -> Sequence[tuple[Edge, str]]:
    """Return the steps of a loop, begun such that its last edge in the file comes last."""
    last = max(range(len(steps)), key=lambda place: (steps[place][0].path, place))
    return [*steps[last + 1 :], *steps[: last + 1]]
