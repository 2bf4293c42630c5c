"""What the probe tries of multipart uploads: limits, and what resuming a copy stands on."""

from __future__ import annotations

import hashlib

from tandem.errors import Conflict, Invalid
from tandem.stores.abilities import Ability, Probeable, Trial, Verdict
from tandem.stores.base import Part
from tandem.stores.trials import PLAIN, Record, refusal_of

# The largest part numbers that servers are known to take, S3's own first.
NUMBERS = (10_000, 1_000, 100)
BODY = b"part"
MARKER = b"marker"


async def small_parts(store: Probeable, key: str) -> list[Trial]:
    """Try to complete an upload whose first part is smaller than S3 allows."""
    record = Record(Ability.SMALL_PARTS)
    upload_id = await store.create_upload(key, PLAIN)
    try:
        parts = tuple([await store.upload_part(key, upload_id, n, b"1") for n in (1, 2)])
        refusal = await refusal_of(store.complete_upload(key, upload_id, parts))
        record.must_pass(refusal, "one byte")
    finally:
        await store.abort_upload(key, upload_id)
    return [record.trial()]


async def uploads(store: Probeable, key: str) -> list[Trial]:
    """Try what a copy in parts does: a marker part, taking up what was cut short, completion."""
    multipart, resume, sizes = (
        Record(Ability.PARTS),
        Record(Ability.RESUME),
        Record(Ability.PART_SIZES),
    )
    upload_id = await store.create_upload(key, PLAIN)
    try:
        part = await store.upload_part(key, upload_id, 1, BODY)
        marker = await _marker(store, key, upload_id)
        await _take_up(store, key, upload_id, marker, resume)
        refusal = await refusal_of(store.complete_upload(key, upload_id, (part,)))
        multipart.must_pass(refusal, "completion")
        async with store.open(key) as reader:
            if reader is None or await reader.read() != BODY:
                multipart.doubt(Verdict.IGNORED, "made of other parts than were named")
    finally:
        await store.abort_upload(key, upload_id)
    await _look_back(store, key, upload_id, resume)
    etag = reader.state.etag if reader else ""
    try:
        if await store.part_sizes(key, etag) != (len(BODY),):
            sizes.doubt(Verdict.IGNORED, "told other sizes")
    except (Conflict, Invalid) as refusal_of_sizes:
        sizes.must_pass(refusal_of_sizes, "altogether")
    return [multipart.trial(marker.number), resume.trial(), sizes.trial()]


async def _marker(store: Probeable, key: str, upload_id: str) -> Part:
    """Send a part with the largest number that the server takes.

    Raises `Invalid` if it takes none of those known.
    """
    for number in NUMBERS[:-1]:
        try:
            return await store.upload_part(key, upload_id, number, MARKER)
        except Invalid:
            continue
    return await store.upload_part(key, upload_id, NUMBERS[-1], MARKER)


async def _take_up(
    store: Probeable, key: str, upload_id: str, marker: Part, record: Record
) -> None:
    """Look at an upload as one who comes upon it: it must be found, and its parts known."""
    if upload_id not in {upload.upload_id for upload in await store.list_uploads(key)}:
        record.doubt(Verdict.NO, "did not list the upload under its key")
    told = [(part.number, part.etag, part.size) for part in await store.list_parts(key, upload_id)]
    wanted = [(1, _md5(BODY), len(BODY)), (marker.number, _md5(MARKER), len(MARKER))]
    if told != wanted:
        record.doubt(Verdict.NO, "listed other parts, or ETags that are not their MD5s")


async def _look_back(store: Probeable, key: str, upload_id: str, record: Record) -> None:
    """Look at an upload that is over: nothing of it may be there."""
    if upload_id in {upload.upload_id for upload in await store.list_uploads(key)}:
        record.doubt(Verdict.NO, "listed an upload that was over")
    record.must_fail(
        await refusal_of(store.list_parts(key, upload_id)), "for an upload that was over"
    )


def _md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()  # noqa: S324 -- S3 defines a part's ETag by MD5
