"""What an S3 server's refusal means: its code and status to a class of `tandem.errors`. Pure.

Codes are those of the Amazon S3 API reference ("Error responses") and of MinIO's and versitygw's
sources. A code decides before a status: servers agree on codes more than on statuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from tandem.errors import (
    Conflict,
    Denied,
    Invalid,
    Missing,
    TandemError,
    Throttled,
    Transient,
)
from tandem.stores.s3_headers import http_date

_CODES: Mapping[type[TandemError], tuple[str, ...]] = {
    Conflict: (
        "ConditionalRequestConflict",
        "InvalidPart",
        "NoSuchKey",
        "NoSuchUpload",
        "NoSuchVersion",
        "OperationAborted",
        "PreconditionFailed",
    ),
    Denied: (
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    ),
    Missing: ("NoSuchBucket", "PermanentRedirect"),
    # Some come with status 200 when a completion fails, some with a 409 that no retry mends.
    Invalid: (
        "EntityTooLarge",
        "EntityTooSmall",
        "ExistingObjectIsDirectory",
        "InvalidPartOrder",
        "InvalidRequest",
        "MalformedXML",
        "ObjectParentIsFile",
        "XMinioObjectExistsAsDirectory",
        "XMinioParentIsObject",
    ),
    Throttled: (
        "RequestLimitExceeded",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    ),
    # Some come with status 400, though the fault was on the way and not in the request.
    Transient: (
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "RequestTimeout",
        "TemporaryRedirect",
        "XAmzContentSHA256Mismatch",
        "XMinioServerNotInitialized",
    ),
}
_KIND_OF_CODE = {code: kind for kind, codes in _CODES.items() for code in codes}
_KIND_OF_STATUS: Mapping[int, type[TandemError]] = {
    HTTPStatus.UNAUTHORIZED: Denied,
    HTTPStatus.FORBIDDEN: Denied,
    HTTPStatus.MOVED_PERMANENTLY: Missing,
    # A 404 that names no key is a wrong address, not evidence about any object.
    HTTPStatus.NOT_FOUND: Missing,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.PRECONDITION_FAILED: Conflict,
    HTTPStatus.TOO_MANY_REQUESTS: Throttled,
    HTTPStatus.REQUEST_TIMEOUT: Transient,
    HTTPStatus.NOT_IMPLEMENTED: Invalid,
}
# Answers after which a change that was asked for may yet be made: the server, or a proxy before
# it, lost sight of the request. A 503 says that it was not begun; a 200 is a completion that
# failed half-way.
_MAY_STILL_LAND = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hold an answer that is not a success; `code` and `message` may be empty.

    `headers` is looked up by lower-case name.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str]

    @property
    def is_absence(self) -> bool:
        """Return whether this says positively that the one key asked for is not there."""
        return self.code == "NoSuchKey" or self.headers.get("x-amz-delete-marker") == "true"


def failure(what: str, refusal: Refusal, *, mutating: bool) -> TandemError:
    """Return the error to raise; `what` names the operation, the site and the key.

    `mutating` says that the request would have changed something.
    """
    kind = _KIND_OF_CODE.get(refusal.code) or _kind_by_status(refusal)
    message = f"{what}: {refusal.status} {refusal.code or 'without a code'}"
    if refusal.message:
        message += f": {refusal.message}"
    message += _advice(refusal)
    if kind is Throttled:
        return Throttled(message, retry_after=_seconds(refusal.headers.get("retry-after")))
    if kind is Transient:
        return Transient(message, unresolved=mutating and refusal.status in _MAY_STILL_LAND)
    return kind(message)


def _kind_by_status(refusal: Refusal) -> type[TandemError]:
    if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" in refusal.headers:
        return Throttled
    rest = Invalid if 400 <= refusal.status < 500 else Transient  # noqa: PLR2004 -- the request's fault, RFC 9110
    return _KIND_OF_STATUS.get(refusal.status, rest)


def _advice(refusal: Refusal) -> str:
    if refusal.code == "RequestTimeTooSkewed" and (date := refusal.headers.get("date")):
        skew = datetime.now(UTC) - http_date(date)
        return f" (this machine's clock is {skew.total_seconds():.0f} s ahead of the server's)"
    region = refusal.headers.get("x-amz-bucket-region")
    if region and refusal.status == HTTPStatus.MOVED_PERMANENTLY:
        return f" (the bucket is in the region {region}: set the site's region and endpoint)"
    return ""


def _seconds(text: str | None) -> float | None:
    """Return a Retry-After in seconds; its other form, a date, is as good as none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None
