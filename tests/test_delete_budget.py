"""How many deletes fit into an hour."""

from __future__ import annotations

import pytest

from tandem.delete_budget import DeleteBudget
from tandem.errors import Throttled
from tandem.rule import Rule

RULE = Rule("r", "a", ("b", "c"), deletes_per_hour=1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_there_is_room_again_an_hour_after_the_oldest_delete():
    clock = Clock()
    budget = DeleteBudget(clock)
    budget.check(RULE, "b", "k")
    budget.note("r", "b")
    clock.now = 3000.0
    with pytest.raises(Throttled) as held:
        budget.check(RULE, "b", "k")
    assert held.value.retry_after == 600.0
    clock.now = 3600.0
    budget.check(RULE, "b", "k")


def test_each_target_has_a_budget_of_its_own():
    budget = DeleteBudget()
    budget.note("r", "b")
    budget.check(RULE, "c", "k")


def test_a_budget_of_nothing_holds_every_delete():
    with pytest.raises(Throttled):
        DeleteBudget().check(Rule("r", "a", ("b",), deletes_per_hour=0), "b", "k")


def test_a_rule_without_a_budget_holds_nothing():
    budget = DeleteBudget()
    for _ in range(1000):
        budget.note("r", "b")
    budget.check(Rule("r", "a", ("b",)), "b", "k")
