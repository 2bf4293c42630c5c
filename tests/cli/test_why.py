"""`tandem why`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tandem import report
from tandem.attempt import Attempt
from tandem.change import Change
from tandem.cli.stack import Stack
from tandem.errors import ErrorClass
from tandem.queues.base import Failure, Queue
from tandem.rule import Group, Rule
from tests.cli.conftest import DOCUMENTS, LOGS, Cli, Side
from tests.servers import Minio

AT = datetime.now(UTC) - timedelta(minutes=5)
CHANGE = Change("source", "k", etag="abc", sequencer="17", time=AT)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
FAILED = Attempt(
    "worker-1", "documents", "target", CHANGE, 3, AT, None, ErrorClass.TRANSIENT, "time-out\x1b"
)


def tell(cli: Cli, *things: Attempt | Failure | Change) -> None:
    """Tell the queue, and wait until the attempts are remembered."""

    async def run() -> None:
        async with Stack(cli.path).queue() as queue:
            for thing in things:
                await _tell(queue, thing)
            attempts = [one for one in things if isinstance(one, Attempt)]
            async with asyncio.timeout(60):
                while attempts and attempts[-1] not in await queue.history("k"):  # noqa: ASYNC110 -- only asking tells
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def _tell(queue: Queue, thing: Attempt | Failure | Change) -> Awaitable[None]:
    if isinstance(thing, Attempt):
        return queue.publish_outcome(thing)
    return queue.fail(thing) if isinstance(thing, Failure) else queue.send(thing)


def converge(cli: Cli, key: str = "k") -> Attempt:
    """Do to a key what a worker would do, and return what it would tell."""

    async def run() -> Attempt:
        change = replace(CHANGE, key=key)
        async with Stack(cli.path).engine([(DOCUMENTS, "target")]) as engine:
            outcome = await engine.converge(DOCUMENTS, "target", change)
        return Attempt("worker-0", "documents", "target", change, 1, outcome.at, outcome)

    return asyncio.run(run())


def failure(**more: str) -> Failure:
    change = replace(CHANGE, key=more.pop("key", "k"))
    told = Failure("", ErrorClass.DENIED, "documents", "target", change, "403", 2, AT, AT)
    return replace(told, **more)


def test_a_key_that_is_level_is_explained(streams: Cli, source: Side, target: Side):
    source.put("k", b"hello")
    done = converge(streams)
    tell(streams, FAILED, done)
    told = streams("why", "k")
    etag = source.get("k")["ETag"].strip('"')
    version, origin = target.get("k")["VersionId"], f"from source's etag {etag}"
    expected = [
        r"documents: source:k → target",
        r"  now     nothing is to be done: equal",
        rf"  source  5 B, {TIME}, etag {etag}, version \S+",
        rf"  target  5 B, {TIME}, etag {etag}, version {version}, written by Tandem {origin}",
        r"  waiting no change of source waits",
        rf"  change  a write at {re.escape(report.moment(AT))}, etag abc, sequencer 17",
        rf"  attempt {TIME}  failed, transient: time-out\\x1b \(worker-1, delivery 3\)",
        rf"  attempt {TIME}  copied 5 B in .* ms: not at the target \(worker-0, delivery 1\)",
    ]
    assert len(told.lines) == len(expected)
    for line, pattern in zip(told.lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    assert (told.code, told.err) == (0, "")


def test_everything_is_in_the_json(streams: Cli, source: Side):
    source.put("k", b"hello", Metadata={"owner": "ada"}, Tagging="a=b")
    tell(streams, FAILED, failure(), replace(CHANGE, key="other"))
    told = streams("why", "k", "--json")
    assert told.code == 1
    (route,) = told.json["routes"]
    assert route["now"] == {"action": "copy", "reason": "not at the target"}
    assert route["source"]["metadata"] == {"owner": "ada"}
    assert (route["source"]["tags"], route["source"]["present"]) == ({"a": "b"}, True)
    assert (route["target"]["present"], route["target"]["error"]) == (False, None)
    assert route["attempts"] == [FAILED.to_json()]
    assert [one["class"] for one in route["failures"]] == ["denied"]
    assert (route["waiting"], route["well"]) == (1, False)
    assert (told.json["key"], told.json["others"], told.json["error"]) == ("k", [], None)


def lines(cli: Cli, *words: str) -> dict[str, str]:
    """Return the lines of a single account by their names."""
    told = cli("why", "k", *words)
    return {line[2:9].strip(): line[10:] for line in told.lines[1:]}


def deleted(source: Side, _: Side) -> None:
    source.put("k")
    source.delete("k")


def absent(_: Side, __: Side) -> None:
    pass


def foreign(_: Side, target: Side) -> None:
    target.put("k", b"theirs")


@pytest.mark.parametrize(
    ("arrange", "now"),
    [
        (deleted, "nothing is to be done: on neither side"),
        (absent, "nothing is to be done: on neither side"),
        (foreign, "nothing is to be done: not written by Tandem from this source"),
        (lambda source, _: source.put("k"), "it would be copied: not at the target"),
    ],
)
def test_what_would_be_done_is_told_in_one_sentence(
    streams: Cli, source: Side, target: Side, arrange: Callable[[Side, Side], None], now: str
):
    arrange(source, target)
    found = lines(streams)
    assert found["now"] == now
    assert found["change"] == "none was heard of in the last week"


def test_a_delete_and_tags_that_are_due_are_told(streams: Cli, source: Side, target: Side):
    source.put("k", Tagging="a=b")
    done = converge(streams)
    source.put("k", Tagging="a=c")
    assert lines(streams)["now"] == "its tags would be set at the target: tags differ"
    source.delete("k")
    tell(streams, done, replace(done, change=replace(CHANGE, removed=True), at=datetime.now(UTC)))
    found = lines(streams)
    assert found["now"] == "it would be deleted at the target: deleted at the source"
    assert found["change"].startswith("a delete at ")
    assert target.keys() == ["k"]


def test_what_failed_for_good_is_told_with_what_to_do(streams: Cli, source: Side):
    source.put("k")
    converge(streams)
    tell(streams, failure(), failure(key="other"))
    told = streams("why", "k")
    assert told.code == 1
    assert told.lines[-1] == (
        f"  error   {report.moment(AT)}  denied: 403 (2 attempts). "
        f"{report.ADVICE[ErrorClass.DENIED]}"
    )


def test_a_failure_of_a_rule_that_is_gone_is_told_too(streams: Cli):
    tell(streams, failure(rule="gone"))
    told = streams("why", "k")
    assert told.code == 1
    assert "error   of gone, which does not cover it now: " in told.lines[-1]
    assert streams("why", "k", "--rule", "documents").code == 0


def test_a_key_that_no_rule_covers_is_told_with_what_the_rules_take(streams: Cli):
    streams.write(rules=(LOGS, Rule("pages", "source", ("target",), "a/", ".html")))
    told = streams("why", "k")
    assert told.out == (
        "no rule covers k, so nothing replicates it: logs takes keys that begin with 'logs/' from "
        "source; pages takes keys that begin with 'a/' and end with '.html' from source\n"
    )
    assert told.code == 0
    assert streams("why", "k", "--rule", "logs", "--json").json["routes"] == []


RENAMING = replace(LOGS, target_prefix="old/")


def test_a_key_that_has_another_name_at_the_target_is_told_by_both(
    streams: Cli, source: Side, target: Side
):
    streams.write(rules=(RENAMING,))
    source.put("logs/k", b"hello")
    assert streams("sync").code == 0
    assert target.keys() == ["old/k"]
    told = streams("why", "logs/k")
    assert told.code == 0
    assert told.lines[0] == "logs: source:logs/k → target:old/k"
    assert told.lines[3].startswith("  target  5 B, ")
    (route,) = streams("why", "logs/k", "--json").json["routes"]
    assert (route["source"]["key"], route["target"]["key"]) == ("logs/k", "old/k")


def test_a_copys_key_leads_to_its_source(streams: Cli):
    streams.write(rules=(RENAMING,))
    assert streams("why", "old/k").out == (
        "no rule covers old/k, so nothing replicates it: logs takes keys that begin with 'logs/' "
        "from source, and writes this one from 'logs/k'\n"
    )


def test_a_key_that_its_other_name_makes_too_long_is_told_plainly(streams: Cli, source: Side):
    streams.write(rules=(replace(RENAMING, target_prefix=f"{'o' * 250}/" * 2),))
    key = f"logs/{'/'.join(['k' * 200] * 4)}"
    source.put(key)
    told = streams("why", key)
    assert told.code == 1
    assert told.lines[1].endswith("it cannot be replicated: target cannot keep a key like this")
    verified = streams("verify")
    assert verified.code == 1
    assert "1305 bytes, and 1 to 1024 can be kept; source:'logs/kkk" in verified.out


def test_a_key_of_tandems_own_is_covered_by_no_rule(streams: Cli):
    told = streams("why", ".tandem/probe/1")
    assert told.lines[0].endswith("documents takes every key but Tandem's own from source")


@pytest.mark.parametrize("key", ["a//b", "/a", "a/../b"])
def test_a_key_that_a_target_cannot_keep_is_told_plainly(streams: Cli, key: str):
    sites = streams.settings.sites
    streams.write(sites={**sites, "source": replace(sites["source"], dialect="aws")})
    told = streams("why", key)
    assert told.code == 1
    now = next(line for line in told.lines if line.startswith("  now "))
    assert "it cannot be replicated: " in now
    assert "cannot keep the key: it has " in told.out


def test_a_side_that_is_down_does_not_hide_the_other(
    streams: Cli, source: Side, second_minio: Minio
):
    source.put("k", b"hello")
    second_minio.kill()
    try:
        told = streams("why", "k")
    finally:
        second_minio.start()
    assert told.code == 1
    assert told.lines[2].startswith("  source  5 B, ")
    assert told.lines[3].startswith("  target  transient: ")
    assert "cannot be told" in told.lines[1]


def test_a_queue_that_is_down_does_not_hide_both_sides(cli: Cli, source: Side):
    source.put("k", b"hello")
    told = cli("why", "k")
    assert told.code == 1
    assert told.lines[1] == "  now     it would be copied: not at the target"
    assert told.err.startswith("what happened before cannot be told: NATS at ")
    assert told.err.count("\n") == 1


def test_each_direction_of_a_rule_that_goes_both_ways_is_explained(streams: Cli, source: Side):
    streams.write(rules=(replace(DOCUMENTS, two_way=True),))
    source.put("k")
    heads = [line for line in streams("why", "k").lines if line.startswith("documents")]
    assert heads == ["documents: source:k → target", "documents: target:k → source"]
    only = [line for line in streams("why", "k", "--target", "source").lines if "→" in line]
    assert only == ["documents: target:k → source"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rule", "nothing"], "there is no rule 'nothing'"),
        (["--target", "elsewhere"], "there is no site 'elsewhere'"),
        (["--target", "source"], "source is not a target of documents, logs"),
    ],
)
def test_what_is_not_there_is_refused(paper: Cli, words: list[str], message: str):
    told = paper("why", "k", *words)
    assert told.code == 2
    assert told.err.startswith(f"tandem: {message}")


def test_an_index_that_is_held_back_says_for_which_key_it_waits(streams: Cli, source: Side):
    streams.write(rules=(replace(DOCUMENTS, groups=(Group("*/_SUCCESS"),)),))
    source.put("t/part", b"data")
    source.put("t/_SUCCESS", b"")
    told = streams("why", "t/_SUCCESS")
    assert (
        "  now     it would be copied, and is held back: until 't/part' is at target" in told.lines
    )
    assert told.code == 1
