"""What replicates where, and how. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

from tandem.stores.base import CONFLICTS, SCRATCH

Deletes = Literal["mirror", "keep"]
Ownership = Literal["tandem", "all"]
Parts = Literal["auto", "source"]
Versions = Literal["latest", "all"]

# What Tandem keeps for itself in every bucket.
OWN = (SCRATCH, CONFLICTS)


@dataclass(frozen=True, slots=True)
class Group:
    """Say which keys are indexes: objects by which readers find others, the data beside them.

    `index` is a glob over the whole key, where `*` stands for any characters, `/` too. The group
    of an index is what lies under its own directory, or under the one that is `up` levels above.
    """

    index: str
    up: int = 0

    def prefix(self, key: str) -> str | None:
        """Return with what the keys of the group begin whose index is `key`; None if it is none."""
        if not fnmatchcase(key, self.index):
            return None
        directories = key.split("/")[: -1 - self.up]
        return "".join(f"{name}/" for name in directories)


@dataclass(frozen=True, slots=True)
class Rule:
    """Say which keys of one source site replicate to which target sites.

    `target_prefix` takes the place of `prefix` in the keys at the targets; None keeps them as they
    are.
    `where_tags` leaves alone what does not have all of these tags at the source.
    `deletes: mirror` carries deletes over, `keep` never deletes at the target.
    `ownership: tandem` deletes only what Tandem wrote, `all` whatever has the key.
    `parts: source` uploads with the source's part boundaries, so that multipart ETags agree.
    `versions: all` carries over every version and delete marker, `latest` the newest state alone.
    `two_way` replicates back as well, and there is but one target.
    `metadata` and `tags` say whether the user's are carried over; content headers always are.
    `storage_class` is that of copies, the target's default if None.
    `deletes_per_hour` bounds the deletes at each target; those beyond are held back.
    `groups` says which objects are written only after others of theirs; the first that fits counts.
    """

    name: str
    source: str
    targets: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    target_prefix: str | None = None
    deletes: Deletes = "mirror"
    ownership: Ownership = "tandem"
    parts: Parts = "auto"
    tags: bool = True
    two_way: bool = False
    metadata: bool = True
    storage_class: str | None = None
    deletes_per_hour: int | None = None
    where_tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    versions: Versions = "latest"
    groups: tuple[Group, ...] = ()

    @property
    def directions(self) -> tuple[Rule, ...]:
        """Return this rule, and if it goes both ways the way back under the same name."""
        if not self.two_way:
            return (self,)
        back = replace(self, source=self.targets[0], targets=(self.source,))
        if self.target_prefix is None:
            return (self, back)
        return (self, replace(back, prefix=self.target_prefix, target_prefix=self.prefix))

    @property
    def needs_versions(self) -> bool:
        """Return whether the buckets of all its sites must keep versions."""
        return self.two_way or self.versions == "all"

    @property
    def rewrites(self) -> bool:
        """Return whether keys are others at the targets than at the source."""
        return self.target_prefix not in (None, self.prefix)

    def covers(self, key: str) -> bool:
        """Return whether this rule replicates `key`; no rule does what Tandem keeps for itself.

        Whether it does an object under that key may also depend on the object's tags.
        That holds at both sides. Where keys are rewritten, the suffix lies wholly behind the
        prefix, so that the way back covers the same objects, and something is left of the key.
        """
        if not key.startswith(self.prefix) or key.startswith(OWN):
            return False
        if not self.rewrites:
            return key.endswith(self.suffix)
        there = self.target_key(key)
        behind = key[len(self.prefix) :]
        return "" not in (key, there) and not there.startswith(OWN) and behind.endswith(self.suffix)

    def target_key(self, key: str) -> str:
        """Return what `key`, which begins with the prefix, is called at the targets."""
        if self.target_prefix is None:
            return key
        return self.target_prefix + key[len(self.prefix) :]

    def source_key(self, key: str) -> str | None:
        """Return what `key` of a target is called at the source, None if no copy is called so."""
        prefix = self.prefix if self.target_prefix is None else self.target_prefix
        return self.prefix + key[len(prefix) :] if key.startswith(prefix) else None

    def group(self, key: str) -> str | None:
        """Return with what the keys begin whose index is `key`; None if it is no index."""
        for group in self.groups:
            prefix = group.prefix(key)
            if prefix is not None:
                # Both begin the key, so the longer one begins with the other.
                return max(prefix, self.prefix, key=len)
        return None
