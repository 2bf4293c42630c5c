"""What replicates where, and how. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tandem.stores.base import CONFLICTS, SCRATCH

Deletes = Literal["mirror", "keep"]
Ownership = Literal["tandem", "all"]
Parts = Literal["auto", "source"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Say which keys of one source site replicate to which target sites.

    `deletes: mirror` carries deletes over, `keep` never deletes at the target.
    `ownership: tandem` deletes only what Tandem wrote, `all` whatever has the key.
    `parts: source` uploads with the source's part boundaries, so that multipart ETags agree.
    `two_way` replicates back as well, and there is but one target.
    `metadata` and `tags` say whether the user's are carried over; content headers always are.
    `storage_class` is that of copies, the target's default if None.
    `deletes_per_hour` bounds the deletes at each target; those beyond are held back.
    """

    name: str
    source: str
    targets: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    deletes: Deletes = "mirror"
    ownership: Ownership = "tandem"
    parts: Parts = "auto"
    tags: bool = True
    two_way: bool = False
    metadata: bool = True
    storage_class: str | None = None
    deletes_per_hour: int | None = None

    @property
    def directions(self) -> tuple[Rule, ...]:
        """Return this rule, and if it goes both ways the way back under the same name."""
        if not self.two_way:
            return (self,)
        return (self, replace(self, source=self.targets[0], targets=(self.source,)))

    def covers(self, key: str) -> bool:
        """Return whether this rule replicates `key`; no rule does what Tandem keeps for itself."""
        return (
            key.startswith(self.prefix)
            and key.endswith(self.suffix)
            and not key.startswith((SCRATCH, CONFLICTS))
        )
