"""Quantiles of the lag, and the window that they are taken over."""

from __future__ import annotations

import pytest

from service.lag import Window, quantile

INFINITE = float("inf")


def test_nothing_observed_has_no_quantile():
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, INFINITE: 0.0}, 0.5) is None


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (0.95, 1.9), (1.0, 2.0)],
)
def test_a_quantile_is_interpolated_within_its_bucket(q: float, expected: float):
    assert quantile({1.0: 50.0, 2.0: 100.0, INFINITE: 100.0}, q) == pytest.approx(expected)


def test_empty_buckets_are_passed_over():
    buckets = {0.001: 0.0, 0.002: 0.0, 0.004: 10.0, 1.0: 10.0, INFINITE: 10.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.003)


def test_beyond_the_last_bound_the_last_bound_is_the_answer():
    assert quantile({1.0: 1.0, INFINITE: 10.0}, 0.99) == 1.0


def test_a_window_forgets_what_was_observed_before_it():
    window = Window(samples=2)
    for count in (10.0, 25.0, 45.0):
        window.sample({"all": {1.0: count, INFINITE: count}})
    assert window.gained({"all": {1.0: 50.0, INFINITE: 50.0}}) == {
        "all": {1.0: 25.0, INFINITE: 25.0}
    }


def test_a_rule_that_is_new_has_gained_all_it_has():
    window = Window(samples=2)
    window.sample({})
    assert window.gained({"new": {INFINITE: 3.0}}) == {"new": {INFINITE: 3.0}}
    assert Window(samples=2).gained({"new": {INFINITE: 3.0}}) == {"new": {INFINITE: 3.0}}
