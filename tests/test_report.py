"""Findings, failures and listings as plain dicts, and as words for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import report
from tandem.change import Change
from tandem.decision import Action, Decision
from tandem.errors import Denied, ErrorClass
from tandem.queues.base import Failure
from tandem.reconcile import Finding
from tandem.rule import Rule
from tandem.sample import Reading
from tandem.stores.base import Entry

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 ms"),
        (0.00621, "6.2 ms"),
        (0.9, "900.0 ms"),
        (1, "1.0 s"),
        (59.9, "59.9 s"),
        (185, "3 min 5 s"),
        (3600, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_a_person_would_choose(seconds: float, words: str):
    assert report.duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1d", 86400), (" 2h ", 7200)],
)
def test_a_duration_is_read(text: str, seconds: float):
    assert report.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "-1s", "1w", "1e3s", "10 m", "99999999999999d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match="such as 10m"):
        report.parse_duration(text)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (16 * 1024**2, "16.0 MiB"),
        (2 * 1024**3, "2.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_a_size_is_told_in_binary_units(count: int, words: str):
    assert report.size(count) == words


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("plain/a b.txt", "plain/a b.txt"),
        ("crème 日本語 🦀", "crème 日本語 🦀"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\nlines"),
        ("back\\n", "back\\\\n"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("[bold]", "[bold]"),
    ],
)
def test_a_key_does_a_terminal_no_harm(key: str, shown: str):
    assert report.printable(key) == shown


@given(st.text(), st.text())
def test_different_keys_are_shown_differently(one: str, other: str):
    assert report.printable(one).isprintable()
    assert (report.printable(one) == report.printable(other)) == (one == other)


def test_every_class_of_error_has_one_sentence_of_advice():
    assert set(report.ADVICE) == set(ErrorClass)
    for advice in report.ADVICE.values():
        assert advice[0].isupper()
        assert advice.endswith(".")
        assert ". " not in advice


def found(action: Action = Action.SKIP, **more: object) -> Finding:
    parts: dict[str, object] = {"decision": Decision(action, "reason"), **more}
    return Finding("documents", "source", "target", "k", **parts)  # type: ignore[arg-type] -- a test's shorthand


def test_a_tally_counts_what_a_sync_did():
    tally = report.Tally.of(Rule("documents", "source", ("target",)), "target")
    for one in (
        found(Action.COPY, size=10),
        found(Action.COPY, size=5),
        found(Action.DELETE),
        found(Action.RETAG),
        found(),
        found(foreign=True),
        found(reading=Reading(9, "a" * 64, "b" * 64)),
        found(decision=Decision(Action.SKIP, "reason", 2)),
        found(decision=None, error=Denied("no")),
    ):
        tally.add(one)
    assert tally.to_json() == {
        "rule": "documents",
        "source": "source",
        "target": "target",
        "keys": 9,
        "copy": 2,
        "retag": 1,
        "delete": 1,
        "skip": 4,
        "foreign": 1,
        "uncovered": 0,
        "failed": 1,
        "bytes": 15,
        "sampled": 1,
        "read": 9,
        "corrupt": 1,
        "gaps": 1,
    }
    assert tally.differ == 6


def test_a_corrupt_object_is_told_with_both_digests():
    corrupt = found(reading=Reading(9, "a" * 64, "b" * 64))
    assert report.what(corrupt) == "corrupt"
    assert report.why(corrupt) == (
        "its bytes differ: SHA-256 aaaaaaaaaaaa… at the source, bbbbbbbbbbbb… at the target"
    )


ROUND = {"began": AT.isoformat(), "ended": AT.isoformat(), "seconds": 12.0, "error": None}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"every": None, "due": None, "current": None, "last": None}, "reconcile: off"),
        (
            {"every": 60, "due": "2026-11-21T08:41:00+00:00", "current": None, "last": None},
            "reconcile: none yet; next in 1 min 0 s",
        ),
        (
            {"every": 60, "due": AT.isoformat(), "current": {"keys": 1000}, "last": None},
            "reconcile: none yet; under way, 1,000 keys so far",
        ),
        (
            {
                "every": 60,
                "due": "2026-11-21T09:40:00+00:00",
                "current": None,
                "last": {**ROUND, "keys": 2000, "changes": 3},
            },
            (
                "reconcile: 2,000 keys compared in 12.0 s, 3 changes emitted, 10 min 0 s ago; "
                "next in 1 h 0 min"
            ),
        ),
        (
            {
                "every": 60,
                "due": "2026-11-21T08:41:00+00:00",
                "current": None,
                "last": {**ROUND, "keys": 0, "changes": 0, "error": "list a: 403"},
            },
            "reconcile: stopped 10 min 0 s ago (list a: 403); next in 1 min 0 s",
        ),
        (
            {"every": 60, "due": AT.isoformat(), "current": None, "last": None},
            "reconcile: none yet; due now",
        ),
    ],
)
def test_the_reconcile_that_comes_by_itself_is_told_in_a_line(told: dict[str, object], line: str):
    assert report.reconcile_line(told, AT + timedelta(minutes=10)) == line


def test_a_finding_says_what_and_why():
    assert report.finding(found(Action.COPY))["what"] == "copy"
    assert report.finding(found(foreign=True))["what"] == "foreign"
    failed = report.finding(found(decision=None, error=Denied("403")))
    assert (failed["what"], failed["why"]) == ("failed", "denied: 403")


def test_a_failure_keeps_its_key_exactly_and_carries_advice():
    change = Change("source", "odd\n")
    failed = Failure("7", ErrorClass.DENIED, "documents", "target", change, "403", 5, AT, AT)
    assert report.failure(failed) == {
        "id": "7",
        "class": "denied",
        "rule": "documents",
        "target": "target",
        "site": "source",
        "key": "odd\n",
        "reason": "403",
        "advice": report.ADVICE[ErrorClass.DENIED],
        "attempts": 5,
        "since": "2026-11-21T08:30:00+00:00",
        "at": "2026-11-21T08:30:00+00:00",
        "raw": None,
    }


def test_a_message_that_cannot_be_understood_has_no_key_but_is_shown_raw():
    failed = report.failure(
        Failure("1", ErrorClass.POISON, "", "", None, "no JSON", 1, AT, AT, raw="{oops")
    )
    assert (failed["site"], failed["key"], failed["raw"]) == (None, None, "{oops")


def test_an_entry_is_told_exactly():
    assert report.entry(Entry("k\n", "abc", 5, AT)) == {
        "key": "k\n",
        "size": 5,
        "modified": "2026-11-21T08:30:00+00:00",
        "etag": "abc",
    }
