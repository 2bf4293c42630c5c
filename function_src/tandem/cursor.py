"""The file that remembers how far a sync or a reconcile has come."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tandem.rule import Rule
from tandem.settings import Site

# How often, in seconds, the place of what is under way is written down.
INTERVAL = 2.0


class Cursor:
    """Remember after which key the work on one rule and one target goes on.

    It holds for that very rule and those very buckets: under another prefix, say, it would leave
    keys out. `work` names whose place it is, `sites` are the source and the target, and `prefix`
    is how the keys begin that the work is about, if not all of the rule's are.
    """

    def __init__(
        self,
        folder: Path,
        work: str,
        rule: Rule,
        sites: Sequence[Site],
        *,
        thorough: bool,
        prefix: str = "",
    ) -> None:
        # A prefix may hold what no file name does.
        shard = f"-{hashlib.sha256(prefix.encode()).hexdigest()[:16]}" if prefix else ""
        self.path = folder / f"{work}-{rule.name}-{sites[-1].name}{shard}.json"
        # A stack that was taken down and stood up again has other credentials, and may have
        # other objects: what was done for the old one says nothing of the new.
        buckets = json.dumps([asdict(site) for site in sites], sort_keys=True)
        walk = {
            "rule": {**asdict(rule), "targets": None},
            "sites": hashlib.sha256(buckets.encode()).hexdigest(),
            "thorough": thorough,
            "prefix": prefix,
        }
        # As it is when it is read again: a tuple comes back as a list.
        self.walk: dict[str, Any] = json.loads(json.dumps(walk))
        self.after = ""
        self._saved = time.monotonic()

    @property
    def walk_id(self) -> str:
        """Return 16 characters that stand for this rule, these buckets and this way of walking."""
        return hashlib.sha256(json.dumps(self.walk).encode()).hexdigest()[:16]

    def resume(self) -> str:
        """Return the key to start after: the remembered one if it was for the same walk, or ''."""
        try:
            remembered = json.loads(self.path.read_text(encoding="utf-8"))
            if remembered["walk"] == self.walk:
                self.after = str(remembered["after"])
        except (OSError, ValueError, KeyError, TypeError):
            # None there, or not of our making: start from the beginning.
            self.after = ""
        return self.after

    def reach(self, after: str) -> None:
        """Take note of progress, and write it down every few seconds."""
        self.after = after
        if time.monotonic() - self._saved >= INTERVAL:
            self.save()

    def save(self) -> None:
        """Write the place down, all of it or nothing."""
        if not self.after:
            return
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"walk": self.walk, "after": self.after}), encoding="utf-8")
        part.replace(self.path)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Forget the place."""
        self.path.unlink(missing_ok=True)
