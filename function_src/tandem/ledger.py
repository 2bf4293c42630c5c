"""What an unfinished upload says of itself, so that whoever finds it can go on.

The ledger of an unfinished large copy is the target's own upload. Two small parts at its very end
make it readable: the marker, a digest of the copy that is wanted, and the flag, which says
whether somebody is at it. A part's ETag is the MD5 of its body, so ListParts shows both; and
since they are not named at completion, the server drops them (S3 API reference,
CompleteMultipartUpload). docs/decisions/0001 says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from tandem.decision import SOURCE_SEQUENCER
from tandem.errors import Conflict
from tandem.stores.base import Content, ObjectState, ObjectStore, Part, Upload

# How many part numbers, the largest, are kept for the ledger.
KEPT = 2
MARKER = b"tandem upload "
MARKER_SIZE = len(MARKER) + hashlib.sha256().digest_size * 2
# What the flag says; both have one size.
UNDER_WAY = b"tandem upload under way"
HANDED_ON = b"tandem upload handed on"


def marker(source: ObjectState, content: Content, sizes: tuple[int, ...]) -> bytes:
    """Return the body of the marker part: it tells of the same copy of the same object.

    The sequencer is left out: it tells of the notification, and whoever goes on may have come
    by another.
    """
    metadata = {k: value for k, value in content.metadata.items() if k != SOURCE_SEQUENCER}
    identity = json.dumps(
        [
            source.etag,
            source.version_id,
            sizes,
            sorted(content.headers.items()),
            sorted(metadata.items()),
            sorted(content.tags.items()),
            content.storage_class,
        ]
    )
    return MARKER + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest().encode()


def marker_number(max_parts: int) -> int:
    """Return the part number of the marker where `max_parts` is the largest there is."""
    return max_parts


def flag_number(max_parts: int) -> int:
    """Return the part number of the flag where `max_parts` is the largest there is."""
    return max_parts - 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """Hold what the parts of an unfinished upload of ours tell.

    `parts` are those of the object, by number; `youngest` is the age in seconds of the part that
    was stored last, the marker and the flag among them.
    """

    marker_etag: str
    handed_on: bool
    youngest: float
    parts: dict[int, Part]

    @classmethod
    def of(cls, parts: Iterable[Part], max_parts: int) -> Ledger | None:
        """Return the ledger that these parts are, or None if the upload is somebody else's.

        Nobody else completes an upload whose last two parts are that small: S3 asks 5 MiB of
        every part but the last.
        """
        held = {part.number: part for part in parts}
        youngest = min((part.age for part in held.values()), default=0.0)
        mark = held.pop(marker_number(max_parts), None)
        flag = held.pop(flag_number(max_parts), None)
        sizes = (mark and mark.size, flag and flag.size)
        if mark is None or flag is None or sizes != (MARKER_SIZE, len(UNDER_WAY)):
            return None
        return cls(mark.etag, flag.etag == etag_of(HANDED_ON), youngest, held)

    def is_of(self, body: bytes) -> bool:
        """Return whether the upload belongs to the copy whose marker has this body."""
        return self.marker_etag == etag_of(body)


async def ledger_of(store: ObjectStore, upload: Upload) -> Ledger | None:
    """Return the ledger of an upload; None if it is not ours, or no longer there."""
    try:
        parts = await store.list_parts(upload.key, upload.upload_id)
    except Conflict:
        return None  # finished or aborted since it was listed
    return Ledger.of(parts, store.capabilities.max_parts)


def etag_of(body: bytes) -> str:
    """Return the ETag that a server gives to a part of this body."""
    return hashlib.md5(body).hexdigest()  # noqa: S324 -- S3 defines a part's ETag by MD5
