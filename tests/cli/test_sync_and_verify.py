"""`tandem sync` and `tandem verify` on two real servers."""

from __future__ import annotations

import io
import json
import string
from dataclasses import replace
from typing import Any
from unicodedata import normalize

import pytest
from rich.console import Console

from tandem.cli import progress
from tandem.cursor import Cursor
from tandem.engine import Engine
from tandem.errors import Denied
from tandem.outcome import Outcome
from tandem.rule import Rule
from tests.cli.conftest import DOCUMENTS, LOGS, Cli, Side

ODD = (
    "a+b c",
    "%3A",
    "a%2Fb",
    "trail/",
    "trail-",
    "trail0",
    normalize("NFC", "crème"),
    normalize("NFD", "crème"),
    "\uff5e",
    "\U0001f980",
    "tab\there",
    *(f"x{mark}" for mark in string.punctuation if mark not in "/\\"),
)


def test_sync_brings_existing_objects_level_and_verify_agrees(cli: Cli, source: Side, target: Side):
    for number in range(30):
        source.put(f"docs/{number:03}.txt", b"x" * number, Metadata={"number": str(number)})
    source.put("tagged", Tagging="a=b", ContentType="text/plain")
    first = cli("sync")
    assert (first.code, first.err) == (0, "")
    assert "documents: source → target: 31 keys in " in first.out
    assert "31 copied (439 B), 0 retagged, 0 deleted, 0 level already, 0 failed" in first.out
    assert target.keys() == source.keys()
    assert target.get("docs/007.txt")["Metadata"]["number"] == "7"
    assert "0 copied (0 B), 0 retagged, 0 deleted, 31 level already" in cli("sync").out
    verified = cli("verify")
    assert verified.out == "documents: source → target: 31 keys, none differs\n"
    assert verified.code == 0


def test_sync_relies_on_nothing_that_a_target_does_not_do(
    cli: Cli, source: Side, target: Side, monkeypatch: pytest.MonkeyPatch
):
    converge, relied_on = Engine.converge, []

    async def watched(self: Engine, rule: Rule, target: str, *rest: Any, **named: Any) -> Outcome:
        relied_on.append(self.stores[target].capabilities)
        return await converge(self, rule, target, *rest, **named)

    monkeypatch.setattr(Engine, "converge", watched)
    source.put("k")
    assert cli("sync", "--dry-run").code == 0
    assert not relied_on
    assert cli("sync").code == 0
    (found,) = relied_on
    # MinIO takes a delete with If-Match, and ignores the condition.
    assert (found.conditional_put, found.conditional_delete) == (True, False)
    assert target.keys() == ["k"]


def test_odd_keys_come_level_and_are_listed_in_the_order_of_their_bytes(
    cli: Cli, source: Side, target: Side
):
    for key in ODD:
        source.put(key, key.encode())
    assert cli("sync").code == 0
    assert sorted(target.keys()) == sorted(ODD)
    assert cli("verify").code == 0
    listed = cli("ls", "source", "--json").json["objects"]
    assert [one["key"] for one in listed] == sorted(ODD, key=str.encode)


def test_a_key_that_has_another_name_at_the_target_is_told_by_both(
    cli: Cli, source: Side, target: Side
):
    cli.write(rules=(replace(LOGS, deletes="mirror", target_prefix="old/"),))
    for key in ("logs/a", "logs/b", "other"):
        source.put(key)
    assert "logs: source → target: 2 keys in " in cli("sync").out
    assert target.keys() == ["old/a", "old/b"]
    source.put("logs/a", b"new")
    source.delete("logs/b")
    target.put("old/c")
    target.put("theirs")
    for quick in ([], ["--quick"]):
        assert cli("verify", *quick).lines == [
            "WHAT     TARGET  KEY             WHY",
            "copy     target  logs/a → old/a  content differs",
            "delete   target  logs/b → old/b  deleted at the source",
            "foreign  target  logs/c → old/c  not written by Tandem from this source",
            "logs: source → target: 3 keys, 2 differ, 1 foreign",
        ]
    found = cli("verify", "--json").json["findings"][0]
    assert (found["key"], found["target_key"]) == ("logs/a", "old/a")
    assert cli("sync", "--dry-run").lines[0] == (
        "copy    source → target  logs/a → old/a  (content differs)"
    )
    assert cli("sync").code == 0
    assert target.get("old/a")["Body"] == b"new"
    assert target.keys() == ["old/a", "old/c", "theirs"]
    assert "1 object read" in cli("verify", "--sample", "100").out


