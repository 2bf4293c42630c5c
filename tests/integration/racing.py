"""A source and a target on one real server, and the means to hold up who replicates between them.

What readers see at the target is asked by boto3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tandem.change import Change
from tandem.engine import Engine
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores.s3 import S3Store
from tandem.transfer import Transfer

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

KEY = "racing/key"
RULE = Rule("all", "source", ("target",))
PART = 5 * 1024 * 1024


class Held:
    """A store before which one call waits: the next of `operation`, after `skip` of them."""

    def __init__(self, store: S3Store, operation: str, skip: int = 0) -> None:
        self._store = store
        self._operation = operation
        self._left = skip
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        if name != self._operation or self.reached.is_set():
            return call
        self._left -= 1
        return call if self._left >= 0 else self._wait_before(call)

    def _wait_before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def wait(*arguments: Any, **named: Any) -> Any:
            self.reached.set()
            await self.opened.wait()
            return await call(*arguments, **named)

        return wait


@dataclass
class Pair:
    """A source and a target bucket on one server, and workers that replicate between them."""

    source: S3Store
    target: S3Store
    sites: dict[str, Site]
    client: S3Client

    def put(self, body: bytes, **extra: Any) -> Change:
        """Put an object at the source and return the change that tells of it."""
        bucket = self.sites["source"].bucket
        written = self.client.put_object(Bucket=bucket, Key=KEY, Body=body, **extra)
        return Change("source", KEY, etag=written["ETag"].strip('"'), size=len(body))

    def delete(self) -> Change:
        """Delete the object at the source and return the change that tells of it."""
        self.client.delete_object(Bucket=self.sites["source"].bucket, Key=KEY)
        return Change("source", KEY, removed=True)

    def undelete(self) -> Change:
        """Remove the delete marker at the versioned source, and return a change of the key."""
        bucket = self.sites["source"].bucket
        markers = self.client.list_object_versions(Bucket=bucket, Prefix=KEY)["DeleteMarkers"]
        for marker in markers:
            self.client.delete_object(Bucket=bucket, Key=KEY, VersionId=marker["VersionId"])
        return Change("source", KEY)

    async def work(self, change: Change, target: Any = None) -> Any:
        """Do what a worker does about a change, one that sees the target as `target`."""
        stores = {"source": self.source, "target": target or self.target}
        engine = Engine(stores, (RULE,), Transfer(part_size=PART, lanes=1))
        return await engine.converge(RULE, "target", change)

    def at_target(self) -> bytes | None:
        """Return what a reader of the target sees."""
        try:
            found = self.client.get_object(Bucket=self.sites["target"].bucket, Key=KEY)
        except self.client.exceptions.NoSuchKey:
            return None
        return found["Body"].read()

    def ever_at_target(self) -> set[bytes]:
        """Return all that readers of the target can ever have seen; the bucket is versioned."""
        bucket = self.sites["target"].bucket
        versions = self.client.list_object_versions(Bucket=bucket, Prefix=KEY)["Versions"]
        found = [
            self.client.get_object(Bucket=bucket, Key=KEY, VersionId=one["VersionId"])
            for one in versions
        ]
        return {one["Body"].read() for one in found}
