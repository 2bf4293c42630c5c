"""`--dry-run`, wherever a command changes something."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem.change import Change
from tandem.cli.stack import Stack
from tandem.errors import ErrorClass
from tandem.queues.base import Failure
from tests.cli.conftest import Cli, Side, held

DRY = [
    ["sync"],
    ["sync", "--thorough", "--json"],
    ["reconcile"],
    ["reconcile", "--thorough", "--json"],
    ["redrive"],
    ["redrive", "--json"],
    ["discard", "--class", "poison"],
    ["discard", "--key", "*", "--yes", "--json"],
    ["rm-bucket", "target"],
    ["rm-bucket", "source", "--yes", "--json"],
]


def contents(side: Side) -> Any:
    """Return each version, delete marker and unfinished upload of a bucket, with its headers."""
    listed = side.client.list_object_versions(Bucket=side.bucket)
    heads = []
    for one in listed.get("Versions", ()):
        head = side.client.head_object(
            Bucket=side.bucket, Key=one["Key"], VersionId=one["VersionId"]
        )
        heads.append((head["Metadata"], head["ContentType"], head.get("TagCount")))
    uploads = side.client.list_multipart_uploads(Bucket=side.bucket, Prefix="half")
    return listed.get("Versions"), listed.get("DeleteMarkers"), uploads.get("Uploads"), heads


@pytest.fixture
def busy(streams: Cli, source: Side, target: Side) -> Cli:
    """A stack in which each command has something to do."""
    source.put("new")
    for side in (source, target):
        side.put("gone")
    streams("sync")
    source.put("new", b"newer", Tagging="a=b")
    source.delete("gone")
    target.put("theirs")
    for side in (source, target):
        side.client.create_multipart_upload(Bucket=side.bucket, Key="half")

    async def fail() -> None:
        now = datetime.now(UTC)
        change = Change("source", "new")
        async with Stack(streams.path).queue() as queue:
            await queue.fail(
                Failure("", ErrorClass.DENIED, "documents", "target", change, "403", 1, now, now)
            )
            await queue.fail(Failure("", ErrorClass.POISON, "", "", None, "no", 1, now, now, "{"))

    asyncio.run(fail())
    return streams


@pytest.mark.parametrize("words", DRY, ids=" ".join)
def test_a_dry_run_tells_what_would_happen_and_changes_nothing(
    busy: Cli, source: Side, target: Side, words: list[str]
):
    def state() -> Any:
        files = sorted(path.name for path in busy.path.parent.iterdir())
        streams = asyncio.run(held(busy.settings.queue))
        return contents(source), contents(target), streams, files

    before = state()
    told = busy(*words, "--dry-run")
    assert (told.code, told.err) == (0, "" if "redrive" not in words or "--json" in words else LEFT)
    assert ("would " in told.out) or told.json["dry_run"]
    assert state() == before


LEFT = "1 message that cannot be understood stays: see `tandem errors` and `tandem discard`\n"
