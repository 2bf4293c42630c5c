"""The versions of keys, as S3 lists them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import unquote_plus

from tandem.stores import s3_xml


def versions_of(body: bytes) -> tuple[list[tuple[str, str]], dict[str, str] | None]:
    """Return the key and id of each version and delete marker, and the query for the next page.

    Raises ValueError if the page cannot be read.
    """
    root = s3_xml.parse(body)
    encoded = root.findtext("{*}EncodingType") == "url"
    spell: Callable[[str], str] = partial(unquote_plus, errors="strict") if encoded else str
    found = [
        (spell(item.findtext("{*}Key", "")), item.findtext("{*}VersionId", "null"))
        for kind in ("{*}Version", "{*}DeleteMarker")
        for item in root.iterfind(kind)
    ]
    if root.findtext("{*}IsTruncated") != "true":
        return found, None
    return found, {
        "key-marker": spell(root.findtext("{*}NextKeyMarker", "")),
        "version-id-marker": root.findtext("{*}NextVersionIdMarker", ""),
    }
