"""The versions of keys, as S3 lists them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from tandem.stores import s3_xml


def versions_of(body: bytes) -> tuple[list[tuple[str, str]], dict[str, str] | None]:
    """Return the key and id of each version and delete marker, and the query for the next page.

    Raises ValueError if the page cannot be read.
    """
    root = s3_xml.parse(body)
    spell = _spelling(root)
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


def earlier_of(body: bytes, key: str, most: int) -> list[str]:
    """Return the ids of the versions of `key` that are not its latest, the newest first.

    `body` is the first page of the versions listed with `key` as the prefix, which begins with
    those of `key`. At most `most` are returned. Raises ValueError if the page cannot be read.
    """
    root = s3_xml.parse(body)
    spell = _spelling(root)
    found = [
        item.findtext("{*}VersionId", "null")
        for item in root.iterfind("{*}Version")
        if spell(item.findtext("{*}Key", "")) == key and item.findtext("{*}IsLatest") != "true"
    ]
    return found[:most]


def _spelling(root: Element) -> Callable[[str], str]:
    """Return how the keys of a page are to be read."""
    encoded = root.findtext("{*}EncodingType") == "url"
    return partial(unquote_plus, errors="strict") if encoded else str
