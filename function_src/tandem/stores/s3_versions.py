"""The versions of keys, as S3 lists them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from xml.etree.ElementTree import Element

from tandem.stores import s3_xml
from tandem.stores.base import NO_VERSION, Version, Versioning

# versitygw's ids: the moment in milliseconds, then chance, in Crockford's base 32.
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def query_of(version_id: str | None) -> dict[str, str]:
    """Return the query that asks for one version; for the current one there is none to send."""
    return {} if version_id is None else {"versionId": version_id}


def versions_of(body: bytes) -> tuple[list[Version], dict[str, str] | None]:
    """Return the versions and delete markers of a page, and the query for the next page.

    Raises ValueError if the page cannot be read, or is another document: what has no versions in
    it must not pass for a key without any.
    """
    root = s3_xml.parse(body)
    if _name(root) != "ListVersionsResult":
        raise ValueError(f"the server sent {root.tag!r} in place of a listing of versions")
    spell = s3_xml.spelling(root, "{*}")
    found = [
        _version(item, spell(item.findtext("{*}Key", "")))
        for item in root
        if _name(item) in {"Version", "DeleteMarker"}
    ]
    if root.findtext("{*}IsTruncated") != "true":
        return _in_order(found), None
    return _in_order(found), {
        "key-marker": spell(root.findtext("{*}NextKeyMarker", "")),
        "version-id-marker": root.findtext("{*}NextVersionIdMarker", ""),
    }


def versioning_of(body: bytes) -> Versioning:
    """Return what a VersioningConfiguration says; raises ValueError if it cannot be read."""
    match s3_xml.parse(body).findtext("{*}Status"):
        case "Enabled":
            return "enabled"
        case "Suspended":
            return "suspended"
    return "off"


def _version(item: Element, key: str) -> Version:
    return Version(
        key=key,
        version_id=item.findtext("{*}VersionId") or NO_VERSION,
        etag=item.findtext("{*}ETag", "").strip('"'),
        size=int(item.findtext("{*}Size", "0")),
        last_modified=datetime.fromisoformat(item.findtext("{*}LastModified", "")),
        is_latest=item.findtext("{*}IsLatest") == "true",
        is_marker=_name(item) == "DeleteMarker",
    )


def _name(element: Element) -> str:
    """Return an element's name without its namespace, which not every server gives."""
    return element.tag.rpartition("}")[2]


def _in_order(page: list[Version]) -> list[Version]:
    """Return the versions of a page by key, and each key's newest first.

    AWS and MinIO list them so. Others list all delete markers apart from all versions, and then
    their moments, or better their ids, have to tell which came when.
    """
    by_key = sorted(page, key=lambda version: version.key)
    return [one for _, group in groupby(by_key, _key) for one in _merged(list(group))]


def _key(version: Version) -> str:
    return version.key


def _merged(found: Sequence[Version]) -> list[Version]:
    """Return one key's versions, the newest first; the server's own order is kept where it can."""
    kinds = [kind for kind, _ in groupby(version.is_marker for version in found)]
    if len(kinds) != 2:  # noqa: PLR2004 -- one kind alone, or both in turns, as they came
        return list(found)
    if all(_ULID.fullmatch(version.version_id) for version in found):
        return sorted(found, key=lambda version: version.version_id, reverse=True)
    return sorted(
        found, key=lambda version: (version.is_latest, version.last_modified), reverse=True
    )
