"""AWS Signature Version 4 for S3, in headers. Pure.

Source: Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header". S3
differs from other services in that a path is encoded once and never normalised.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

EMPTY_PAYLOAD = hashlib.sha256(b"").hexdigest()


def encode_path(key: str) -> str:
    """Return `key` percent-encoded for a URL's path; `/` is kept.

    Raises UnicodeEncodeError if `key` holds half of a surrogate pair.
    """
    return quote(key, safe="/")


def encode_query(parameters: Mapping[str, str]) -> str:
    """Return the canonical query string, which is also the one to send."""
    pairs = [(quote(name, safe=""), quote(value, safe="")) for name, value in parameters.items()]
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


class Signer:
    """Sign requests of one access key in one region.

    What changes only with the second (the time stamp) or the day (the key) is kept.
    """

    def __init__(self, access_key: str, secret_key: str, region: str, service: str = "s3") -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._service = service
        self._second = -1
        self._day = ""
        self._stamp = ""
        self._key = b""
        self._credential = ""
        self._to_sign = ""

    def sign(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        payload_hash: str = EMPTY_PAYLOAD,
        *,
        moment: float | None = None,
    ) -> None:
        """Add `x-amz-date`, `x-amz-content-sha256` and `authorization` to `headers`.

        `headers` has lower-case names, `host` among them, and all of them are signed. `path` and
        `query` are as `encode_path` and `encode_query` return them. `moment` is seconds since
        the epoch, by default now. Raises UnicodeEncodeError if a value cannot be sent as UTF-8.
        """
        second = int(time.time() if moment is None else moment)
        if second != self._second:
            self._set_clock(second)
        headers["x-amz-content-sha256"] = payload_hash
        headers["x-amz-date"] = self._stamp
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join([f"{name}:{_trimmed(headers[name])}\n" for name in names])
        request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload_hash}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = hmac.digest(self._key, (self._to_sign + digest).encode(), "sha256").hex()
        headers["authorization"] = f"{self._credential}{signed},Signature={signature}"

    def _set_clock(self, second: int) -> None:
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{self._stamp[:8]}/{self._region}/{self._service}/aws4_request"
        if self._stamp[:8] != self._day:
            self._day = self._stamp[:8]
            self._key = self._signing_key()
            self._credential = (
                f"AWS4-HMAC-SHA256 Credential={self._access_key}/{scope},SignedHeaders="
            )
        self._to_sign = f"AWS4-HMAC-SHA256\n{self._stamp}\n{scope}\n"
        self._second = second

    def _signing_key(self) -> bytes:
        key = f"AWS4{self._secret_key}".encode()
        for part in (self._day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def _trimmed(value: str) -> str:
    """Return a header's value as it is signed: no blanks at its ends, single ones inside."""
    if "  " in value or "\t" in value or value != value.strip():
        return " ".join(value.split())
    return value