def test_verify_lists_what_differs_and_why_and_exits_with_1(cli: Cli, source: Side, target: Side):
    for key in ("a-equal", "b-content", "c-deleted", "d-metadata", "e-tags", "f-new"):
        source.put(key, b"one")
    source.delete("f-new")
    cli("sync")
    source.put("b-content", b"two")
    source.delete("c-deleted")
    source.put("d-metadata", b"one", Metadata={"new": "yes"})
    source.put("e-tags", b"one", Tagging="new=yes")
    source.put("f-new", b"one")
    target.put("g-foreign", b"theirs")
    told = cli("verify")
    assert told.code == 1
    assert told.lines == [
        "WHAT     TARGET  KEY         WHY",
        "copy     target  b-content   content differs",
        "delete   target  c-deleted   deleted at the source",
        "copy     target  d-metadata  metadata differs",
        "retag    target  e-tags      tags differ",
        "copy     target  f-new       not at the target",
        "foreign  target  g-foreign   not written by Tandem from this source",
        "documents: source → target: 7 keys, 5 differ, 1 foreign",
    ]
    found = cli("verify", "--json").json
    assert (found["differ"], found["failed"], found["unlisted"]) == (5, 0, 0)
    assert [one["what"] for one in found["findings"]] == [
        "copy", "delete", "copy", "retag", "copy", "foreign",
    ]  # fmt: skip
    assert found["rules"][0]["skip"] == 2


def test_verify_lists_no_more_than_its_limit_but_counts_all(cli: Cli, source: Side):
    for number in range(5):
        source.put(f"{number}")
    told = cli("verify", "--limit", "2")
    assert told.lines[3:] == [
        "… and 3 more (--limit 0 lists them all)",
        "documents: source → target: 5 keys, 5 differ",
    ]
    assert len(cli("verify", "--limit", "0", "--json").json["findings"]) == 5


def test_verify_leaves_foreign_keys_out_of_the_differences(cli: Cli, target: Side):
    target.put("theirs")
    told = cli("verify")
    assert told.code == 0
    assert told.lines[-1] == "documents: source → target: 1 key, none differs, 1 foreign"


def test_a_dry_run_prints_what_would_be_done_and_does_nothing(cli: Cli, source: Side, target: Side):
    source.put("gone")
    cli("sync")
    source.delete("gone")
    source.put("new\x1b[31m")
    target.put("theirs")
    told = cli("sync", "--dry-run")
    assert told.code == 0
    assert told.lines == [
        "delete  source → target  gone  (deleted at the source)",
        "copy    source → target  new\\x1b[31m  (not at the target)",
        "documents: source → target: 3 keys, 2 would change",
    ]
    assert target.keys() == ["gone", "theirs"]
    actions = cli("sync", "--dry-run", "--json").json["actions"]
    assert [one["key"] for one in actions] == ["gone", "new\x1b[31m"]
    done = cli("sync", "--json").json
    assert {name: done["rules"][0][name] for name in ("copy", "delete", "foreign")} == {
        "copy": 1,
        "delete": 1,
        "foreign": 1,
    }
    assert target.keys() == ["new\x1b[31m", "theirs"]


def test_only_a_thorough_sync_finds_metadata_that_differs(cli: Cli, source: Side, target: Side):
    source.put("k", b"one")
    cli("sync")
    source.put("k", b"one", Metadata={"new": "yes"})
    assert "1 level already" in cli("sync").out
    assert "1 copied" in cli("sync", "--thorough").out
    assert target.get("k")["Metadata"]["new"] == "yes"


def test_rules_can_be_chosen_by_name_and_target(cli: Cli, source: Side, target: Side):
    cli.write(rules=(DOCUMENTS, LOGS))
    source.put("logs/a")
    source.put("b")
    told = cli("sync", "logs", "--target", "target", "--json").json
    assert [(rule["rule"], rule["keys"]) for rule in told["rules"]] == [("logs", 1)]
    assert target.keys() == ["logs/a"]
    assert len(cli("sync", "--json").json["rules"]) == 2


