"""The XML documents that S3 sends and takes. Pure.

A document that declares a DTD is refused, so that no entity can be defined and none expands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, unescape

from tandem.stores.base import Entry, Part, Upload
from tandem.stores.s3_headers import http_date


def parse(body: bytes) -> ET.Element:
    """Return the root of a document; leading blanks, sent to keep a connection alive, are skipped.

    Raises ValueError if it is not well-formed, or declares a DTD.
    """
    if b"<!DOCTYPE" in body:
        raise ValueError("the server sent a DTD, which no S3 answer has")
    try:
        return ET.fromstring(body.lstrip())  # noqa: S314 -- DTDs are refused above
    except ET.ParseError as error:
        raise ValueError(f"the server's XML cannot be read: {error}") from error


def error_of(body: bytes) -> tuple[str, str]:
    """Return the code and the message of an error document, each empty if it has none.

    Cut out rather than parsed, since an error quotes the key, which XML may be unable to hold.
    """
    text = body.decode(errors="replace")
    return _between(text, "<Code>", "</Code>"), _between(text, "<Message>", "</Message>")


def entries_of(body: bytes) -> tuple[list[Entry], str | None]:
    """Return the objects of a page of ListObjectsV2 and the token of the next page, if any.

    Raises ValueError if the page cannot be read, names no next one though it is truncated, or is
    another document: what has no objects in it must not pass for an empty bucket.
    """
    root = parse(body)
    space = _namespace(root)
    if root.tag != space + "ListBucketResult":
        raise ValueError(f"the server sent {root.tag!r} in place of a listing")
    if root.findtext(space + "IsTruncated") not in {"true", "false"}:
        raise ValueError("the server does not say whether the listing is truncated")
    spell = spelling(root, space)
    entries = [
        Entry(
            key=spell(_text(item, space + "Key")),
            etag=_text(item, space + "ETag").strip('"'),
            size=int(_text(item, space + "Size")),
            last_modified=datetime.fromisoformat(_text(item, space + "LastModified")),
        )
        for item in root.iterfind(space + "Contents")
    ]
    if not _truncated(root, space):
        return entries, None
    return entries, _text(root, space + "NextContinuationToken")


def uploads_of(body: bytes) -> tuple[list[Upload], dict[str, str] | None]:
    """Return the uploads of a page of ListMultipartUploads and the query for the next, if any.

    Raises ValueError as `entries_of` does.
    """
    root = parse(body)
    space = _namespace(root)
    spell = spelling(root, space)
    uploads = [
        Upload(
            key=spell(_text(item, space + "Key")),
            upload_id=_text(item, space + "UploadId"),
            initiated=datetime.fromisoformat(_text(item, space + "Initiated")),
        )
        for item in root.iterfind(space + "Upload")
    ]
    if not _truncated(root, space):
        return uploads, None
    return uploads, {
        "key-marker": spell(_text(root, space + "NextKeyMarker")),
        "upload-id-marker": root.findtext(space + "NextUploadIdMarker", ""),
    }


def parts_of(body: bytes, date: str) -> tuple[list[Part], str | None]:
    """Return the parts of a page of ListParts and the marker of the next, if any.

    `date` is the answer's own, so that ages are reckoned by the server's clock and no other.
    Raises ValueError as `entries_of` does, KeyError if `date` is no HTTP date.
    """
    now = http_date(date)
    root = parse(body)
    space = _namespace(root)
    parts = [
        Part(
            number=int(_text(item, space + "PartNumber")),
            etag=_text(item, space + "ETag").strip('"'),
            size=int(_text(item, space + "Size")),
            age=max(
                0.0,
                (now - datetime.fromisoformat(_text(item, space + "LastModified"))).total_seconds(),
            ),
        )
        for item in root.iterfind(space + "Part")
    ]
    if not _truncated(root, space):
        return parts, None
    return parts, _text(root, space + "NextPartNumberMarker")


def tags_of(body: bytes) -> dict[str, str]:
    """Return the tags of a Tagging document.

    Raises ValueError if it cannot be read.
    """
    root = parse(body)
    space = _namespace(root)
    return {
        _text(tag, space + "Key"): tag.findtext(space + "Value", "")
        for tag in root.iter(space + "Tag")
    }


def upload_id_of(body: bytes) -> str:
    """Return the id that InitiateMultipartUpload gave.

    Raises ValueError if there is none.
    """
    root = parse(body)
    return _text(root, _namespace(root) + "UploadId")


def completed_etag_of(body: bytes) -> str | None:
    """Return the ETag that CompleteMultipartUpload gave, or None if it did not succeed.

    S3 begins its answer, with status 200, before it knows how the completion ends.
    """
    try:
        root = parse(body)
        return _text(root, _namespace(root) + "ETag").strip('"')
    except ValueError:
        return None


def tagging_document(tags: Mapping[str, str]) -> bytes:
    """Return the body of PutObjectTagging."""
    lines = [
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
        for name, value in tags.items()
    ]
    return f"<Tagging><TagSet>{''.join(lines)}</TagSet></Tagging>".encode()


def completion_document(parts: Iterable[Part]) -> bytes:
    """Return the body of CompleteMultipartUpload."""
    lines = [
        f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{escape(part.etag)}"</ETag></Part>'
        for part in parts
    ]
    return f"<CompleteMultipartUpload>{''.join(lines)}</CompleteMultipartUpload>".encode()


def spelling(root: ET.Element, space: str) -> Callable[[str], str]:
    """Return the function that decodes this document's keys, which the server may have encoded."""
    return _decoded if root.findtext(space + "EncodingType") == "url" else str


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text


def _namespace(root: ET.Element) -> str:
    """Return the namespace that this server uses, as ElementTree writes it; it may be none."""
    return root.tag[: root.tag.find("}") + 1]


def _truncated(root: ET.Element, space: str) -> bool:
    return root.findtext(space + "IsTruncated") == "true"


def _text(element: ET.Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise ValueError(f"the server's {element.tag} has no {name}")
    return text


def _between(text: str, start: str, end: str) -> str:
    found, closed, _ = text.partition(start)[2].partition(end)
    return unescape(found, {"&quot;": '"', "&#34;": '"', "&#39;": "'"}) if closed else ""
