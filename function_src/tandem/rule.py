"""What replicates where, and how. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tandem.stores.base import SCRATCH

Deletes = Literal["mirror", "keep"]
Ownership = Literal["tandem", "all"]
Parts = Literal["auto", "source"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Say which keys of one source site replicate to which target sites.

    `deletes: mirror` carries deletes over, `keep` never deletes at the target.
    `ownership: tandem` deletes only what Tandem wrote, `all` whatever has the key.
    `parts: source` uploads with the source's part boundaries, so that multipart ETags agree.
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

    def covers(self, key: str) -> bool:
        """Return whether this rule replicates `key`; none replicates what a probe tries out."""
        return (
            key.startswith(self.prefix)
            and key.endswith(self.suffix)
            and not key.startswith(SCRATCH)
        )
