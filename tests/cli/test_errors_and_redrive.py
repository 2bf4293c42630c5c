"""`tandem errors`, `tandem redrive` and `tandem discard`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tandem import report
from tandem.change import Change, native
from tandem.cli.stack import Stack
from tandem.errors import ErrorClass, Transient
from tandem.queues.base import Failure
from tandem.queues.jetstream import JetStreamQueue
from tests.cli.conftest import Cli, held

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


def failed(
    id_: str,
    key: str | None,
    error_class: ErrorClass = ErrorClass.DENIED,
    *,
    rule: str = "documents",
    target: str = "target",
    minutes: float = 0,
    message: str = "403 AccessDenied",
) -> Failure:
    at = AT + timedelta(minutes=minutes)
    return Failure(
        id_,
        error_class,
        rule,
        target if rule else "",
        None if key is None else Change("source", key, etag="abc"),
        message,
        5,
        at - timedelta(seconds=90),
        at,
        "{oops\x1b" if key is None else "",
    )


class Streams:
    """Error streams in memory; notes what is sent and dropped, in order."""

    def __init__(self, *failures: Failure) -> None:
        self.held = list(failures)
        self.log: list[tuple[str, str | Change]] = []

    async def failures(self, error_class: ErrorClass | None = None) -> AsyncIterator[Failure]:
        for name in ErrorClass:
            for one in [one for one in self.held if one.error_class is name]:
                if error_class in (None, name):
                    yield one

    async def send(self, *changes: Change) -> None:
        self.log += [("send", change) for change in changes]

    async def drop(self, failure: Failure) -> None:
        self.log.append(("drop", failure.id))
        self.held.remove(failure)


def install(monkeypatch: pytest.MonkeyPatch, *failures: Failure) -> Streams:
    streams = Streams(*failures)

    @asynccontextmanager
    async def queue(_: Stack) -> AsyncIterator[Streams]:
        yield streams

    monkeypatch.setattr(Stack, "queue", queue)
    return streams


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Streams:
    return install(
        monkeypatch,
        failed("1", "logs/a", minutes=2),
        failed("2", "b\n", minutes=0),
        failed("3", "c", ErrorClass.INVALID, rule="logs", minutes=1, message="no //"),
        failed("4", None, ErrorClass.POISON, rule="", minutes=3, message="no JSON"),
    )


def test_errors_tells_what_failed_and_why_and_what_to_do_the_newest_last(
    paper: Cli, failures: Streams
):
    told = paper("errors")
    assert told.code == 0
    assert told.lines == [
        "2026-11-21 08:30:00Z  denied  documents: source:b\\n → target",
        "    403 AccessDenied (5 attempts in 1 min 30 s)",
        "2026-11-21 08:31:00Z  invalid  logs: source:c → target",
        "    no // (5 attempts in 1 min 30 s)",
        "2026-11-21 08:32:00Z  denied  documents: source:logs/a → target",
        "    403 AccessDenied (5 attempts in 1 min 30 s)",
        "2026-11-21 08:33:00Z  poison  a message that cannot be understood: {oops\\x1b",
        "    no JSON (5 attempts in 1 min 30 s)",
        f"2 denied: {report.ADVICE[ErrorClass.DENIED]}",
        f"1 invalid: {report.ADVICE[ErrorClass.INVALID]}",
        f"1 poison: {report.ADVICE[ErrorClass.POISON]}",
    ]
    assert failures.log == []


def test_errors_as_json_keeps_keys_exactly(paper: Cli, failures: Streams):
    told = paper("errors", "--json").json
    assert [one["key"] for one in told] == ["b\n", "c", "logs/a", None]
    assert told[0]["advice"] == report.ADVICE[ErrorClass.DENIED]
    assert failures.log == []


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--class", "denied"], ["2", "1"]),
        (["--rule", "logs"], ["3"]),
        (["--key", "logs/*"], ["1"]),
        (["--key", "*a"], ["1"]),
        (["--key", "LOGS/*"], []),
        (["--limit", "2"], ["1", "4"]),
        (["--limit", "0"], ["2", "3", "1", "4"]),
        (["--class", "invalid", "--rule", "documents"], []),
        (["--target", "target"], ["2", "3", "1"]),
        (["--target", "source"], []),
        (["--older-than", "1m"], ["2", "3", "1", "4"]),
        (["--newer-than", "1m"], []),
    ],
)
def test_errors_shows_those_that_are_asked_for(
    paper: Cli, failures: Streams, words: list[str], ids: list[str]
):
    assert len(failures.held) == 4
    assert [one["id"] for one in paper("errors", *words, "--json").json] == ids


def test_errors_says_that_there_are_more(paper: Cli, failures: Streams):
    assert len(failures.held) == 4
    first = paper("errors", "--limit", "1").lines[0]
    assert first == "the newest 1 of 4 (--limit 0 shows them all)"


def test_no_errors_are_told_as_such(paper: Cli, monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch)
    assert paper("errors").out == "no errors\n"
    assert paper("errors", "--json").out == "[]\n"
    assert paper("redrive").out == "0 failures put back\n"


def test_redrive_queues_each_failure_for_its_rule_and_target_before_it_drops_it(
    paper: Cli, failures: Streams
):
    told = paper("redrive")
    assert told.code == 0
    assert told.lines == [
        "denied  documents: source:logs/a → target",
        "denied  documents: source:b\\n → target",
        "invalid  logs: source:c → target",
        "3 failures put back",
    ]
    assert (
        told.err
        == "1 message that cannot be understood stays: see `tandem errors` and `tandem discard`\n"
    )
    assert failures.log == [
        ("send", Change("source", "logs/a", etag="abc", rule="documents", target="target")),
        ("drop", "1"),
        ("send", Change("source", "b\n", etag="abc", rule="documents", target="target")),
        ("drop", "2"),
        ("send", Change("source", "c", etag="abc", rule="logs", target="target")),
        ("drop", "3"),
    ]
    assert [one.id for one in failures.held] == ["4"]


def test_a_dry_redrive_does_nothing(paper: Cli, failures: Streams):
    told = paper("redrive", "--class", "invalid", "--dry-run")
    assert told.lines == ["invalid  logs: source:c → target", "1 failure would be put back"]
    assert failures.log == []
    found = paper("redrive", "--dry-run", "--json").json
    assert [one["id"] for one in found["redriven"]] == ["1", "2", "3"]
    assert (found["dry_run"], found["left"]) == (True, 1)


def test_redrive_leaves_what_is_not_old_enough(paper: Cli, monkeypatch: pytest.MonkeyPatch):
    minutes = (datetime.now(UTC) - AT).total_seconds() / 60
    streams = install(
        monkeypatch,
        failed("old", "a", minutes=minutes - 11),
        failed("new", "b", minutes=minutes - 9),
    )
    assert paper("redrive", "--older-than", "10m").lines[-1] == "1 failure put back"
    assert [one.id for one in streams.held] == ["new"]


def test_redrive_takes_what_failed_lately_at_one_target(
    paper: Cli, monkeypatch: pytest.MonkeyPatch
):
    minutes = (datetime.now(UTC) - AT).total_seconds() / 60
    streams = install(
        monkeypatch,
        failed("old", "a", minutes=minutes - 11),
        failed("new", "b", minutes=minutes - 9),
        failed("far", "b", minutes=minutes - 9, target="source"),
    )
    told = paper("redrive", "--newer-than", "10m", "--target", "target")
    assert told.lines == ["denied  documents: source:b → target", "1 failure put back"]
    assert [one.id for one in streams.held] == ["old", "far"]


def test_what_could_not_be_queued_stays_where_it_failed(
    paper: Cli, failures: Streams, monkeypatch: pytest.MonkeyPatch
):
    async def away(*_: Change) -> None:
        raise Transient("NATS did not confirm a message")

    monkeypatch.setattr(failures, "send", away)
    told = paper("redrive")
    assert (told.code, told.err) == (2, "tandem: NATS did not confirm a message\n")
    assert len(failures.held) == 4


def test_a_redrive_that_died_after_queueing_queues_again_and_loses_nothing(
    paper: Cli, failures: Streams, monkeypatch: pytest.MonkeyPatch
):
    drop = failures.drop

    async def killed(_: Failure) -> None:
        raise Transient("the connection to NATS was closed")

    monkeypatch.setattr(failures, "drop", killed)
    assert paper("redrive", "--key", "b*").code == 2
    monkeypatch.setattr(failures, "drop", drop)
    assert paper("redrive", "--key", "b*").lines[-1] == "1 failure put back"
    assert paper("redrive", "--key", "b*").lines == ["0 failures put back"]
    sent = Change("source", "b\n", etag="abc", rule="documents", target="target")
    assert failures.log == [("send", sent), ("send", sent), ("drop", "2")]


def test_redrive_does_not_chase_what_fails_anew(paper: Cli, monkeypatch: pytest.MonkeyPatch):
    minutes = (datetime.now(UTC) - AT).total_seconds() / 60
    streams = install(
        monkeypatch, failed("1", "a", minutes=-5), failed("2", "b", minutes=minutes + 5)
    )
    assert paper("redrive").lines[-1] == "1 failure put back"
    assert [one.id for one in streams.held] == ["2"]


def test_an_unknown_class_is_refused_naming_those_there_are(paper: Cli):
    told = paper("errors", "--class", "sad")
    assert told.code == 2
    assert "'transient', 'throttled', 'conflict'" in told.err


POISON = "poison  a message that cannot be understood: {oops\\x1b"


def test_discard_shows_what_goes_and_asks(paper: Cli, failures: Streams):
    told = paper("discard", "--class", "poison", input="y\n")
    assert told.code == 0
    assert told.lines == [POISON, "1 failure discarded"]
    assert "Discard 1 failure for good? [y/N]" in told.err
    assert failures.log == [("drop", "4")]


@pytest.mark.parametrize("typed", ["n\n", "\n", None])
def test_discard_does_nothing_without_a_yes(paper: Cli, failures: Streams, typed: str | None):
    told = paper("discard", "--key", "logs/*", input=typed)
    assert told.code == 2
    assert told.lines == ["denied  documents: source:logs/a → target"]
    assert failures.log == []


def test_discard_asks_nothing_of_who_says_yes(paper: Cli, failures: Streams):
    told = paper("discard", "--class", "poison", "--yes", "--json")
    assert [one["id"] for one in told.json["discarded"]] == ["4"]
    assert (told.err, failures.log) == ("", [("drop", "4")])
    assert paper("discard", "--class", "poison").lines == ["0 failures discarded"]


def test_a_dry_discard_does_nothing(paper: Cli, failures: Streams):
    told = paper("discard", "--class", "poison", "--dry-run")
    assert told.lines == [POISON, "1 failure would be discarded"]
    assert (told.err, failures.log) == ("", [])


def test_discard_must_be_told_which(paper: Cli, failures: Streams):
    told = paper("discard", "--yes")
    assert told.code == 2
    assert told.err.startswith("tandem: say which failures to discard: --class poison")
    assert failures.log == []


def test_failures_in_jetstream_are_shown_put_back_and_discarded(streams: Cli):
    settings = streams.settings.queue
    old = datetime.now(UTC) - timedelta(hours=1)
    change = Change("source", "logs/odd\n", etag="abc")

    async def fail() -> None:
        queue = await JetStreamQueue.connect(settings)
        for error_class in (ErrorClass.INVALID, ErrorClass.DENIED):
            await queue.fail(
                Failure("", error_class, "documents", "target", change, "403", 1, old, old)
            )
        await queue.fail(Failure("", ErrorClass.POISON, "", "", None, "no", 1, old, old, "{"))
        await queue.close()

    def lie() -> dict[str, list[bytes]]:
        return asyncio.run(held(settings))

    asyncio.run(fail())
    before = lie()
    assert [len(lying) for lying in before.values() if lying] == [1, 1, 1]
    for words in (["redrive"], ["redrive", "--json"], ["discard", "--older-than", "1s"]):
        told = streams(*words, "--dry-run")
        assert (told.code, lie()) == (0, before)
    assert [one["class"] for one in streams("errors", "--json").json] == [
        *("denied", "invalid", "poison")
    ]
    told = streams("redrive", "--class", "denied", "--older-than", "30m")
    assert told.lines == ["denied  documents: source:logs/odd\\n → target", "1 failure put back"]
    assert streams("redrive", "--class", "denied").lines == ["0 failures put back"]
    assert streams("discard", "--class", "poison", "--yes").code == 0
    assert [one["class"] for one in streams("errors", "--json").json] == ["invalid"]
    queued = [native(body) for body in lie()[settings.changes]]
    assert queued == [replace(change, rule="documents", target="target")]
