"""What S3 servers tell of keys and of their versions, without a byte of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from tandem.change import Dialect
from tandem.errors import Transient
from tandem.stores import s3_headers, s3_versions
from tandem.stores.base import ObjectState, Version, Versioning
from tandem.stores.s3_connection import NOT_FOUND, Connection

_LIST = "list versions of"


class S3History:
    """The part of an S3 store that tells states; see `tandem.stores.base.ObjectStore`."""

    _connection: Connection
    _dialect: Dialect
    site: str

    async def head(self, key: str, version_id: str | None = None) -> ObjectState | None:
        """Return the state of `key`, or of one version of it; None if a HEAD answers 404."""
        self._connection.check_key("head", key)
        query = s3_versions.query_of(version_id)
        answer = await self._connection.send("head", "HEAD", key, query)
        if answer.status == NOT_FOUND:
            return None
        await self._connection.success("head", key, answer)
        return self._connection.read(
            "head", key, s3_headers.state_of, key, answer.headers.items(), self._dialect
        )

    async def history(self, key: str, most: int) -> tuple[ObjectState, ...]:
        """Return the versions before the latest, the newest first; at most `most`."""
        self._connection.check_key(_LIST, key)
        ids: list[str] = []
        async with aclosing(self.versions(key)) as found:
            async for version in found:
                if version.key != key or len(ids) == most:
                    break
                if not (version.is_latest or version.is_marker):
                    ids.append(version.version_id)
        states = await asyncio.gather(*(self.head(key, version_id) for version_id in ids))
        return tuple(state for state in states if state)

    async def versions(
        self, prefix: str = "", start_after: str = ""
    ) -> AsyncGenerator[Version, None]:
        """Yield all versions and delete markers, by key as `list` does, each key's newest first.

        Raises `Transient` if the keys are listed in another order, a page cannot be read, or the
        pages lead nowhere.
        """
        last = start_after
        async with aclosing(self._version_pages(prefix, start_after)) as pages:
            async for page in pages:
                for version in page:
                    if version.key == start_after:
                        continue  # versitygw begins with it
                    if version.key < last:
                        why = f"{version.key!r} was listed after {last!r}"
                        raise Transient(f"{_LIST} {self.site}: {why}, so it cannot be trusted")
                    last = version.key
                    yield version

    async def versioning(self) -> Versioning:
        """Return whether the bucket keeps old versions of what is written now."""
        _, body = await self._connection.call("get versioning of", "GET", "", {"versioning": ""})
        return self._connection.read("get versioning of", "", s3_versions.versioning_of, body)

    async def _version_pages(
        self, prefix: str, start_after: str = ""
    ) -> AsyncGenerator[Sequence[Version], None]:
        """Yield the pages of a listing of versions; raises `Transient` if they lead nowhere."""
        query = {"versions": "", "encoding-type": "url", "prefix": prefix}
        following: dict[str, str] | None = {"key-marker": start_after} if start_after else {}
        while following is not None:
            _, body = await self._connection.call(_LIST, "GET", "", query | following)
            found, after = self._connection.read(_LIST, "", s3_versions.versions_of, body)
            yield found
            if after == following:
                raise Transient(f"{_LIST} {self.site}: a page is said to be followed by itself")
            following = after
