"""Buckets on S3 servers: AWS, MinIO and their like.

Exact about keys and headers, one request for one call, one error model. Nothing is retried here:
whoever calls knows better when, and whether still.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Self

from tandem.change import Dialect
from tandem.errors import Conflict, Invalid, Transient
from tandem.settings import Site
from tandem.stores import s3_headers, s3_xml
from tandem.stores.base import (
    ALWAYS,
    Capabilities,
    Condition,
    Content,
    Entry,
    ObjectState,
    Part,
    Upload,
    Written,
)
from tandem.stores.keys import unrepresentable
from tandem.stores.s3_connection import NOT_FOUND, RANGE_NOT_SATISFIABLE, Connection
from tandem.stores.s3_errors import Refusal
from tandem.stores.s3_reader import Opening

# How many parts of one object are asked about at once.
PARTS_AT_ONCE = 16
CAPABILITIES: Mapping[Dialect, Capabilities] = {
    # Conditional deletes: AWS has them since September 2025; MinIO takes the header and ignores it.
    "aws": Capabilities(conditional_delete=True, unrepresentable=unrepresentable("aws")),
    "minio": Capabilities(unrepresentable=unrepresentable("minio")),
    "versitygw": Capabilities(
        conditional_put=False,
        conditional_complete=False,
        unrepresentable=unrepresentable("versitygw"),
    ),
}


class S3Store:
    """Read and write one bucket over the S3 protocol; see `tandem.stores.base.ObjectStore`."""

    def __init__(self, connection: Connection, capabilities: Capabilities) -> None:
        self.site = connection.site.name
        self.capabilities = capabilities
        self._dialect = connection.site.dialect
        self._connection = connection

    @classmethod
    def connect(cls, site: Site, *, connections: int = 64) -> Self:
        """Return the store of a site; it uses at most `connections` connections at once.

        Nothing is sent yet: the first request opens them, in the event loop that makes it.
        """
        return cls(Connection(site, connections), CAPABILITIES[site.dialect])

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def head(self, key: str) -> ObjectState | None:
        """Return the state of `key`, or None if a HEAD answers 404."""
        self._connection.check_key("head", key)
        answer = await self._connection.send("head", "HEAD", key)
        if answer.status == NOT_FOUND:
            return None
        await self._connection.success("head", key, answer)
        return self._connection.read(
            "head", key, s3_headers.state_of, key, answer.headers.items(), self._dialect
        )

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
            await answer.read()  # it is there, and empty
        else:
            await self._connection.success("get", key, answer)
        return False

    async def part_sizes(self, key: str, etag: str) -> tuple[int, ...]:
        """Return the sizes in bytes of the parts that `key` was uploaded in.

        Raises `Conflict` if `key` no longer has `etag`.
        """
        first, count = await self._part(key, etag, 1)
        if count == 1:
            return (first,)
        limit = asyncio.Semaphore(PARTS_AT_ONCE)

        async def size(number: int) -> int:
            async with limit:
                return (await self._part(key, etag, number))[0]

        others = await asyncio.gather(*(size(number) for number in range(2, count + 1)))
        return (first, *others)

    def open(
        self,
        key: str,
        *,
        span: tuple[int, int] | None = None,
        if_match: str | None = None,
    ) -> Opening:
        """Open `key`, or bytes `span` (first, last, both inclusive) of it.

        See `tandem.stores.base.ObjectStore.open`.
        """
        self._connection.check_key("get", key)
        return Opening(self._connection, key, span, if_match)

    async def put(
        self, key: str, body: bytes | bytearray, content: Content, condition: Condition = ALWAYS
    ) -> Written:
        """Write a whole object in one request.

        Raises `Conflict` if the condition does not hold, `Invalid` if the key cannot be stored.
        """
        self._connection.check_key("put", key)
        headers = s3_headers.content_headers(content, self._dialect)
        headers |= self._condition("put", condition, can=self.capabilities.conditional_put)
        answer, _ = await self._connection.call("put", "PUT", key, headers=headers, body=body)
        return Written(
            answer.headers.get("etag", "").strip('"'), answer.headers.get("x-amz-version-id")
        )

    async def delete(self, key: str, condition: Condition = ALWAYS) -> None:
        """Delete `key`; on a versioned bucket this leaves a delete marker."""
        self._connection.check_key("delete", key)
        can = self.capabilities.conditional_delete and not condition.if_absent
        headers = self._condition("delete", condition, can=can)
        await self._connection.call("delete", "DELETE", key, headers=headers)

    async def tags(self, key: str) -> Mapping[str, str]:
        """Return the tags of `key`; empty if it has none or is not there."""
        self._connection.check_key("get tags of", key)
        answer = await self._connection.send("get tags of", "GET", key, {"tagging": ""})
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

        Raises `Transient` if the server lists them in another order, or a page cannot be read:
        whoever merges two listings would take what is out of place for missing.
        """
        query = {"list-type": "2", "encoding-type": "url"}
        if prefix:
            query["prefix"] = prefix
        if start_after:
            query["start-after"] = start_after
        last = start_after
        while True:
            _, body = await self._connection.call("list", "GET", "", query)
            entries, token = self._connection.read("list", "", s3_xml.entries_of, body)
            for entry in entries:
                # The order of code points is the order of UTF-8 bytes.
                if entry.key <= last:
                    raise Transient(
                        f"list {self.site}: {entry.key!r} was listed after {last!r}, "
                        "so the listing cannot be trusted"
                    )
                last = entry.key
                yield entry
            if token is None:
                return
            query["continuation-token"] = token

    async def create_upload(self, key: str, content: Content) -> str:
        """Begin a multipart upload and return its id."""
        self._connection.check_key("create upload of", key)
        headers = s3_headers.content_headers(content, self._dialect)
        _, body = await self._connection.call(
            "create upload of", "POST", key, {"uploads": ""}, headers
        )
        return self._connection.read("create upload of", key, s3_xml.upload_id_of, body)

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray
    ) -> Part:
        """Send one part; `number` counts from 1.

        Raises `Conflict` if the upload is gone (finished or aborted by somebody else).
        """
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer, _ = await self._connection.call("upload part of", "PUT", key, query, body=body)
        return Part(number, answer.headers.get("etag", "").strip('"'), len(body))

    async def complete_upload(
        self, key: str, upload_id: str, parts: tuple[Part, ...], condition: Condition = ALWAYS
    ) -> Written:
        """Make the object of exactly these parts; others of the upload are dropped."""
        can = self.capabilities.conditional_complete
        headers = self._condition("complete upload of", condition, can=can)
        document = s3_xml.completion_document(parts)
        query = {"uploadId": upload_id}
        answer, body = await self._connection.call(
            "complete upload of", "POST", key, query, headers, document
        )
        etag = s3_xml.completed_etag_of(body)
        if etag is None:
            refusal = Refusal(answer.status, *s3_xml.error_of(body), answer.headers)
            raise self._connection.failure("complete upload of", key, refusal, mutating=True)
        return Written(etag, answer.headers.get("x-amz-version-id"))

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; an upload that is already gone is no error."""
        try:
            await self._connection.call("abort upload of", "DELETE", key, {"uploadId": upload_id})
        except Conflict:
            return

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return the unfinished uploads under `prefix`, oldest first.

        MinIO answers for the empty prefix and for the exact key of an object, and for no other.
        """
        query = {"uploads": "", "encoding-type": "url"} | ({"prefix": prefix} if prefix else {})
        uploads: list[Upload] = []
        following: dict[str, str] | None = {}
        while following is not None:
            _, body = await self._connection.call("list uploads of", "GET", "", query | following)
            page, following = self._connection.read("list uploads of", "", s3_xml.uploads_of, body)
            uploads += page
        return tuple(sorted(uploads, key=lambda upload: upload.initiated))

    async def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        """Return the parts of an unfinished upload by number.

        Raises `Conflict` if the upload is gone.
        """
        parts: list[Part] = []
        marker: str | None = "0"
        while marker is not None:
            query = {"uploadId": upload_id, "part-number-marker": marker}
            answer, body = await self._connection.call("list parts of", "GET", key, query)
            date = answer.headers.get("date", "")
            page, marker = self._connection.read("list parts of", key, s3_xml.parts_of, body, date)
            parts += page
        return tuple(parts)

    async def _part(self, key: str, etag: str, number: int) -> tuple[int, int]:
        """Return the size of a part in bytes, and how many parts the object has."""
        what = "head part of"
        condition = s3_headers.condition_headers(Condition(if_match=etag))
        query = {"partNumber": str(number)}
        answer = await self._connection.send(what, "HEAD", key, query, condition)
        if answer.status == NOT_FOUND:
            raise Conflict(f"{self._connection.what(what, key)}: the object is gone")
        await self._connection.success(what, key, answer)
        count = int(answer.headers.get("x-amz-mp-parts-count", "1"))
        return int(answer.headers["content-length"]), count

    def _condition(self, operation: str, condition: Condition, *, can: bool) -> dict[str, str]:
        """Return the headers of a condition.

        Raises `Invalid` where the server would take the condition and not keep to it.
        """
        if condition != ALWAYS and not can:
            raise Invalid(f"{operation} {self.site}: this site knows no such condition")
        return s3_headers.condition_headers(condition)
