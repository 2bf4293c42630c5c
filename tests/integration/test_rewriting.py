"""Rules under which objects have other keys at the target, on the real thing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.conftest import client_of
from tests.integration.workload import ODD_KEYS, contents
from tests.stack import Stack

pytestmark = [pytest.mark.xdist_group("engine"), pytest.mark.timeout(900)]

RULES = (
    {
        "name": "incoming",
        "source": "source",
        "targets": ["target"],
        "prefix": "in/",
        "targetPrefix": "",
        "suffix": ".csv",
    },
    {
        "name": "shared",
        "source": "source",
        "targets": ["target"],
        "prefix": "shared/",
        "targetPrefix": "ours/",
        "suffix": ".txt",
        "twoWay": True,
    },
)
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack that is up, with a rule that goes one way and one that goes both ways."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    for number, rule in enumerate(RULES):
        for key, value in rule.items():
            for place, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
                path = f"rules[{number}].{key}" + (f"[{place}]" if place is not None else "")
                text = json.dumps(one) if isinstance(one, bool) else str(one)
                stack.pulumi("config", "set", "--path", path, text, "--stack", stack.name)
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def held(stack: Stack, site: str) -> dict[str, object]:
    return contents(stack.server(site), stack.settings.sites[site].bucket)


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
    expected = {key.removeprefix("in/"): one for key, one in held(stack, "source").items()}
    del expected["left.out"]
    assert held(stack, "target") == expected
    assert len(expected) == len(bodies) + 1
    source.delete_object(Bucket=bucket, Key="in/gone.csv")
    stack.wait_until_quiet()
    del expected["gone.csv"]
    assert held(stack, "target") == expected
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
    assert len(here) == 57
    why = stack.tandem("why", "shared/s0.txt")
    assert why.returncode == 0, why.stdout
    assert why.stdout.splitlines()[0] == "shared: source:shared/s0.txt → target:ours/s0.txt"
    back = stack.tandem("why", "ours/s0.txt", "--rule", "shared")
    assert back.stdout.splitlines()[0] == "shared: target:ours/s0.txt → source:shared/s0.txt"
    check(stack)
    for client in clients.values():
        client.close()
