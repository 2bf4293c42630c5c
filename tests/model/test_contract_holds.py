"""The contract under everything that may happen, in a random order: docs/contract.md.

2,400 examples of 50 steps; `python -m tests.model` runs as many as it is told.
"""

from __future__ import annotations

import pytest

from tests.model.configurations import CONFIGURATIONS
from tests.model.search import STEPS, search

EXAMPLES = 100
SEEDS = (1, 2)


@pytest.mark.parametrize("start", SEEDS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_contract_holds(name: str, start: int):
    tally = search(name, EXAMPLES, start)
    assert tally.examples >= EXAMPLES
    assert tally.steps > 0.8 * EXAMPLES * STEPS
    assert tally.faults > EXAMPLES


def test_a_run_is_the_same_each_time():
    assert search("guarded", 10, 7) == search("guarded", 10, 7)
