"""Signed HTTP requests to one bucket on an S3 server; they go out exactly as they are signed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from tandem.errors import Invalid, TandemError, Transient
from tandem.settings import Site
from tandem.stores import keys, s3_errors, s3_xml
from tandem.stores.http1 import PORTS, SLICE, Client, Unsent
from tandem.stores.http1_answer import Answer
from tandem.stores.s3_errors import Refusal
from tandem.stores.sigv4 import EMPTY_PAYLOAD, Signer, encode_path, encode_query

CONNECT_SECONDS = 5.0
# The longest silence, in seconds, while something is read or written.
SILENCE_SECONDS = 30.0
MAX_ERROR_BYTES = 64 * 1024
SUCCESS = range(200, 300)
NOT_FOUND = 404
RANGE_NOT_SATISFIABLE = 416

P = ParamSpec("P")
T = TypeVar("T")


class Connection:
    """Send requests for one bucket, and tell what went wrong.

    No request is repeated here, with one exception that the HTTP client makes: when a kept
    connection turns out to be closed before a byte of an answer, a GET or HEAD goes out once more
    on a new one.
    """

    def __init__(self, site: Site, connections: int) -> None:
        self.site = site
        endpoint = urlsplit(site.endpoint)
        self._base = f"{endpoint.path.rstrip('/')}/{encode_path(site.bucket)}"
        # A default port is left out, as HTTP clients do and servers expect when they check.
        self._host = endpoint.netloc.removesuffix(f":{PORTS[endpoint.scheme]}")
        self._signer = Signer(site.access_key, site.secret_key, site.region)
        self._client = Client(
            endpoint, connections, connect=CONNECT_SECONDS, silence=SILENCE_SECONDS
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def send(
        self,
        operation: str,
        method: str,
        key: str = "",
        parameters: Mapping[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> Answer:
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
        try:
            return await self._client.request(
                method, f"{path}?{query}" if query else path, headers, body
            )
        except OSError as fault:
            raise self.fault(operation, key, fault, mutating=_mutates(method)) from fault

    async def call(
        self,
        operation: str,
        method: str,
        key: str = "",
        parameters: Mapping[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> tuple[Answer, bytes]:
        """Send a request and return its successful answer with its body; for small answers.

        Raises a TandemError if the server refuses, or no whole answer came.
        """
        answer = await self.send(operation, method, key, parameters, headers, body)
        return answer, await self.success(operation, key, answer)

    async def success(self, operation: str, key: str, answer: Answer) -> bytes:
        """Return the whole body of an answer, if it is a success; for small answers.

        Raises a TandemError if the server refuses, `Transient` if the body ends early.
        """
        if answer.status not in SUCCESS:
            refusal = await self.refusal(operation, key, answer)
            raise self.failure(operation, key, refusal, mutating=_mutates(answer.method))
        try:
            return await answer.read()
        except OSError as fault:
            mutating = _mutates(answer.method)
            raise self.fault(operation, key, fault, mutating=mutating) from fault

    async def refusal(self, operation: str, key: str, answer: Answer) -> Refusal:
        """Return what an answer that is no success says.

        Raises `Transient` if it cannot be read to its end.
        """
        try:
            body = await answer.read(MAX_ERROR_BYTES)
        except OSError as fault:
            mutating = _mutates(answer.method)
            raise self.fault(operation, key, fault, mutating=mutating) from fault
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
        unsent = isinstance(fault, Unsent)
        reason = str(fault) or type(fault).__name__
        message = f"{self.what(operation, key)}: no answer from {self._host}: {reason}"
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


def _mutates(method: str) -> bool:
    return method not in {"GET", "HEAD"}


async def _payload_hash(body: bytes | bytearray) -> str:
    if not body:
        return EMPTY_PAYLOAD
    if len(body) > SLICE:
        # hashlib lets go of the interpreter's lock, so other requests go on meanwhile.
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return hashlib.sha256(body).hexdigest()
