"""Sequencers: the order that AWS's words define, whatever the length and the case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.sequencer import place

sequencers = st.text("0123456789ABCDEFabcdef", min_size=1, max_size=24)


def is_older(one: str, other: str) -> bool:
    """Compare by AWS's own words: pad the shorter on the right with zeros, compare as text."""
    size = max(len(one), len(other))
    return one.upper().ljust(size, "0") < other.upper().ljust(size, "0")


def of(sequencer: str) -> str:
    found = place(sequencer)
    assert found is not None
    return found


@given(sequencers, sequencers)
def test_places_sort_as_aws_says(one: str, other: str):
    assert (of(one) < of(other)) is is_older(one, other)
    assert (of(one) == of(other)) is (not is_older(one, other) and not is_older(other, one))


@given(sequencers, st.integers(min_value=0, max_value=9))
def test_zeros_at_the_right_and_the_case_say_nothing(sequencer: str, zeros: int):
    assert of(sequencer + "0" * zeros) == of(sequencer) == of(sequencer.lower())


@given(st.lists(sequencers, min_size=3, max_size=3))
def test_the_order_is_total(three: list[str]):
    low, middle, high = sorted(three, key=of)
    assert not is_older(middle, low)
    assert not is_older(high, middle)
    assert not is_older(high, low)


def test_a_longer_one_is_not_therefore_later():
    assert of("0055AED6DCD90281E5") < of("0055AED6DD")
    assert of("00") == of("0")


@pytest.mark.parametrize("told", [None, "", "0x12", "12 ", "12\n", "१२", "-1", "G"])
def test_what_is_not_hexadecimal_has_no_place(told: str | None):
    assert place(told) is None
