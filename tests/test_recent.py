"""What has been handled of late: a look is spared only where an earlier one has seen it all."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.change import Change, Dialect, decode
from tandem.recent import Recent
from tandem.settings import Site

NOW = datetime(2026, 11, 21, tzinfo=UTC).isoformat()


def put(sequencer: str | None, key: str = "k", site: str = "left") -> Change:
    return Change(site, key, sequencer=sequencer, event=f"{sequencer}")


def after(*handled: Change) -> Recent:
    recent = Recent(["left"])
    for change in handled:
        recent.note("one", "right", change)
    return recent


def test_an_event_older_than_one_handled_is_old_news_and_a_newer_one_is_not():
    recent = after(put("0A5"))
    assert recent.holds("one", "right", put("0A4FF"))
    assert recent.holds("one", "right", put("0a500"))
    assert not recent.holds("one", "right", put("0A501"))


def test_the_newest_counts_whatever_was_handled_last():
    recent = after(put("0A5"), put("0A1"))
    assert recent.holds("one", "right", put("0A3"))


@pytest.mark.parametrize(
    ("rule", "target", "change"),
    [
        ("two", "right", put("0A1")),
        ("one", "far", put("0A1")),
        ("one", "right", put("0A1", key="another")),
        ("one", "right", put("0A1", site="minio")),
        ("one", "right", put(None)),
        ("one", "right", put("no number")),
        ("one", "right", Change("left", "k", sequencer="0A1", rule="one", target="right")),
    ],
)
def test_only_of_the_same_rule_target_key_and_site_and_with_a_sequencer(
    rule: str, target: str, change: Change
):
    assert not after(put("0A5")).holds(rule, target, change)


def test_what_had_no_sequencer_makes_nothing_old():
    assert not after(put(None)).holds("one", "right", put("00"))


def test_a_server_whose_sequencers_are_clocks_orders_nothing():
    recent = Recent(["left"])
    recent.note("one", "right", put("0A5", site="minio"))
    assert not recent.holds("one", "right", put("0A1", site="minio"))


def test_the_keys_handled_last_are_remembered():
    recent = Recent(["left"], size=2)
    for key in "abac":
        recent.note("one", "right", put("0A5", key))
    assert [recent.holds("one", "right", put("0A1", key)) for key in "abc"] == [True, False, True]


def told(event: str, dialect: Dialect) -> Change:
    """Return the change of an event that carries a sequencer."""
    record = {
        "eventName": event,
        "eventTime": NOW,
        "s3": {"bucket": {"name": "b"}, "object": {"key": "k", "sequencer": "0A1"}},
    }
    site = Site("left", "b", "http://127.0.0.1:9", "u", "p", dialect=dialect)
    (change,) = decode(json.dumps({"Records": [record]}).encode(), site)
    return change


def test_aws_orders_puts_and_deletes_alone():
    names = ("ObjectCreated:Copy", "ObjectRemoved:Delete", "LifecycleExpiration:Delete")
    for name in names:
        assert after(put("0A5")).holds("one", "right", told(name, "aws"))
    for name in ("ObjectTagging:Put", "ObjectTagging:Delete", "ObjectRestore:Completed"):
        assert not after(put("0A5")).holds("one", "right", told(name, "aws"))


@given(st.data())
def test_whoever_is_spared_the_look_had_one_after_their_event(data: st.DataObject):
    # The source's writes are numbered from 1; a look sees how many there are by then.
    recent, written, seen = Recent(["left"]), 0, 0
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()):
            written += 1
        elif written:
            number = data.draw(st.integers(1, written))
            change = put(f"{number:04X}" + "0" * data.draw(st.integers(0, 3)))
            if recent.holds("one", "right", change):
                assert seen >= number
            else:
                seen = written
                recent.note("one", "right", change)
