"""What a bucket may or may not be able to do, and how it was found out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, Self

from tandem.stores.base import (
    ALWAYS,
    Capabilities,
    Checksum,
    Condition,
    Content,
    Entry,
    ObjectStore,
    Written,
)

# With a multipart upload of this many parts, one of them the marker, nothing large can be sent.
NO_PARTS = 2


class Ability(StrEnum):
    """Name what is tried."""

    PUT_IF_ABSENT = "put If-None-Match"
    PUT_IF_MATCH = "put If-Match"
    COMPLETE_IF_ABSENT = "complete If-None-Match"
    COMPLETE_IF_MATCH = "complete If-Match"
    DELETE_IF_MATCH = "delete If-Match"
    READ_IF_MATCH = "read If-Match"
    COPY = "copy"
    COPY_SOURCE_IF_MATCH = "copy source If-Match"
    COPY_SOURCE_IF_NONE_MATCH = "copy source If-None-Match"
    COPY_IF_ABSENT = "copy If-None-Match"
    COPY_IF_MATCH = "copy If-Match"
    TAGS = "tags"
    VERSIONS = "versions"
    VERSION_ORDER = "versions in order"
    CRC32C = "checksum CRC32C"
    SHA256 = "checksum SHA-256"
    ORDER = "listing in order"
    PARTS = "multipart"
    SMALL_PARTS = "parts under 5 MiB"
    RESUME = "resume"
    PART_SIZES = "part sizes"
    LINE_ENDS = "line ends in keys"
    FOLDER_BODIES = "bodies under keys that end with /"
    CLEANING = "cleaning up"


# What a key must not have where one of these is not given.
REFUSALS: Mapping[Ability, str] = {
    Ability.LINE_ENDS: "a line end",
    Ability.FOLDER_BODIES: "a / at its end, and a body",
}


class Verdict(StrEnum):
    """Say how a trial ended; IGNORED is a server that says yes and does something else."""

    YES = "yes"
    NO = "no"
    IGNORED = "ignored"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trial:
    """Say what was found of one ability: `told` why, where it is not plain yes.

    `value` is the largest part number, for PARTS alone.
    """

    ability: Ability
    verdict: Verdict
    told: str = ""
    value: int = 0


class Probeable(ObjectStore, Protocol):
    """A store that can be probed: what is asked of it beyond the engine's needs."""

    def unguarded(self) -> Self:
        """Return the same bucket as a store that sends every condition it is given."""
        ...

    async def put(
        self,
        key: str,
        body: bytes | bytearray,
        content: Content,
        condition: Condition = ALWAYS,
        checksum: Checksum | None = None,
    ) -> Written:
        """Write a whole object; raises `Invalid` or `Transient` for another checksum."""
        ...

    async def copy(
        self,
        source: str,
        key: str,
        content: Content,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        condition: Condition = ALWAYS,
    ) -> Written:
        """Copy `source` at the server; see `tandem.stores.s3.S3Store.copy`."""
        ...

    async def page(self, prefix: str, start_after: str = "") -> tuple[Entry, ...]:
        """Return the first page of a listing, in whatever order the server gives it."""
        ...

    async def purge(self, prefix: str) -> None:
        """Delete every version and delete marker of the scratch keys under `prefix`."""
        ...


@dataclass(frozen=True, slots=True)
class Probed:
    """Hold what each trial found, and the capabilities that follow."""

    trials: tuple[Trial, ...]
    capabilities: Capabilities

    def __getitem__(self, ability: Ability) -> Trial:
        return next(trial for trial in self.trials if trial.ability is ability)


def capabilities_of(trials: Mapping[Ability, Trial], assumed: Capabilities) -> Capabilities:
    """Return what trials found, beside what was `assumed` and cannot be tried.

    What is not known for sure is taken for missing, but for tags: a permission that is missing
    is better told for each object that has tags than passed over.
    """

    def sure(*abilities: Ability) -> bool:
        return all(trials[ability].verdict is Verdict.YES for ability in abilities)

    refused = tuple(word for ability, word in REFUSALS.items() if not sure(ability))
    small = 1 if sure(Ability.SMALL_PARTS) else assumed.min_part_size
    return replace(
        assumed,
        conditional_put=sure(Ability.PUT_IF_ABSENT, Ability.PUT_IF_MATCH),
        conditional_complete=sure(Ability.COMPLETE_IF_ABSENT, Ability.COMPLETE_IF_MATCH),
        conditional_delete=sure(Ability.DELETE_IF_MATCH),
        conditional_get=sure(Ability.READ_IF_MATCH),
        copy=sure(Ability.COPY, Ability.COPY_SOURCE_IF_MATCH),
        conditional_copy=sure(Ability.COPY_IF_ABSENT, Ability.COPY_IF_MATCH),
        tags=trials[Ability.TAGS].verdict in {Verdict.YES, Verdict.UNKNOWN},
        versions=sure(Ability.VERSIONS),
        ordered_versions=trials[Ability.VERSION_ORDER].verdict is not Verdict.IGNORED,
        checksums=(
            *(("crc32c",) if sure(Ability.CRC32C) else ()),
            *(("sha256",) if sure(Ability.SHA256) else ()),
        ),
        ordered=sure(Ability.ORDER),
        max_parts=trials[Ability.PARTS].value if sure(Ability.PARTS) else NO_PARTS,
        min_part_size=small,
        resumes=sure(Ability.RESUME),
        part_sizes=sure(Ability.PART_SIZES),
        unrepresentable=tuple(dict.fromkeys((*assumed.unrepresentable, *refused))),
    )


def observed(trials: Iterable[Trial], assumed: Capabilities) -> Capabilities:
    """Return what was found with reads alone, beside what was `assumed`."""
    wrong = {trial.ability for trial in trials if trial.verdict in {Verdict.NO, Verdict.IGNORED}}
    return replace(
        assumed,
        ordered=assumed.ordered and Ability.ORDER not in wrong,
        conditional_get=assumed.conditional_get and Ability.READ_IF_MATCH not in wrong,
    )


def cautious(assumed: Capabilities) -> Capabilities:
    """Return the capabilities of a bucket that could not be asked: no condition is relied on."""
    return replace(
        assumed,
        conditional_put=False,
        conditional_complete=False,
        conditional_delete=False,
        conditional_copy=False,
        copy=False,
        checksums=(),
    )
