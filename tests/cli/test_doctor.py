"""`tandem doctor` on two real servers, well and unwell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tandem.cli import checkup
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores.abilities import Ability
from tests.cli.conftest import DOCUMENTS, Cli, Side
from tests.queues.conftest import prepared
from tests.servers import Minio, Nats, Versitygw, free_port

CONDITIONS = (Ability.PUT_IF_ABSENT, Ability.PUT_IF_MATCH, Ability.COMPLETE_IF_MATCH)


@pytest.fixture
def stack(cli: Cli, nats: Nats) -> Cli:
    """Give a stack of two servers and the streams that `pulumi up` makes."""
    cli.write(queue=asyncio.run(prepared(nats)))
    return cli


def amend(cli: Cli, name: str, **changes: str) -> None:
    sites = dict(cli.settings.sites)
    cli.write(sites={**sites, name: replace(sites[name], **changes)})


def test_a_stack_that_is_well(stack: Cli, source: Side):
    source.put("k")
    told = stack("doctor")
    assert (told.code, told.err) == (0, "")
    assert told.lines[0].split() == ["SITE", "ROLE", "BUCKET", "ENDPOINT", "STATE"]
    assert [line.split()[:2] for line in told.lines[1:4]] == [
        ["source", "source"],
        ["target", "target"],
        ["queue", "-"],
    ]
    assert all(" ok" in line for line in told.lines[1:4])
    table = {line[:34].strip(): line[34:].split() for line in told.lines[6:29]}
    assert table["put If-Match"] == ["-", "yes"]
    assert table["read If-Match"] == ["yes", "yes"]
    assert table["delete If-Match"] == ["-", "ignored"]
    assert told.lines[-2] == (
        "documents: source → target: copies on condition, deletes unconditional"
    )
    assert "no condition on deletes" in told.lines[-1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"versions": "all"}, "has versions: all"), ({"two_way": True}, "goes both ways")],
)
def test_a_site_that_keeps_no_versions_though_a_rule_is_about_them(
    stack: Cli,
    make_bucket: Callable[..., str],
    second_minio: Minio,
    changes: dict[str, Any],
    why: str,
):
    amend(stack, "target", bucket=make_bucket(second_minio))
    stack.write(rules=(replace(DOCUMENTS, **changes),))
    told = stack("doctor")
    assert told.code == 1
    bucket = stack.settings.sites["target"].bucket
    assert told.lines[4] == (
        f"target: rule documents {why}, and the versioning of the bucket "
        f"{bucket} of the site target is off"
    )
    assert told.lines[5].strip().startswith("Turn the bucket's versioning on")
    assert "documents: source → target: cannot work: see target" in told.lines


def test_nothing_is_left_anywhere(stack: Cli, source: Side, target: Side):
    source.put("k")
    stack("doctor")
    assert source.keys() == ["k"]
    assert target.keys() == []
    held = target.client.list_object_versions(Bucket=target.bucket)
    assert not held.get("Versions")
    assert not held.get("DeleteMarkers")


def test_as_json_it_tells_everything(stack: Cli, source: Side):
    source.put("k")
    told = stack("doctor", "--json").json
    assert (told["ok"], told["stack"], told["queue"]["error"]) == (True, "paper", None)
    left, right = told["sites"]
    assert (left["name"], left["role"], left["state"]) == ("source", "source", "ok")
    assert [trial["ability"] for trial in left["trials"]] == ["listing in order", "read If-Match"]
    verdicts = {trial["ability"]: trial["verdict"] for trial in right["trials"]}
    assert set(verdicts) == set(Ability)
    assert {verdicts[ability] for ability in CONDITIONS} == {"yes"}
    assert right["capabilities"]["conditional_put"]
    assert told["rules"][0]["protocol"] == "copies on condition, deletes unconditional"
    assert len(told["rules"][0]["warnings"]) == 1


@pytest.mark.parametrize(
    ("changes", "state", "error", "advice"),
    [
        ({"endpoint": "nowhere"}, "not reachable", "no answer", "See that the server is up"),
        ({"secret_key": "wrong"}, "denied", "SignatureDoesNotMatch", "Mend the site's credentials"),
        ({"bucket": "no-such-bucket"}, "no bucket", "NoSuchBucket", "Make the bucket"),
    ],
)
def test_a_site_that_is_unwell_is_told_with_what_to_do(
    stack: Cli, changes: dict[str, str], state: str, error: str, advice: str
):
    if "endpoint" in changes:
        changes = {"endpoint": f"http://127.0.0.1:{free_port()}"}
    amend(stack, "target", **changes)
    told = stack("doctor")
    assert told.code == 1
    assert told.lines[2].endswith(state)
    assert error in told.out
    assert advice in told.out
    assert "documents: source → target: cannot work: see target" in told.lines
    as_json = stack("doctor", "--json")
    assert as_json.code == 1
    assert as_json.json["ok"] is False
    assert as_json.json["rules"][0]["broken"] == ["target"]


def test_a_queue_that_is_away_is_unwell(cli: Cli):
    told = cli("doctor")
    assert told.code == 1
    assert "queue: NATS at nats://127.0.0.1:" in told.out
    assert "documents: source → target: copies on condition" in told.out


def test_a_queue_without_its_streams_is_unwell(queued: Cli):
    told = queued("doctor", "--json")
    assert told.code == 1
    assert "stream not found" in told.json["queue"]["error"]


def test_a_server_that_takes_a_delete_marker_for_an_object_is_found_out(
    stack: Cli, versitygw: Versitygw, make_bucket: Callable[..., str]
):
    bucket = make_bucket(versitygw, versioning=True)
    access = (versitygw.access_key, versitygw.secret_key)
    target = Site("target", bucket, versitygw.endpoint, *access, dialect="versitygw")
    stack.write(sites={**stack.settings.sites, "target": target})
    told = stack("doctor", "--json")
    assert told.code == 0
    (route,) = told.json["rules"]
    assert route["protocol"] == "copies unconditional, deletes on condition"
    assert any("no condition on copies" in warning for warning in route["warnings"])
    assert any("a / at its end, and a body" in warning for warning in route["warnings"])


def test_a_source_is_only_read(stack: Cli, source: Side):
    source.put("k")
    before = source.client.list_object_versions(Bucket=source.bucket)["Versions"]
    stack("doctor")
    assert source.client.list_object_versions(Bucket=source.bucket)["Versions"] == before


def test_a_site_is_a_source_a_target_both_or_neither():
    rules = (Rule("a", "x", ("y",)), Rule("b", "y", ("z",)))
    roles = {name: checkup.role(name, rules) for name in "xyzw"}
    assert roles == {"x": "source", "y": "both", "z": "target", "w": "neither"}


def test_a_site_that_takes_too_long_is_unwell(stack: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkup, "PATIENCE", 0.0)
    told = stack("doctor")
    assert told.code == 1
    assert "target did not answer all within 0 s" in told.out
