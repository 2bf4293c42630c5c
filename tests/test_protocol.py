"""What is said of the write protocol, and of what the contract loses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.protocol import losses, protocol
from tandem.rule import Rule
from tandem.stores.abilities import NO_PARTS, REFUSALS, cautious
from tandem.stores.base import Capabilities

RULE = Rule("r", "a", ("b",))
WHOLE = Capabilities(conditional_delete=True, versions=True)


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ({}, "copies on condition, deletes on condition"),
        ({"conditional_delete": False}, "copies on condition, deletes unconditional"),
        ({"conditional_put": False}, "copies unconditional, deletes on condition"),
        ({"conditional_complete": False}, "copies unconditional, deletes on condition"),
    ],
)
def test_the_protocol_follows_from_the_conditions(lacks: dict[str, bool], told: str):
    assert protocol(replace(WHOLE, **lacks)) == told


def test_a_bucket_that_could_not_be_asked_is_written_to_unconditionally():
    assert protocol(cautious(WHOLE)) == "copies unconditional, deletes unconditional"


def test_where_everything_can_be_done_nothing_is_lost():
    assert losses(WHOLE, WHOLE, RULE) == ()


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ({"conditional_put": False}, "no condition on copies"),
        ({"conditional_complete": False}, "no condition on copies"),
        ({"conditional_delete": False}, "as an old version it stays"),
        ({"versions": False}, "keeps no old versions"),
        ({"tags": False}, "write `tags: false`"),
        ({"max_parts": NO_PARTS}, "large objects end in `invalid`"),
        ({"max_parts": 1_000}, "takes 1,000 parts at most"),
        ({"resumes": False}, "such a copy begins anew"),
        ({"ordered": False}, "The target does not list its keys in the order"),
        *(({"unrepresentable": (word,)}, f"no key that has {word}") for word in REFUSALS.values()),
    ],
)
def test_each_thing_that_a_target_cannot_do_has_its_sentence(lacks: dict, told: str):
    (sentence,) = losses(WHOLE, replace(WHOLE, **lacks), RULE)
    assert told in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ({"conditional_get": False}, "may arrive torn"),
        ({"ordered": False}, "The source does not list its keys in the order"),
        ({"part_sizes": False}, "`parts: source` cannot be kept"),
    ],
)
def test_each_thing_that_a_source_cannot_do_has_its_sentence(lacks: dict[str, bool], told: str):
    (sentence,) = losses(replace(WHOLE, **lacks), WHOLE, replace(RULE, parts="source"))
    assert told in sentence


def test_nothing_is_said_to_be_lost_that_the_rule_does_not_ask_for():
    poor = replace(WHOLE, conditional_delete=False, versions=False, tags=False, part_sizes=False)
    assert losses(poor, poor, replace(RULE, deletes="keep", tags=False)) == ()


def test_without_versions_a_delete_is_for_good():
    told = losses(WHOLE, replace(WHOLE, conditional_delete=False, versions=False), RULE)
    assert "for good" in told[0]
    assert len(told) == 2
