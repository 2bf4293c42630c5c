"""Rules that rewrite keys, and rules that choose by tags, on the real thing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.conftest import client_of
from tests.integration.workload import ODD_KEYS, contents
from tests.stack import Stack

pytestmark = pytest.mark.timeout(1800)

SETTINGS = """\
config:
  topology: local
  forceDestroy: true
  sites:
    source: {server: source}
    target: {server: target}
  rules:
    - name: incoming
      source: source
      targets: [target]
      prefix: in/
      targetPrefix: ""
      suffix: .csv
    - name: shared
      source: source
      targets: [target]
      prefix: shared/
      targetPrefix: ours/
      suffix: .txt
      twoWay: true
    - name: chosen
      source: source
      targets: [target]
      prefix: all/
      suffix: .dat
      whereTags: {project: x}
"""
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack that is up, and has these rules."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    (stack.folder / "stacks" / "Pulumi.local.yaml").write_text(SETTINGS, encoding="utf-8")
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def held(stack: Stack, site: str, suffix: str = "") -> dict[str, object]:
    found = contents(stack.server(site), stack.settings.sites[site].bucket)
    return {key: one for key, one in found.items() if key.endswith(suffix)}


def check(stack: Stack) -> None:
    """See that Tandem itself finds nothing wrong."""
    assert json.loads(stack.tandem("errors", "--json").stdout or "[]") == []
    for options in ([], ["--quick"], ["--sample", "100"]):
        verified = stack.tandem("verify", *options)
        assert verified.returncode == 0, verified.stdout


def test_one_way_every_object_has_its_other_name_at_the_target(stack: Stack):
    source, bucket = client_of(stack.server("source")), stack.settings.sites["source"].bucket
    bodies = {key: key.encode() for key in ODD_KEYS if not key.endswith("/") and len(key) < 900}
    bodies["large"] = random.Random(1).randbytes(17 * MIB)
    for key, body in bodies.items():
        source.put_object(Bucket=bucket, Key=f"in/{key}.csv", Body=body, Metadata={"own": "yes"})
    source.put_object(Bucket=bucket, Key="in/left.out", Body=b"another suffix")
    source.put_object(Bucket=bucket, Key="gone.csv", Body=b"another prefix")
    source.put_object(Bucket=bucket, Key="in/gone.csv", Body=b"deleted")
    stack.wait_until_quiet()
    here = held(stack, "source", ".csv")
    expected = {key.removeprefix("in/"): one for key, one in here.items() if key.startswith("in/")}
    assert held(stack, "target") == expected
    assert len(expected) == len(bodies) + 1
    source.delete_object(Bucket=bucket, Key="in/gone.csv")
    stack.wait_until_quiet()
    del expected["gone.csv"]
    assert held(stack, "target", ".csv") == expected
    why = stack.tandem("why", "in/large.csv")
    assert why.returncode == 0, why.stdout
    assert why.stdout.splitlines()[0] == "incoming: source:in/large.csv → target:large.csv"
    assert "copied 17.0 MiB" in why.stdout
    waited = stack.tandem("put", "source", "in/new.csv", __file__, "--wait")
    assert waited.returncode == 0
    assert "source:in/new.csv → target:new.csv after " in waited.stdout
    check(stack)
    source.close()


def test_both_ways_each_side_keeps_its_own_name(stack: Stack):
    clients = {site: client_of(stack.server(site)) for site in ("source", "target")}
    buckets = {site: stack.settings.sites[site].bucket for site in clients}
    names = {"source": "shared/", "target": "ours/"}

    def put(site: str, name: str, body: bytes) -> None:
        key = f"{names[site]}{name}.txt"
        clients[site].put_object(Bucket=buckets[site], Key=key, Body=body)

    def delete(site: str, name: str) -> None:
        clients[site].delete_object(Bucket=buckets[site], Key=f"{names[site]}{name}.txt")

    def sides() -> list[dict[str, object]]:
        return [
            {
                key.removeprefix(prefix): one
                for key, one in held(stack, site).items()
                if key.startswith(prefix)
            }
            for site, prefix in names.items()
        ]

    for number in range(20):
        put("source", f"s{number}", b"source")
        put("target", f"t{number}", b"target")
        put("source", f"both{number}", b"one")
        put("target", f"both{number}", b"other")
    stack.wait_until_quiet()
    here, there = sides()
    assert here == there
    assert len(here) == 60
    put("target", "s0", b"edited where it was copied to")
    put("source", "t0", b"edited where it was copied to")
    delete("target", "s1")
    delete("source", "t1")
    delete("source", "both1")
    stack.wait_until_quiet()
    here, there = sides()
    assert here == there
    gone = {"s1.txt", "t1.txt", "both1.txt"}
    told = [stack.tandem("why", f"shared/{name}").stdout for name in sorted(gone & here.keys())]
    assert not gone & here.keys(), "\n".join(told)
    assert len(here) == 57
    why = stack.tandem("why", "shared/s0.txt")
    assert why.returncode == 0, why.stdout
    assert why.stdout.splitlines()[0] == "shared: source:shared/s0.txt → target:ours/s0.txt"
    back = stack.tandem("why", "ours/s0.txt", "--rule", "shared")
    assert back.stdout.splitlines()[0] == "shared: target:ours/s0.txt → source:shared/s0.txt"
    check(stack)
    for client in clients.values():
        client.close()


def test_objects_are_replicated_while_they_have_the_tags(stack: Stack):
    source, bucket = client_of(stack.server("source")), stack.settings.sites["source"].bucket

    def put(name: str, body: bytes, tags: str) -> None:
        source.put_object(Bucket=bucket, Key=f"all/{name}.dat", Body=body, Tagging=tags)

    def tag(name: str, **tags: str) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        source.put_object_tagging(Bucket=bucket, Key=f"all/{name}.dat", Tagging={"TagSet": pairs})

    def arrived() -> set[str]:
        stack.wait_until_quiet()
        return {
            key.removeprefix("all/").removesuffix(".dat") for key in held(stack, "target", ".dat")
        }

    put("tagged", b"1", "project=x&more=y")
    put("tagged-later", b"1", "")
    put("tagged-otherwise", b"1", "project=y")
    put("untagged-later", b"1", "project=x")
    put("deleted", b"1", "project=x")
    put("large", b"x" * (17 * MIB), "project=x")
    put("large-without", b"x" * (17 * MIB), "")
    assert arrived() == {"tagged", "untagged-later", "deleted", "large"}
    tag("tagged-later", project="x")
    tag("tagged-otherwise", project="y", more="z")
    source.delete_object_tagging(Bucket=bucket, Key="all/untagged-later.dat")
    source.delete_object(Bucket=bucket, Key="all/deleted.dat")
    assert arrived() == {"tagged", "untagged-later", "tagged-later", "large"}
    put("untagged-later", b"changed since", "")
    tag("tagged", project="x", more="edited")
    assert arrived() == {"tagged", "untagged-later", "tagged-later", "large"}
    here, there = held(stack, "source", ".dat"), held(stack, "target", ".dat")
    for name in ("tagged", "tagged-later", "large"):
        assert there[f"all/{name}.dat"] == here[f"all/{name}.dat"]
    # What has lost its tags leaves its copy as it was.
    assert there["all/untagged-later.dat"] != here["all/untagged-later.dat"]
    check(stack)
    told = stack.tandem("verify", "chosen")
    assert "6 keys, none differs, 3 not covered for their tags" in told.stdout
    why = stack.tandem("why", "all/tagged-otherwise.dat")
    assert why.returncode == 0, why.stdout
    assert "nothing is to be done: its tags are not those of the rule" in why.stdout
    assert stack.tandem("reconcile", "chosen").returncode == 0
    assert arrived() == {"tagged", "untagged-later", "tagged-later", "large"}
    source.delete_object(Bucket=bucket, Key="all/untagged-later.dat")
    assert arrived() == {"tagged", "tagged-later", "large"}
    source.close()
