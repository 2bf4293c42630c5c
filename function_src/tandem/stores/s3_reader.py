"""Reading an object's bytes from an S3 server."""

from __future__ import annotations

from types import TracebackType

from tandem.errors import Transient
from tandem.stores.base import Condition, ObjectState
from tandem.stores.http1_answer import Answer
from tandem.stores.s3_connection import NOT_FOUND, SUCCESS, Connection
from tandem.stores.s3_headers import condition_headers, span_of, state_of
from tandem.stores.s3_versions import query_of

# A body up to this many bytes is read in one piece; a larger one into a buffer made beforehand.
ONE_PIECE = 256 * 1024


class S3Reader:
    """Give an open object; see `tandem.stores.base.Reader`."""

    def __init__(self, connection: Connection, answer: Answer, state: ObjectState) -> None:
        self.state = state
        self._connection = connection
        self._answer = answer

    async def read(self) -> bytes | bytearray:
        """Return every byte that was asked for.

        Raises `Transient` if the body ends early or stalls.
        """
        size = self._answer.length
        try:
            if size is None or size <= ONE_PIECE:
                return await self._answer.read()
            await self._answer.read_into(buffer := bytearray(size))
        except OSError as fault:
            raise self._connection.fault("get", self.state.key, fault) from fault
        return buffer


class Opening:
    """Open an object for as long as a context lasts; see `ObjectStore.open`."""

    def __init__(
        self,
        connection: Connection,
        key: str,
        span: tuple[int, int] | None,
        if_match: str | None,
        version_id: str | None = None,
    ) -> None:
        self._connection = connection
        self._key = key
        self._span = span
        self._query = query_of(version_id)
        self._headers = condition_headers(Condition(if_match=if_match))
        if span is not None:
            self._headers["range"] = f"bytes={span[0]}-{span[1]}"
        self._answer: Answer | None = None

    async def __aenter__(self) -> S3Reader | None:
        connection, key = self._connection, self._key
        answer = await connection.send("get", "GET", key, self._query, self._headers)
        if answer.status == NOT_FOUND:
            refusal = await connection.refusal("get", key, answer)
            if refusal.is_absence or refusal.code == "NoSuchVersion":
                return None
            raise connection.failure("get", key, refusal)
        if answer.status not in SUCCESS:
            await connection.success("get", key, answer)
        self._answer = answer
        state = connection.read(
            "get", key, state_of, key, answer.headers.items(), connection.site.dialect
        )
        self._check_span(answer)
        return S3Reader(connection, answer, state)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._answer is not None:
            # Drops the connection if bytes are still to come; after the last one it is long
            # back among the kept ones, and this does nothing.
            self._answer.close()

    def _check_span(self, answer: Answer) -> None:
        if self._span is None:
            return
        got = self._connection.read("get", self._key, span_of, answer.headers)
        if got is None or got[0] != self._span[0] or got[1] > self._span[1]:
            raise Transient(
                f"{self._connection.what('get', self._key)}: bytes {self._span[0]} to "
                f"{self._span[1]} were asked for, and the server gave {got or 'all'}"
            )
