"""Three bugs, planted one at a time: the model must find each by its own random search."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tandem import engine, transfer
from tandem.decision import Decision, Look
from tandem.rule import Rule
from tandem.stores.base import ObjectState, ObjectStore
from tests.model.search import search

# Within how many searches, of so many examples each, a bug must be found.
EXAMPLES = 150
SEEDS = range(40)

Plant = Callable[[pytest.MonkeyPatch], None]


def without_looking_again(patch: pytest.MonkeyPatch) -> None:
    """Believe, after a write, that the source is still what was written."""

    async def round_(self: engine._Convergence, *, eager: bool) -> Decision:
        _, decision = await (self._glance() if eager else self._look())
        return decision

    patch.setattr(engine._Convergence, "_round", round_)


def without_the_pin(patch: pytest.MonkeyPatch) -> None:
    """Read whatever is there, be it another object than the one that was looked at."""

    async def read(
        source: ObjectStore,
        state: ObjectState,
        span: tuple[int, int] | None = None,
        version_id: str | None = None,
    ) -> bytes | bytearray:
        async with source.open(state.key, span=span, version_id=version_id) as reader:
            return await reader.read() if reader else b""

    patch.setattr(transfer, "read", read)


def without_ownership(patch: pytest.MonkeyPatch) -> None:
    """Delete at the target whatever the source does not have."""
    right = engine.decide

    def decide(source: Look | None, target: Look | None, rule: Rule) -> Decision:
        return right(source, target, replace(rule, ownership="all"))

    patch.setattr(engine, "decide", decide)


def found(name: str, told: str) -> bool:
    """Return whether some search of a configuration comes upon what is told."""
    for start in SEEDS:
        try:
            search(name, EXAMPLES, start, shrink=False)
        except AssertionError as violation:
            if re.search(told, str(violation)):
                return True
    return False


@pytest.mark.parametrize(
    ("plant", "name", "told"),
    [
        (without_looking_again, "unguarded", "in/. (is|has)"),
        (without_looking_again, "guarded", "in/. (is|has)"),
        (without_the_pin, "guarded", "shows what the source never was"),
        (without_ownership, "guarded", "deletes what (Tandem did not write|no source deleted)"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, name: str, told: str
):
    plant(monkeypatch)
    assert found(name, told)
