"""Buckets on S3 servers: AWS, MinIO and their like.

Exact about keys and headers, one request for one call, one error model. Nothing is retried here:
whoever calls knows better when, and whether still.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from tandem.change import Dialect
from tandem.errors import Conflict, Transient
from tandem.settings import Site
from tandem.stores import s3_headers, s3_versions, s3_xml
from tandem.stores.base import (
    ALWAYS,
    SCRATCH,
    Capabilities,
    Checksum,
    Condition,
    Content,
    Entry,
    Written,
)
from tandem.stores.keys import unrepresentable
from tandem.stores.s3_connection import NOT_FOUND, RANGE_NOT_SATISFIABLE, Connection
from tandem.stores.s3_errors import Refusal
from tandem.stores.s3_history import S3History
from tandem.stores.s3_reader import Opening
from tandem.stores.s3_uploads import S3Uploads
from tandem.stores.sigv4 import encode_path

# The entries of a page of a listing, and the token of the next, if there is one.
_Page = tuple[Sequence[Entry], str | None]

NOT_MODIFIED = 304
# What is assumed of a server until the probe has asked it, or where it may not be asked. Servers
# of many makes are called aws, so what only AWS is sure to have is not assumed of them.
ASSUMED: Mapping[Dialect, Capabilities] = {
    "aws": Capabilities(unrepresentable=unrepresentable("aws")),
    "minio": Capabilities(unrepresentable=unrepresentable("minio")),
    # On a versioned bucket versitygw takes a delete marker for an object.
    "versitygw": Capabilities(
        conditional_put=False,
        conditional_complete=False,
        unrepresentable=unrepresentable("versitygw"),
    ),
}


class S3Store(S3Uploads, S3History):
    """Read and write one bucket over the S3 protocol; see `tandem.stores.base.ObjectStore`."""

    def __init__(self, connection: Connection, capabilities: Capabilities) -> None:
        self.site = connection.site.name
        self.bucket = connection.site.bucket
        self.capabilities = capabilities
        self._dialect = connection.site.dialect
        self._connection = connection

    @classmethod
    def connect(cls, site: Site, *, connections: int = 64) -> Self:
        """Return the store of a site; it uses at most `connections` connections at once.

        Nothing is sent yet: the first request opens them, in the event loop that makes it.
        """
        return cls(Connection(site, connections), ASSUMED[site.dialect])

    def unguarded(self) -> Self:
        """Return the same bucket, over the same connections, with no condition held back.

        For the probe, which asks whether the server keeps to what this store would not send.
        """
        everything = replace(
            self.capabilities,
            conditional_put=True,
            conditional_complete=True,
            conditional_delete=True,
            conditional_copy=True,
        )
        return type(self)(self._connection, everything)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def is_absent(self, key: str) -> bool:
        """Return whether the server positively says that this one key is not there.

        Asks for one byte, since the answer to a HEAD has no body to say what is missing.
        """
        self._connection.check_key("get", key)
        answer = await self._connection.send("get", "GET", key, headers={"range": "bytes=0-0"})
        if answer.status == NOT_FOUND:
            refusal = await self._connection.refusal("get", key, answer)
            if refusal.is_absence:
                return True
            raise self._connection.failure("get", key, refusal)
        if answer.status == RANGE_NOT_SATISFIABLE:
            await answer.read()
        else:
            await self._connection.success("get", key, answer)
        return False

    def open(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        if_match: str | None = None,
        version_id: str | None = None,
    ) -> Opening:
        """Open `key`, or bytes `span` (first, last, both inclusive) of it, or of one version.

        See `tandem.stores.base.ObjectStore.open`.
        """
        self._connection.check_key("get", key)
        return Opening(self._connection, key, span, if_match, version_id)

    async def put(
        self,
        key: str,
        body: bytes | bytearray,
        content: Content,
        condition: Condition = ALWAYS,
        checksum: Checksum | None = None,
    ) -> Written:
        """Write a whole object in one request; the server may be asked to check its checksum.

        Raises `Conflict` if the condition does not hold, `Invalid` if the key cannot be stored.
        """
        self._connection.check_key("put", key)
        headers = s3_headers.content_headers(content, self._dialect)
        headers |= self._condition("put", condition, can=self.capabilities.conditional_put)
        if checksum:
            digest = base64.b64encode(checksum.digest).decode()
            headers[f"x-amz-checksum-{checksum.algorithm}"] = digest
        answer, _ = await self._connection.call("put", "PUT", key, headers=headers, body=body)
        return Written(
            answer.headers.get("etag", "").strip('"'), answer.headers.get("x-amz-version-id")
        )

    async def copy(
        self,
        source: str,
        key: str,
        content: Content,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        condition: Condition = ALWAYS,
    ) -> Written:
        """Let the server copy the bytes of `source`, a key of this bucket, and give them `content`.

        `if_match` and `if_none_match` are ETags that `source` must have, or must not. Raises
        `Conflict` if one of them or the condition at `key` does not hold.
        """
        self._connection.check_key("copy to", key)
        headers = s3_headers.content_headers(content, self._dialect) | {
            "x-amz-copy-source": f"/{self._connection.site.bucket}/{encode_path(source)}",
            "x-amz-metadata-directive": "REPLACE",
            "x-amz-tagging-directive": "REPLACE",
        }
        if if_match is not None:
            headers["x-amz-copy-source-if-match"] = f'"{if_match}"'
        if if_none_match is not None:
            headers["x-amz-copy-source-if-none-match"] = f'"{if_none_match}"'
        headers |= self._condition("copy", condition, can=self.capabilities.conditional_copy)
        answer = await self._connection.send("copy to", "PUT", key, headers=headers)
        if answer.status == NOT_MODIFIED:  # versitygw's way to say 412
            await answer.read()
            raise Conflict(
                f"{self._connection.what('copy to', key)}: {source!r} is {if_none_match}"
            )
        body = await self._connection.success("copy to", key, answer)
        etag = s3_xml.completed_etag_of(body)
        if etag is None:  # as with completions, a failure may come after the status 200
            refusal = Refusal(answer.status, *s3_xml.error_of(body), answer.headers)
            raise self._connection.failure("copy to", key, refusal, mutating=True)
        return Written(etag, answer.headers.get("x-amz-version-id"))

    async def delete(self, key: str, condition: Condition = ALWAYS) -> None:
        """Delete `key`; on a versioned bucket this leaves a delete marker."""
        self._connection.check_key("delete", key)
        can = self.capabilities.conditional_delete and not condition.if_absent
        headers = self._condition("delete", condition, can=can)
        await self._connection.call("delete", "DELETE", key, headers=headers)

    async def tags(self, key: str, version_id: str | None = None) -> Mapping[str, str]:
        """Return the tags of `key`, or of one version; empty if it has none or is not there."""
        self._connection.check_key("get tags of", key)
        query = {"tagging": ""} | s3_versions.query_of(version_id)
        answer = await self._connection.send("get tags of", "GET", key, query)
        if answer.status == NOT_FOUND:
            refusal = await self._connection.refusal("get tags of", key, answer)
            if refusal.is_absence or refusal.code == "NoSuchTagSet":
                return {}
            raise self._connection.failure("get tags of", key, refusal)
        body = await self._connection.success("get tags of", key, answer)
        return self._connection.read("get tags of", key, s3_xml.tags_of, body)

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of `key`; an empty mapping removes them.

        Raises `Conflict` if `key` is not there.
        """
        self._connection.check_key("tag", key)
        query = {"tagging": ""}
        if not tags:
            await self._connection.call("untag", "DELETE", key, query)
            return
        body = s3_xml.tagging_document(tags)
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()  # noqa: S324 -- S3 requires Content-MD5 of this request
        await self._connection.call("tag", "PUT", key, query, {"content-md5": md5}, body)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Entry]:
        """Yield the current objects in the order of their keys' UTF-8 bytes.

        Each page is asked for while the one before it is read. Raises `Transient` if the server
        lists in another order, a page cannot be read, or the pages lead nowhere: whoever merges
        two listings would take what is out of place for missing.
        """
        last, token = start_after, ""
        page: asyncio.Task[_Page] | None = asyncio.create_task(self._page(prefix, start_after, ""))
        try:
            while page:
                entries, following = await page
                page = None
                if following is not None:
                    self._check_progress(entries, token, following)
                    token = following
                    page = asyncio.create_task(self._page(prefix, start_after, token))
                for entry in entries:
                    # The order of code points is the order of UTF-8 bytes.
                    if entry.key <= last:
                        raise self._distrust(f"{entry.key!r} was listed after {last!r}")
                    last = entry.key
                    yield entry
        finally:
            if page:
                page.cancel()
                await asyncio.gather(page, return_exceptions=True)

    def _check_progress(self, entries: Sequence[Entry], token: str, following: str) -> None:
        """Raise `Transient` if a page that promises another makes no headway itself."""
        if not entries:
            raise self._distrust("a page without a key promises another page")
        if following == token:
            raise self._distrust(f"the page after the token {token!r} is said to be that page")

    def _distrust(self, why: str) -> Transient:
        return Transient(f"list {self.site}: {why}, so the listing cannot be trusted")

    async def page(self, prefix: str, start_after: str = "") -> tuple[Entry, ...]:
        """Return the first page of a listing, in whatever order the server gives it."""
        return tuple((await self._page(prefix, start_after, ""))[0])

    async def purge(self, prefix: str) -> None:
        """Delete every version and delete marker of the scratch keys under `prefix`.

        Raises ValueError if they are not under SCRATCH: nothing else is ever purged.
        """
        if not prefix.startswith(SCRATCH):
            raise ValueError(f"only keys under {SCRATCH} are purged, and {prefix!r} is not")
        async for page in self._version_pages(prefix):
            for found in page:
                query = s3_versions.query_of(found.version_id)
                await self._connection.call("delete", "DELETE", found.key, query)

    async def _page(self, prefix: str, start_after: str, token: str) -> _Page:
        """Return a page of a listing and the token of the next, if any."""
        query = {"list-type": "2", "encoding-type": "url"}
        given = {"prefix": prefix, "start-after": start_after, "continuation-token": token}
        query |= {name: value for name, value in given.items() if value}
        _, body = await self._connection.call("list", "GET", "", query)
        return self._connection.read("list", "", s3_xml.entries_of, body)
