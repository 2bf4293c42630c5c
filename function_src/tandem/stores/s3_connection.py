"""Signed HTTP requests to one bucket on an S3 server.

Requests go out exactly as they are signed: aiohttp adds no header but Host, Content-Length and
User-Agent, normalises no path, follows no redirect and decompresses no body.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from tandem.errors import Invalid, TandemError, Transient
from tandem.settings import Site
from tandem.stores import keys, s3_errors, s3_xml
from tandem.stores.s3_errors import Refusal
from tandem.stores.sigv4 import EMPTY_PAYLOAD, Signer, encode_path, encode_query

CONNECT_SECONDS = 5.0
# The longest silence, in seconds, while something is read or written.
SILENCE_SECONDS = 30.0
# A body above this many bytes is sent in slices, and hashed off the event loop.
SLICE = 256 * 1024
READ_BUFFER = 256 * 1024
MAX_ERROR_BYTES = 64 * 1024
SUCCESS = range(200, 300)
NOT_FOUND = 404
RANGE_NOT_SATISFIABLE = 416
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
FAULTS = (aiohttp.ClientError, TimeoutError, OSError)

P = ParamSpec("P")
T = TypeVar("T")


class Connection:
    """Send requests for one bucket, and tell what went wrong.

    The HTTP session is made in the event loop that first uses it. No request is repeated here,
    with one exception that aiohttp makes by itself: when a kept-alive connection turns out to be
    closed before a byte of an answer, a GET, HEAD, PUT or DELETE goes out once more on a new
    one. That is safe: repeating one of them leaves what doing it once leaves, and if
    the first was carried out after all, a repeated condition fails with `Conflict`, upon which
    the engine looks and finds its own write. POST (creating and completing uploads) is not
    repeated.
    """

    def __init__(self, site: Site, connections: int) -> None:
        self.site = site
        endpoint = URL(site.endpoint)
        self._origin = str(endpoint.origin())
        self._base = f"{endpoint.raw_path.rstrip('/')}/{encode_path(site.bucket)}"
        default = endpoint.is_default_port()
        self._host = f"{endpoint.host_subcomponent}" + ("" if default else f":{endpoint.port}")
        self._signer = Signer(site.access_key, site.secret_key, site.region)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        operation: str,
        method: str,
        key: str = "",
        parameters: Mapping[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer, whatever its status, with the body unread.

        `headers` has lower-case names and is added to. Raises `Transient` if no answer came.
        """
        path = f"{self._base}/{encode_path(key)}" if key else self._base
        query = encode_query(parameters) if parameters else ""
        headers = {"host": self._host, **(headers or {})}
        try:
            self._signer.sign(method, path, query, headers, await _payload_hash(body))
        except UnicodeEncodeError as error:
            raise Invalid(f"{self.what(operation, key)}: a header is not UTF-8: {error}") from error
        headers["user-agent"] = "tandem"
        url = f"{self._origin}{path}?{query}" if query else self._origin + path
        try:
            return await self._open_session().request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=_Slices(body) if len(body) > SLICE else (body or None),
                allow_redirects=False,
            )
        except FAULTS as fault:
            raise self.fault(operation, key, fault, mutating=_mutates(method)) from fault

    async def call(
        self,
        operation: str,
        method: str,
        key: str = "",
        parameters: Mapping[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send a request and return its successful answer with its body; for small answers.

        Raises a TandemError if the server refuses, or no whole answer came.
        """
        answer = await self.send(operation, method, key, parameters, headers, body)
        return answer, await self.success(operation, key, answer)

    async def success(self, operation: str, key: str, answer: aiohttp.ClientResponse) -> bytes:
        """Return the whole body of an answer, if it is a success; for small answers.

        Raises a TandemError if the server refuses, `Transient` if the body ends early.
        """
        if answer.status not in SUCCESS:
            refusal = await self.refusal(operation, key, answer)
            raise self.failure(operation, key, refusal, mutating=_mutates(answer.method))
        try:
            return await answer.read()
        except FAULTS as fault:
            answer.close()
            mutating = _mutates(answer.method)
            raise self.fault(operation, key, fault, mutating=mutating) from fault

    async def refusal(self, operation: str, key: str, answer: aiohttp.ClientResponse) -> Refusal:
        """Return what an answer that is no success says.

        Raises `Transient` if it cannot be read to its end.
        """
        try:
            body = await answer.content.read(MAX_ERROR_BYTES)
        except FAULTS as fault:
            mutating = _mutates(answer.method)
            raise self.fault(operation, key, fault, mutating=mutating) from fault
        finally:
            answer.release()
        code, message = s3_xml.error_of(body)
        code = code or answer.headers.get("x-minio-error-code", "")
        return Refusal(answer.status, code, message, answer.headers)

    def failure(
        self, operation: str, key: str, refusal: Refusal, *, mutating: bool = False
    ) -> TandemError:
        """Return the error that a refusal stands for."""
        return s3_errors.failure(self.what(operation, key), refusal, mutating=mutating)

    def fault(
        self, operation: str, key: str, fault: BaseException, *, mutating: bool = False
    ) -> Transient:
        """Return the error for a request that got no whole answer."""
        unsent = isinstance(fault, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
        reason = str(fault) or type(fault).__name__
        message = f"{self.what(operation, key)}: no answer from {self._origin}: {reason}"
        return Transient(message, unresolved=mutating and not unsent)

    def read(
        self, operation: str, key: str, parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what `parse` makes of an answer.

        Raises `Transient` if it cannot be understood: what one server garbles another, or the
        same one later, may say rightly.
        """
        try:
            return parse(*args, **kwargs)
        except (ValueError, KeyError) as error:
            what = self.what(operation, key)
            raise Transient(f"{what}: the answer cannot be understood: {error!r}") from error

    def what(self, operation: str, key: str) -> str:
        """Return how messages name an operation on a key of this site."""
        return f"{operation} {self.site.name}:{key!r}" if key else f"{operation} {self.site.name}"

    def check_key(self, operation: str, key: str) -> None:
        """Raise `Invalid` if this site cannot keep `key` under that very name."""
        if flaw := keys.flaw(key, self.site.dialect):
            raise Invalid(
                f"{self.what(operation, key)}: this site cannot keep the key: it has {flaw}"
            )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_ADDED_BY_AIOHTTP,
                auto_decompress=False,
                read_bufsize=READ_BUFFER,
            )
        return self._session


class _Slices(aiohttp.Payload):
    """A large body, sent slice by slice and without a copy.

    aiohttp's own time-out begins when a body has been sent; this one bounds each slice.
    """

    _autoclose = True

    def __init__(self, value: bytes | bytearray) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text, as the base class asks; nothing here calls it."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        view = memoryview(self._value)
        for start in range(0, len(view), SLICE):
            async with asyncio.timeout(SILENCE_SECONDS):
                await writer.write(view[start : start + SLICE])


def _mutates(method: str) -> bool:
    return method not in {"GET", "HEAD"}


async def _payload_hash(body: bytes | bytearray) -> str:
    if not body:
        return EMPTY_PAYLOAD
    if len(body) > SLICE:
        # hashlib lets go of the interpreter's lock, so other requests go on meanwhile.
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return hashlib.sha256(body).hexdigest()
