"""Finding out what a bucket can do, by trying.

Servers differ in what they know of conditional requests, and some say yes to a condition that
they do not look at. So nothing that a server says of itself is believed: scratch objects are
written under SCRATCH, a place of their own for each probe, and are deleted again. No rule covers
that prefix, and nothing outside it is touched.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

from tandem.errors import Conflict, Denied, Invalid, Missing, TandemError
from tandem.stores import part_trials, trials
from tandem.stores.abilities import (
    Ability,
    Probeable,
    Probed,
    Trial,
    Verdict,
    capabilities_of,
)
from tandem.stores.base import SCRATCH

# What lies there for longer was left by a probe that was killed.
STALE = timedelta(hours=1)
# On how many objects of a source reads are tried, should the first be gone meanwhile.
SAMPLES = 3

Try = Callable[[Probeable, str], Awaitable[list[Trial]]]
# Each with the name of its scratch keys, and the abilities that it shows.
TRIALS: tuple[tuple[str, tuple[Ability, ...], Try], ...] = (
    ("put", (Ability.PUT_IF_ABSENT, Ability.PUT_IF_MATCH), trials.puts),
    ("complete", (Ability.COMPLETE_IF_ABSENT, Ability.COMPLETE_IF_MATCH), trials.completions),
    ("delete", (Ability.DELETE_IF_MATCH,), trials.deletes),
    ("read", (Ability.READ_IF_MATCH,), trials.reads),
    (
        "copy",
        (
            Ability.COPY,
            Ability.COPY_SOURCE_IF_MATCH,
            Ability.COPY_SOURCE_IF_NONE_MATCH,
            Ability.COPY_IF_ABSENT,
            Ability.COPY_IF_MATCH,
        ),
        trials.copies,
    ),
    ("tags", (Ability.TAGS,), trials.tags),
    ("sums", (Ability.CRC32C, Ability.SHA256), trials.checksums),
    ("order", (Ability.ORDER,), trials.listings),
    ("versions", (Ability.VERSION_ORDER,), trials.versions),
    ("parts", (Ability.PARTS, Ability.RESUME, Ability.PART_SIZES), part_trials.uploads),
    ("small", (Ability.SMALL_PARTS,), part_trials.small_parts),
    ("odd", (Ability.LINE_ENDS, Ability.FOLDER_BODIES), trials.odd_keys),
)
# The names of the trials that begin uploads.
UPLOADED = ("complete", "parts", "small")


async def probe(store: Probeable) -> Probed:
    """Try out what `store` can do, with about 160 small requests.

    Whatever happens, the scratch objects are deleted again; where that is not allowed, the trial
    CLEANING says so. Raises a TandemError if the bucket cannot be written to at all, or the
    server fails meanwhile: then nothing is known.
    """
    bench = store.unguarded()
    place = f"{SCRATCH}{secrets.token_hex(8)}/"
    first = await bench.put(f"{place}first", b"", trials.PLAIN)
    # A bucket whose versioning is suspended calls each version null.
    kept = first.version_id not in {None, "null"}
    found = {Ability.VERSIONS: Trial(Ability.VERSIONS, Verdict.YES if kept else Verdict.NO)}
    try:
        for shown in await trials.all_of(*(_try(bench, place, *one) for one in TRIALS)):
            found |= {trial.ability: trial for trial in shown}
    except BaseException:
        with contextlib.suppress(TandemError):
            await _clean(bench, place, versioned=first.version_id is not None)
        raise
    found[Ability.CLEANING] = await _clean(bench, place, versioned=first.version_id is not None)
    capabilities = capabilities_of(found, store.capabilities)
    return Probed(tuple(found[ability] for ability in Ability), capabilities)


async def observe(store: Probeable) -> tuple[Trial, ...]:
    """Look at what a source can do, with nothing but reads.

    Raises a TandemError if the bucket cannot be listed.
    """
    entries = await store.page("")
    keys = [entry.key for entry in entries]
    order = Trial(Ability.ORDER, Verdict.YES)
    if len(keys) <= 1:
        order = Trial(Ability.ORDER, Verdict.UNKNOWN, "there are too few objects to tell")
    elif keys != sorted(keys):
        order = Trial(Ability.ORDER, Verdict.IGNORED, "listed in another order")
    pinned = Trial(Ability.READ_IF_MATCH, Verdict.UNKNOWN, "there is no object to try it on")
    for entry in entries[:SAMPLES]:
        pinned = await trials.read_condition(store, entry.key, entry.etag, entry.size)
        if pinned.verdict is not Verdict.NO:
            break
    return order, pinned


async def _try(
    store: Probeable, place: str, name: str, abilities: tuple[Ability, ...], trial: Try
) -> list[Trial]:
    """Run one trial; what it needs and is refused is what it shows.

    Raises `Transient` and `Throttled`, which say nothing about abilities.
    """
    try:
        return await trial(store, place + name)
    except (Conflict, Invalid, Missing) as error:
        return [Trial(ability, Verdict.NO, str(error)) for ability in abilities]
    except Denied as error:
        return [Trial(ability, Verdict.UNKNOWN, str(error)) for ability in abilities]


async def _clean(store: Probeable, place: str, *, versioned: bool) -> Trial:
    """Delete the scratch objects of this probe, and what others left that were killed."""
    for prefix in (place, *await _left_behind(store, place)):
        try:
            await _abort(store, prefix)
            if versioned:
                await store.purge(prefix)
            else:
                await _delete(store, prefix)
        except (Denied, Invalid) as error:
            told = f"something remains under {prefix}: {error}"
            if versioned:  # whoever may not delete versions may still delete
                with contextlib.suppress(Denied, Invalid):
                    await _delete(store, prefix)
            return Trial(Ability.CLEANING, Verdict.NO, told)
    return Trial(Ability.CLEANING, Verdict.YES)


async def _left_behind(store: Probeable, place: str) -> list[str]:
    """Return the places of probes that began long before this one, by the server's clock."""
    own = [entry.last_modified for entry in await store.page(place)]
    return sorted(
        {
            entry.key[: len(place)]
            for entry in await store.page(SCRATCH)
            if own and entry.last_modified < max(own) - STALE
        }
    )


async def _abort(store: Probeable, prefix: str) -> None:
    # MinIO lists uploads under whole keys only.
    for name in UPLOADED:
        for upload in await store.list_uploads(prefix + name):
            await store.abort_upload(upload.key, upload.upload_id)


async def _delete(store: Probeable, prefix: str) -> None:
    for entry in await store.page(prefix):
        await store.delete(entry.key)
