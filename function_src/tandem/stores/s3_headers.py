"""An object's state and content, as S3 says them in HTTP headers. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import quote

from tandem.change import Dialect
from tandem.errors import Invalid
from tandem.stores.base import CONTENT_HEADERS, Condition, Content, ObjectState

METADATA_PREFIX = "x-amz-meta-"
_CONTENT_HEADERS = frozenset(CONTENT_HEADERS)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


def http_date(text: str) -> datetime:
    """Return the moment that an HTTP date such as `Sat, 21 Nov 2026 08:32:59 GMT` names.

    Cut by position, since servers send this form only and strptime takes ten times as long.
    Raises ValueError or KeyError if it has another form.
    """
    return datetime(
        int(text[12:16]),
        _MONTHS[text[8:11]],
        int(text[5:7]),
        int(text[17:19]),
        int(text[20:22]),
        int(text[23:25]),
        tzinfo=UTC,
    )


def state_of(key: str, headers: Iterable[tuple[str, str]], dialect: Dialect) -> ObjectState:
    """Return the state of `key` that the headers of a GET's or HEAD's answer tell.

    Raises ValueError or KeyError if a header that S3 always sends is absent or malformed.
    """
    plain: dict[str, str] = {}
    content: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for given, value in headers:
        name = given.lower()
        if name in _CONTENT_HEADERS:
            content[name] = value
        elif name.startswith(METADATA_PREFIX):
            metadata[name[len(METADATA_PREFIX) :]] = _decoded(value)
        else:
            plain[name] = value
    tag_count = plain.get("x-amz-tagging-count")
    span = plain.get("content-range")
    return ObjectState(
        key=key,
        etag=plain["etag"].strip('"'),
        size=int(span.rpartition("/")[2] if span else plain["content-length"]),
        last_modified=http_date(plain["last-modified"]),
        version_id=plain.get("x-amz-version-id"),
        headers=content,
        metadata=metadata,
        # MinIO tells the number wherever there are tags. AWS tells it only to those who may read
        # tags, so there silence is no answer.
        tag_count=int(tag_count) if tag_count else (0 if dialect == "minio" else None),
    )


def content_headers(content: Content, dialect: Dialect) -> dict[str, str]:
    """Return the headers of a write that give an object everything but its bytes.

    Raises `Invalid` if one has a value that no HTTP header can carry.
    """
    headers = dict(content.headers)
    for name, value in content.metadata.items():
        headers[METADATA_PREFIX + name] = _encoded(value, dialect)
    if content.tags:
        headers["x-amz-tagging"] = "&".join(
            [f"{quote(name, safe='')}={quote(tag, safe='')}" for name, tag in content.tags.items()]
        )
    if content.storage_class:
        headers["x-amz-storage-class"] = content.storage_class
    for name, value in headers.items():
        if "\n" in value or "\r" in value or "\0" in value:
            raise Invalid(f"the header {name} cannot carry the value {value!r}: it has line ends")
    return headers


def condition_headers(condition: Condition) -> dict[str, str]:
    """Return the headers that make a write conditional."""
    if condition.if_absent:
        return {"if-none-match": "*"}
    if condition.if_match is not None:
        return {"if-match": f'"{condition.if_match}"'}
    return {}


def span_of(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the first and last byte of a 206 answer, by its Content-Range; None if it has none.

    Raises ValueError if the header is malformed.
    """
    told = headers.get("content-range")
    if told is None:
        return None
    first, _, last = told.removeprefix("bytes ").partition("/")[0].partition("-")
    return int(first), int(last)


# Metadata beyond ASCII comes back from AWS and MinIO as RFC 2047 words, each in a flavour of its
# own, so states hold it decoded. AWS wants such words when metadata is written, too (user guide,
# "User-defined object metadata"); MinIO keeps UTF-8 as it is, and would keep the words.


def _decoded(value: str) -> str:
    if value.startswith("=?") and value.endswith("?="):
        try:
            return str(make_header(decode_header(value)))
        except (HeaderParseError, LookupError, UnicodeDecodeError):
            return value
    return value


def _encoded(value: str, dialect: Dialect) -> str:
    if dialect == "aws" and not value.isascii():
        return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="
    return value
