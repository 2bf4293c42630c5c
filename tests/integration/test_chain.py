"""Rules that pass objects on, and spread them, on the real thing: A to B, B to C, and A to D."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tandem.stores.base import SCRATCH
from tests.conftest import client_of
from tests.integration.workload import Item, contents, work
from tests.stack import Stack

pytestmark = pytest.mark.timeout(1800)

SETTINGS = """\
config:
  topology: local
  forceDestroy: true
  sites:
    first: {server: source}
    middle: {server: target}
    last: {server: source}
    beside: {server: target}
  rules:
    - {name: spread, source: first, targets: [middle, beside]}
    - {name: onwards, source: middle, targets: [last]}
"""
ONWARDS = ("middle", "last", "beside")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a stack of four buckets that is up."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    (stack.folder / "stacks" / "Pulumi.local.yaml").write_text(SETTINGS, encoding="utf-8")
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def held(stack: Stack, site: str) -> dict[str, tuple[object, ...]]:
    """Return all that a site's bucket holds, but for what a worker tries out at its start."""
    found = contents(stack.server(site), stack.settings.sites[site].bucket)
    return {key: told for key, told in found.items() if not key.startswith(SCRATCH)}


def test_what_is_put_overwritten_and_deleted_goes_down_the_chain_and_to_every_target(stack: Stack):
    plan = [Item(f"in/{number:03}", 100 * number) for number in range(200)]
    work(stack.server("first"), stack.settings.sites["first"].bucket, plan, seed=5)
    stack.wait_until_quiet()
    first = held(stack, "first")
    assert 100 < len(first) < 200  # some were deleted
    for site in ONWARDS:
        assert held(stack, site) == first
    verified = stack.tandem("verify", "--json")
    assert verified.returncode == 0, verified.stdout

    site = stack.settings.sites["last"]
    client = client_of(stack.server("last"))
    told = client.head_object(Bucket=site.bucket, Key=min(first))["Metadata"]
    client.close()
    assert told["tandem-source"] == "middle"  # where it came from, not where that came from