def test_a_key_that_fails_is_reported_and_stops_no_other(
    cli: Cli, source: Side, target: Side, monkeypatch: pytest.MonkeyPatch
):
    for key in "amz":
        source.put(key)
    converge = Engine.converge

    async def denied(self, rule, site, change):
        if change.key == "m":
            raise Denied("403 AccessDenied")
        return await converge(self, rule, site, change)

    monkeypatch.setattr(Engine, "converge", denied)
    told = cli("sync")
    assert told.code == 1
    assert told.lines[0] == "failed  source → target  m  (denied: 403 AccessDenied)"
    assert told.lines[1].endswith("1 failed")
    failures = cli("sync", "--json").json["failures"]
    assert [(one["key"], one["why"]) for one in failures] == [("m", "denied: 403 AccessDenied")]
    assert target.keys() == ["a", "z"]


def test_a_bucket_that_is_missing_ends_the_command_plainly(cli: Cli, source: Side, target: Side):
    source.put("a")
    target.client.delete_bucket(Bucket=target.bucket)
    for command in ("sync", "verify"):
        told = cli(command)
        assert told.code == 2
        assert told.err.startswith("tandem: ")
        assert "NoSuchBucket" in told.err
        assert told.err.count("\n") == 1


class Interrupted(Exception):
    """The user's patience ends."""


def test_a_sync_that_was_cut_short_goes_on_where_it_stood(
    cli: Cli, source: Side, target: Side, monkeypatch: pytest.MonkeyPatch
):
    for number in range(20):
        source.put(f"{number:02}")
    converge = Engine.converge

    async def tired(self, rule, site, change):
        if change.key == "10":
            raise Interrupted
        return await converge(self, rule, site, change)

    monkeypatch.setattr(Engine, "converge", tired)
    with pytest.raises(Interrupted):
        cli("sync", "--concurrency", "1")
    monkeypatch.undo()
    monkeypatch.chdir(cli.path.parents[2])
    remembered = cli.path.parent / "sync-documents-target.json"
    assert json.loads(remembered.read_text())["after"] == "09"

    target.delete("05")  # behind the cursor: a sync that goes on does not look there
    told = cli("sync")
    assert told.err == "going on after 09 (--restart begins again)\n"
    assert "10 keys" in told.out
    assert not remembered.exists()
    assert "20 keys" in cli("sync", "--restart").out
    assert target.keys() == source.keys()


def test_an_interrupted_sync_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tandem.cli.sync.reconcile", interrupted)
    told = cli("sync")
    assert (told.code, told.out) == (130, "")
    assert told.err == "interrupted: the same command goes on from here\n"


def test_a_cursor_holds_only_for_the_rule_and_buckets_that_it_was_made_for(cli: Cli):
    folder, rule = cli.path.parent, DOCUMENTS
    sites = list(cli.settings.sites.values())
    made = Cursor(folder, "sync", rule, sites, thorough=False)
    made.reach("k")
    made.save()
    assert Cursor(folder, "sync", rule, sites, thorough=False).resume() == "k"
    assert Cursor(folder, "sync", rule, sites, thorough=True).resume() == ""
    cli.write(rules=(LOGS,))
    other = [*sites[:1], type(sites[1])("target", "other", "http://127.0.0.1:1", "a", "s")]
    assert Cursor(folder, "sync", rule, other, thorough=False).resume() == ""
    made.path.write_text("not JSON")
    assert made.resume() == ""


def test_a_terminal_sees_how_far_it_has_come(
    cli: Cli, source: Side, monkeypatch: pytest.MonkeyPatch
):
    screen = Console(force_terminal=True, width=100, file=io.StringIO(), color_system=None)
    monkeypatch.setattr(progress, "err", screen)
    for number in range(7):
        source.put(f"{number}")
    for command in (["sync", "--dry-run"], ["sync"], ["verify"]):
        assert cli(*command).code == 0
        shown = screen.file.getvalue()  # type: ignore[attr-defined] -- it is our StringIO
        assert "documents → target" in shown
        assert "7/7" in shown
        screen.file.truncate(0)
