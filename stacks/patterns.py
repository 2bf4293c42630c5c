"""Patterns that say which keys are indexes, and what can be wrong with one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from stacks.mistakes import Mistake, Path, shown
from tandem.rule import Rule

EXPECTED = 'a pattern of keys such as "*/_SUCCESS" or "*.manifest"'
# What in a glob stands for more than itself.
_WILD = re.compile(r"[*?]|\[.[^]]*\]", re.DOTALL)


def fault(pattern: str) -> str | None:
    """Return the fix for a pattern that is none under any rule."""
    if not pattern:
        return f"use {EXPECTED}"
    if not pattern.strip("*"):
        return f"it matches every key, and an index needs others to wait for: use {EXPECTED}"
    return None


def of_groups(rules: Mapping[int, Rule]) -> Iterator[Mistake]:
    """Find patterns that fit every key of their rule, or none, or are given twice."""
    for index, rule in rules.items():
        for position, group in enumerate(rule.groups):
            path: Path = ("rules", index, "groups", position, "index")
            if group.index in [other.index for other in rule.groups[:position]]:
                yield Mistake(path, f"is {shown(group.index)} once more", "give each pattern once")
            elif found := _fault_under(rule, group.index):
                yield Mistake(path, f"is {shown(group.index)}, which {found[0]}", found[1])


def _fault_under(rule: Rule, pattern: str) -> tuple[str, str] | None:
    """Return what a pattern does wrong and the fix, by its text before and after its wildcards."""
    texts, wild = _WILD.split(pattern), set(_WILD.findall(pattern))
    head, tail = texts[0], texts[-1]
    ends = rule.prefix, rule.suffix
    keys = f"keys like {shown('…'.join(ends))}" if any(ends) else "every key"
    if wild:
        fits = _agree(head, rule.prefix) and _agree(tail[::-1], rule.suffix[::-1])
    else:
        fits = rule.covers(pattern)
    if not fits:
        return f"fits no key of the rule ({keys})", "use a pattern that fits some"
    whole = rule.prefix.startswith(head) and rule.suffix.endswith(tail)
    if wild == {"*"} and whole and not any(texts[1:-1]):
        return f"fits every key of the rule ({keys})", "leave some for an index to wait for"
    return None


def _agree(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
