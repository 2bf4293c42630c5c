"""Searching for a violation of the contract, the same way each time."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.configurations import CONFIGURATIONS
from tests.model.machine import machine
from tests.model.small_world import small_world
from tests.model.tally import Tally

STEPS = 50


def search(name: str, examples: int, start: int, *, shrink: bool = True) -> Tally:
    """Run random examples of a configuration from a seed, and return what they came to.

    Raises the AssertionError of the first violation. With `shrink`, the steps that lead to it are
    made few, and told.
    """
    tally = Tally()
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=phases,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with small_world():
        run_state_machine_as_test(
            seed(start)(machine(CONFIGURATIONS[name], tally)), settings=chosen
        )
    return tally
