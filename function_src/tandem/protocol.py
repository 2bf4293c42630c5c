"""How a target is written to, and what the contract loses where it can do less. Pure."""

from __future__ import annotations

from tandem.rule import Rule
from tandem.stores.abilities import NO_PARTS, REFUSALS
from tandem.stores.base import Capabilities

S3_PARTS = 10_000


def protocol(target: Capabilities) -> str:
    """Return in words how copies and deletes are made at a target."""
    copies = "on condition" if target.conditional_writes else "unconditional"
    deletes = "on condition" if target.conditional_delete else "unconditional"
    return f"copies {copies}, deletes {deletes}"


def losses(source: Capabilities, target: Capabilities, rule: Rule) -> tuple[str, ...]:
    """Return a sentence for each thing that the contract loses under `rule` between two sites."""
    return (
        *_of_writes(target, rule),
        *_of_reads(source, rule),
        *_of_objects(target, rule),
        *_of_versions(target, rule),
        *_of_listings(source, "source"),
        *_of_listings(target, "target"),
    )


def _of_writes(target: Capabilities, rule: Rule) -> list[str]:
    told = []
    if not target.conditional_writes:
        told.append(
            "The target keeps to no condition on copies: of two that race for a key the older may "
            "stand until the second look mends it, and what others write there meanwhile is "
            "overwritten unseen."
        )
    if rule.deletes == "keep":
        return told
    if not target.conditional_delete:
        rest = "though as an old version it stays" if target.versions else "for good"
        told.append(
            "The target keeps to no condition on deletes: what others write to a key between the "
            f"look and the delete is deleted with it, {rest}."
        )
    if not target.versions:
        told.append(
            "The target keeps no old versions: what Tandem overwrites or deletes there is gone."
        )
    return told


def _of_reads(source: Capabilities, rule: Rule) -> list[str]:
    told = []
    if not source.conditional_get:
        told.append(
            "The source takes no notice of If-Match on reads: an object that is overwritten while "
            "it is read in parts may arrive torn."
        )
    if rule.where_tags and not source.tags:
        told.append("The source has no tags, by which the rule chooses its objects.")
    if rule.parts == "source" and not source.part_sizes:
        told.append(
            "The source does not tell the parts of its objects: `parts: source` cannot be kept."
        )
    return told


def _of_objects(target: Capabilities, rule: Rule) -> list[str]:
    told = []
    if rule.tags and not target.tags:
        told.append("The target has no tags: write `tags: false` into the rule.")
    if target.max_parts <= NO_PARTS:
        told.append(
            "The target does not do multipart uploads as S3 does: large objects end in `invalid`."
        )
    elif target.max_parts < S3_PARTS:
        told.append(
            f"The target takes {target.max_parts:,} parts at most, where S3 takes {S3_PARTS:,}: "
            "very large objects end in `invalid`."
        )
    if not target.resumes:
        told.append(
            "The target does not tell what a cut-short upload has: such a copy begins anew."
        )
    told += [
        f"The target keeps no key that has {word}: such objects end in `invalid`."
        for word in REFUSALS.values()
        if word in target.unrepresentable
    ]
    return told


def _of_versions(target: Capabilities, rule: Rule) -> list[str]:
    told = []
    if rule.versions == "all" and not target.ordered_versions:
        told.append(
            "The target does not list delete markers in their places: those of the source may be "
            "left out, or made once more."
        )
    return told


def _of_listings(site: Capabilities, which: str) -> list[str]:
    told = []
    if not site.ordered:
        told.append(
            f"The {which} does not list its keys in the order of their bytes: `tandem sync` and "
            "`tandem verify` cannot work on it."
        )
    return told
