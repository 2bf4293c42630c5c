"""Multipart uploads on S3 servers: their parts, their end, and what is left of them."""

from __future__ import annotations

import asyncio

from tandem.change import Dialect
from tandem.errors import Conflict, Invalid
from tandem.stores import s3_headers, s3_versions, s3_xml
from tandem.stores.base import (
    ALWAYS,
    Capabilities,
    Condition,
    Content,
    Part,
    Upload,
    Written,
)
from tandem.stores.s3_connection import NOT_FOUND, Connection
from tandem.stores.s3_errors import Refusal

# How many parts of one object are asked about at once.
PARTS_AT_ONCE = 16


class S3Uploads:
    """The part of an S3 store that deals in parts; see `tandem.stores.base.ObjectStore`."""

    _connection: Connection
    _dialect: Dialect
    capabilities: Capabilities
    site: str

    async def part_sizes(
        self, key: str, etag: str, version_id: str | None = None
    ) -> tuple[int, ...]:
        """Return the sizes in bytes of the parts that `key` was uploaded in.

        Raises `Conflict` if `key`, or that version of it, does not have `etag`.
        """
        first, count = await self._part(key, etag, version_id, 1)
        if count == 1:
            return (first,)
        limit = asyncio.Semaphore(PARTS_AT_ONCE)

        async def size(number: int) -> int:
            async with limit:
                return (await self._part(key, etag, version_id, number))[0]

        others = await asyncio.gather(*(size(number) for number in range(2, count + 1)))
        return (first, *others)

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

    async def _part(
        self, key: str, etag: str, version_id: str | None, number: int
    ) -> tuple[int, int]:
        """Return the size of a part in bytes, and how many parts the object has."""
        what = "head part of"
        condition = s3_headers.condition_headers(Condition(if_match=etag))
        query = {"partNumber": str(number)} | s3_versions.query_of(version_id)
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
